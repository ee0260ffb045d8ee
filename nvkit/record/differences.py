"""In what two runs differ besides their results: everything that could explain a gap."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nvkit.config import Settings
from nvkit.config.settings import not_applicable
from nvkit.record.stored_run import StoredRun

_NAMES = ("profile", "benchmark", "round", "mode", "quick", "implementation", "power")
_MOMENTARY = {
    "ram_available_gib",
    "disk_free_gib",
    "no_gpu_reason",
    "sm_clock_mhz",
    "memory_clock_mhz",
    "performance_state",
    "temperature_c",
}
"""Facts of the moment at which they were read, which differ between any two runs."""
_VERSIONS = ("python", "os", "kernel", "driver", "cuda")
_ABSENT = "not recorded"


@dataclass(frozen=True)
class Difference:
    """One fact that two runs do not share.

    Attributes:
        kind: "parameter", "machine", "version", "artefact" or "code".
        name: What it is of.
        a: Its value in the first run.
        b: The same in the second.
    """

    kind: str
    name: str
    a: Any
    b: Any


def differences(a: StoredRun, b: StoredRun) -> list[Difference]:
    """Return every fact that two runs do not share, parameters first."""
    found = []
    for kind, facts in (
        ("parameter", _parameters),
        ("machine", _machine),
        ("version", _versions),
        ("artefact", _artefacts),
        ("code", _code),
    ):
        left, right = facts(a), facts(b)
        for name in dict.fromkeys([*left, *right]):
            values = left.get(name, _ABSENT), right.get(name, _ABSENT)
            if values[0] != values[1]:
                found.append(Difference(kind, name, _shown(values[0]), _shown(values[1])))
    return found


def compared_facts(a: StoredRun, b: StoredRun) -> int:
    """Return how many facts `differences` compared."""
    kinds = (_parameters, _machine, _versions, _artefacts, _code)
    return sum(len({*facts(a), *facts(b)}) for facts in kinds)


def _parameters(run: StoredRun) -> dict[str, Any]:
    """Return the names, then each scenario's settings that have an effect.

    An expected rate or latency is the one by which LoadGen sized the performance test, whoever said so.
    """
    config = run.config
    found = {name: config.get(name) for name in _NAMES}
    found["scenarios"] = ", ".join(run.scenarios)
    for scenario, settings in run.scenarios.items():
        where = (run.backend, config["benchmark"], scenario, config["implementation"])
        for key, value in settings.items():
            if key in Settings.model_fields and not not_applicable(key, *where):
                found[f"{scenario} {key}"] = value
    for scenario, test in run.measured().items():
        found |= {f"{scenario} {key}": expected.value for key, expected in test.expectations.items()}
    return found


def _machine(run: StoredRun) -> dict[str, Any]:
    state = run.record.get("machine", {})
    facts = {key: value for key, value in run.system.items() if key not in (*_VERSIONS, "packages")}
    found = dict(_flat({**facts, "ram_gib": round(float(run.system.get("ram_gib") or 0))}))
    return found | {f"state: {name}": value for name, value in _flat(state)}


def _versions(run: StoredRun) -> dict[str, Any]:
    found = {name: run.system.get(name) for name in _VERSIONS}
    found |= dict(run.system.get("packages", {}))
    found["LoadGen, as logged"] = next(iter(run.tests.values())).summary.loadgen_version if run.tests else None
    return found


def _artefacts(run: StoredRun) -> dict[str, Any]:
    setup, calibrated = run.stages["setup"], run.stages.get("calibrate", {})
    found: dict[str, Any] = {}
    for name in ("model", "data"):
        found[f"{name} SHA-256"] = (setup.get(name) or {}).get("digest")
    found["ranges"] = calibrated.get("method") or None
    for scenario, engine in (run.stages.get("build", {}).get("engines") or {}).items():
        found[f"{scenario} engine"] = engine.get("digest")
        found[f"{scenario} engine layers"] = engine.get("report", {}).get("layers")
    return found


def _code(run: StoredRun) -> dict[str, Any]:
    code = run.record.get("code", {})
    return {name: code.get(name) for name in ("version", "commit", "changed", "code", "parameters") if name in code}


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key not in _MOMENTARY:
                yield from _flat(inner, f"{path} {key}".strip())
    elif isinstance(value, (list, tuple)) and any(isinstance(inner, Mapping) for inner in value):
        for number, inner in enumerate(value):
            yield from _flat(inner, f"{path} {number}")
    else:
        yield path, value


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text[:12] if len(text) == 64 and all(c in "0123456789abcdef" for c in text) else text
