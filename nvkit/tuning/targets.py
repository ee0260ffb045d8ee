"""How fast a scenario is expected to be, and who says so."""

from __future__ import annotations

from dataclasses import dataclass

from nvkit.config import RunConfig, Settings
from nvkit.harness.settings import EXPECTATIONS
from nvkit.store import Store
from nvkit.tuning.machine import target_key
from nvkit.tuning.measured import load

FROM_WARM_UP = "found in the warm-up"


@dataclass(frozen=True)
class Target:
    """The expected rate or latency of a scenario.

    Attributes:
        setting: Its setting, e.g. "server_target_qps".
        value: In the setting's unit; None if only the warm-up will tell.
        origin: Who says so, for people.
    """

    setting: str
    value: float | None
    origin: str

    def put_into(self, settings: Settings) -> Settings:
        """Return the settings with this value."""
        return settings.model_copy(update={self.setting: self.value})


def target_for(config: RunConfig, scenario: str, store: Store, engine: str, samples: str) -> Target:
    """Return the target of a scenario: the user's; else measured here before; else a file's; else the warm-up's.

    Args:
        config: The configuration.
        scenario: One of its scenarios.
        store: Where measured values are kept.
        engine: Digest of the engine.
        samples: Digest of the preprocessed samples.
    """
    settings = config.scenarios[scenario]
    (key,) = EXPECTATIONS[scenario]
    value: float | None = getattr(settings, key)
    chain = config.origins[scenario].get(key, ())
    origin = chain[-1] if chain else None
    if origin and origin.layer == "user":
        return Target(key, value, f"{origin.layer}: {origin.where}")
    measured = load(store, target_key(config, scenario, engine, samples))
    if measured and measured.serves(settings.min_duration):
        return Target(key, _typed(key, measured.value), measured.origin)
    if origin and value is not None:
        return Target(key, value, f"{origin.layer}: {origin.where}")
    return Target(key, None, FROM_WARM_UP)


def _typed(key: str, value: float) -> float:
    """Return a whole number for what LoadGen counts in nanoseconds."""
    return round(value) if key.endswith("_ns") else value
