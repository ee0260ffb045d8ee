"""Layers of YAML and the user's own values to one frozen configuration in which every value knows its origin."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from nvkit.config.files import (
    SCENARIOS,
    BenchmarkFile,
    Device,
    Loaded,
    ProfileFile,
    RoundFile,
    Scenario,
)
from nvkit.config.files import load as load_file
from nvkit.config.profile import Layer, power_layers, profile_layers
from nvkit.config.settings import Settings, no_effect
from nvkit.errors import ConfigError, nearest
from nvkit.store import digest_of
from nvkit.tables import Table

Mode = Literal["both", "performance", "accuracy", "submission"]
MODES: tuple[Mode, ...] = ("both", "performance", "accuracy", "submission")
_LOADGEN_MODES: dict[str, Mode] = {
    "PerformanceOnly": "performance",
    "AccuracyOnly": "accuracy",
    "SubmissionRun": "submission",
}
Implementation = Literal["nvkit", "nvidia-original"]
IMPLEMENTATIONS: tuple[Implementation, ...] = ("nvkit", "nvidia-original")
Power = Literal["MaxP", "MaxQ", "MaxN"]
POWER_MODES: tuple[Power, ...] = ("MaxP", "MaxQ", "MaxN")
QUICK_NOTE = "quick run, not an official result"


@dataclass(frozen=True)
class Origin:
    """Where a value was set: the layer, the file and line, the key, and the value."""

    layer: str
    where: str
    key: str
    value: Any


@dataclass(frozen=True)
class Rules:
    """What the round asks of the benchmark."""

    metric: str
    reference_accuracy: float
    accuracy_target: float
    dataset_size: int | None
    datacenter: tuple[str, ...]
    edge: tuple[str, ...]


@dataclass(frozen=True)
class RunConfig:
    """Everything that a run depends on, resolved.

    Attributes:
        profile: Name of the GPU profile.
        benchmark: Name of the benchmark.
        package: Folder below nvkit/benchmarks/ that nvkit's own harness uses.
        implementation: "nvkit", or "nvidia-original" for NVIDIA's own code.
        power: MaxP (as the GPU is), MaxQ (least energy) or MaxN (no limit).
        title: Name of the benchmark for people.
        round: MLPerf Inference round whose rules hold.
        mode: LoadGen tests to run.
        quick: Whether the short durations are in force.
        device: The accelerator of the profile.
        rules: Accuracy target and scenarios of the round.
        scenarios: Scenario to its settings.
        official: Scenario to the round's own values, for comparison.
        origins: Scenario to setting to where it was set, the effective origin last.
        unused: Scenario to settings of the files that have no effect on this backend, with the reason.
    """

    profile: str
    benchmark: str
    package: str
    implementation: Implementation
    power: Power
    title: str
    round: str
    mode: Mode
    quick: bool
    device: Device
    rules: Rules
    scenarios: Mapping[str, Settings]
    official: Mapping[str, Mapping[str, Any]]
    origins: Mapping[str, Mapping[str, tuple[Origin, ...]]]
    unused: Mapping[str, Mapping[str, str]]

    @property
    def shared(self) -> Settings:
        """Settings of the first scenario, for what is the same in all (data, model, calibration)."""
        return next(iter(self.scenarios.values()))

    @property
    def digest(self) -> str:
        """Digest of every value (not of where it was set)."""
        values = self.to_json()
        return digest_of({k: v for k, v in values.items() if k not in ("origins", "unused")})

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON-serialisable values."""
        return {
            "profile": self.profile,
            "benchmark": self.benchmark,
            "round": self.round,
            "mode": self.mode,
            "quick": self.quick,
            "implementation": self.implementation,
            "power": self.power,
            "device": self.device.model_dump(mode="json"),
            "rules": asdict(self.rules),
            "scenarios": {s: settings.model_dump(mode="json") for s, settings in self.scenarios.items()},
            "origins": {
                s: {k: [asdict(o) for o in chain] for k, chain in keys.items()} for s, keys in self.origins.items()
            },
            "unused": {s: dict(keys) for s, keys in self.unused.items()},
        }

    def table(self, scenario: str, *, everything: bool = False) -> Table:
        """Return each value of a scenario with where it was set and what it overrode.

        Args:
            scenario: One of `scenarios`.
            everything: Also show the values that no file or flag sets.
        """
        settings, origins = self.scenarios[scenario], self.origins[scenario]
        rows = []
        for key in Settings.model_fields:
            chain = origins.get(key, ())
            reason = no_effect(key, settings, self.benchmark, scenario, self.implementation)
            if reason or not (chain or everything or key == "batch_size"):  # it decides too much to go unsaid
                continue
            value = getattr(settings, key)
            overrode = "; ".join(f"{o.value} ({o.where})" for o in reversed(chain[:-1]))
            last = chain[-1] if chain else Origin("default", "nvkit/config/settings.py", key, value)
            rows.append([key, _shown(value), last.layer, last.where, last.key, overrode])
        return Table(
            ["setting", "value", "layer", "file", "key", "overrode"],
            rows,
            title=f"{self.benchmark} {scenario} on {self.profile}, round {self.round}",
            notes=[f"{key} is set by the files but not used: {why}." for key, why in self.unused[scenario].items()],
        )


def resolve(
    profile: str = "cpu",
    benchmark: str = "resnet50",
    scenario: str = "all",
    *,
    mode: str = "both",
    round: str = "v4.1",
    quick: bool = False,
    overrides: Mapping[str, Any] | None = None,
    implementation: str = "nvkit",
    power: str = "MaxP",
    parameters: Path | None = None,
) -> RunConfig:
    """Resolve names and the user's own values to a RunConfig.

    Layers, later ones win: the profile's device, benchmark, round, profile; then the scenario sections of the last
    three in the same order; then the power mode's; then the quick values of the benchmark; then `overrides`. A profile
    is itself layered:
    what it is based on (a memory class), NVIDIA's own values for this GPU in the round or the nearest one, its own.

    Args:
        profile: Name of a file in parameters/gpus/.
        benchmark: Name of a file in parameters/benchmarks/.
        scenario: A scenario, several separated by commas, or "all" that the round has for the benchmark.
        mode: One of MODES, or LoadGen's name of one.
        round: Name of a file in parameters/rounds/.
        quick: Short durations; brands every output as not official.
        overrides: Setting to value, e.g. from flags.
        implementation: One of IMPLEMENTATIONS.
        power: One of POWER_MODES.
        parameters: The folder, if not the clone's own.

    Raises:
        ConfigError: an unknown name or key (the nearest is named), or a value of the wrong type or range.
    """
    bench, bench_yaml = load_file(BenchmarkFile, benchmark, parameters)
    rules, rules_yaml = load_file(RoundFile, round, parameters)
    gpu, gpu_yaml = load_file(ProfileFile, profile, parameters)
    mode = _LOADGEN_MODES.get(mode, mode)
    if mode not in MODES:
        raise ConfigError(f"There is no mode '{mode}'.", nearest(mode, [*MODES, *_LOADGEN_MODES]))
    if implementation not in IMPLEMENTATIONS:
        raise ConfigError(f"There is no implementation '{implementation}'.", nearest(implementation, IMPLEMENTATIONS))
    if power not in POWER_MODES:
        raise ConfigError(f"There is no power mode '{power}'.", nearest(power, POWER_MODES))
    if benchmark not in rules.benchmarks:
        raise ConfigError(f"Round {round} has no benchmark {benchmark}.", nearest(benchmark, rules.benchmarks))
    rule = rules.benchmarks[benchmark]
    sections: list[Layer] = [
        ("benchmark", bench_yaml, (), bench),
        ("round", rules_yaml, (), rules),
        ("round", rules_yaml, ("benchmarks", benchmark), rule),
        *profile_layers(profile, benchmark, round, parameters),
    ]
    limited = "power_limit" in (overrides or {})
    powered = list(power_layers(profile, benchmark, round, power, parameters, limited=limited))
    user = dict(overrides or {})
    for key in user:
        if key not in Settings.model_fields:
            raise ConfigError(f"There is no setting '{key}'.", nearest(key, Settings.model_fields))

    wanted = _scenarios(scenario, rule.allowed, benchmark, round)
    resolved: dict[str, Settings] = {}
    official: dict[str, dict[str, Any]] = {}
    origins: dict[str, dict[str, tuple[Origin, ...]]] = {}
    unused: dict[str, dict[str, str]] = {}
    for name in wanted:
        chain: dict[str, list[Origin]] = {}
        layers = [*_device(gpu, gpu_yaml), *_layers(sections, name), *_layers(powered, name)]
        if quick:
            layers += list(_layers([("quick", bench_yaml, ("quick",), bench.quick)], name))
        for origin in layers:
            chain.setdefault(origin.key.rsplit(".", 1)[-1], []).append(origin)
        official[name] = {k: c.value for k, v in chain.items() for c in v if c.layer.startswith("round")}
        for key, value in user.items():
            chain.setdefault(key, []).append(Origin("user", "flag or notebook parameter", key, value))
        resolved[name] = _validated(chain)
        origins[name] = {key: tuple(found) for key, found in chain.items()}
        unused[name] = {}
        for key, found in chain.items():
            why = no_effect(key, resolved[name], benchmark, name, implementation)
            if why and not found[-1].layer.startswith(("device", "round", "quick", "user")):
                unused[name][key] = why
    _refuse_useless(user, resolved, benchmark, implementation)
    return RunConfig(
        profile=profile,
        benchmark=benchmark,
        package=bench.package,
        implementation=implementation,
        power=power,
        title=bench.title,
        round=round,
        mode=mode,
        quick=quick,
        device=gpu.device,
        rules=Rules(
            rule.metric,
            rule.reference_accuracy,
            rule.accuracy_target,
            rule.dataset_size,
            tuple(rule.datacenter),
            tuple(rule.edge),
        ),
        scenarios=resolved,
        official=official,
        origins=origins,
        unused=unused,
    )


def _scenarios(text: str, allowed: tuple[Scenario, ...], benchmark: str, round: str) -> tuple[Scenario, ...]:
    if text == "all":
        return allowed
    chosen = [part.strip() for part in text.split(",") if part.strip()]
    for name in chosen:
        if name not in SCENARIOS:
            raise ConfigError(f"There is no scenario '{name}'.", nearest(name, [*SCENARIOS, "all"]))
        if name not in allowed:
            raise ConfigError(
                f"Round {round} has no {name} for {benchmark}; it has {', '.join(allowed)}.",
                "Choose one of these, or another round with --round (`nvkit list rounds` shows them).",
            )
    if not chosen:
        raise ConfigError("No scenario was given.", f"Choose among {', '.join(allowed)} or all.")
    return tuple(s for s in allowed if s in chosen)


def _device(gpu: ProfileFile, source: Loaded) -> Iterator[Origin]:
    """Yield what the profile's device itself sets: the compute capability that engines are built for."""
    if gpu.device.compute_capability is not None:
        where = ("device", "compute_capability")
        yield Origin("device", source.where(where), ".".join(where), gpu.device.compute_capability)


def _layers(sections: list[Layer], scenario: str) -> Iterator[Origin]:
    for suffix in (("defaults",), ("scenarios", scenario)):
        for layer, source, path, section in sections:
            values = section.defaults if suffix == ("defaults",) else section.scenarios.get(scenario, {})  # type: ignore[call-overload]
            for key, value in values.items():
                where = (*path, *suffix, key)
                if key not in Settings.model_fields:
                    raise ConfigError(
                        f"{source.where(where)}: unknown setting '{key}'.",
                        nearest(key, Settings.model_fields),
                    )
                label = layer if suffix == ("defaults",) else f"{layer}, scenario"
                yield Origin(label, source.where(where), ".".join(where), value)


def _validated(chain: Mapping[str, list[Origin]]) -> Settings:
    try:
        return Settings.model_validate({key: found[-1].value for key, found in chain.items()})
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        origin = chain[key][-1]
        raise ConfigError(
            f"{origin.where}: {key} = {origin.value!r}: {first['msg']}.",
            f"{key}: {Settings.model_fields[key].description}.",
        ) from None


def _refuse_useless(
    user: Mapping[str, Any], resolved: Mapping[str, Settings], benchmark: str, implementation: str
) -> None:
    """Refuse a value of the user's that no chosen scenario would use: nothing is silently ignored."""
    for key in user:
        reasons = [no_effect(key, settings, benchmark, name, implementation) for name, settings in resolved.items()]
        if all(reasons):
            raise ConfigError(f"{key} has no effect here: {reasons[0]}.", "Leave it out, or choose what it belongs to.")


def _shown(value: Any) -> str:
    return "" if value is None else json.dumps(value) if isinstance(value, bool) else str(value)
