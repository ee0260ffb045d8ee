"""Build: each scenario's engine, and a self-check of its outputs against the fp32 reference before any run."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from nvkit.benchmarks.base import SampleSet, benchmark
from nvkit.config import RunConfig
from nvkit.engine import backend
from nvkit.engine.base import Network
from nvkit.errors import EngineBuildError
from nvkit.runs import RunFolder, StageResult
from nvkit.stages.calibrate import calibrate
from nvkit.stages.engines import Engine, agreement, build_engine, on_cpu, run_samples
from nvkit.stages.preprocess import preprocess
from nvkit.stages.setup import setup
from nvkit.store import Store
from nvkit.tables import Table

_CHECKED = 32
# Least share of samples with the response of the fp32 reference. It catches a broken engine, which agrees with almost
# none; whether a quantised engine is accurate enough is decided by its accuracy run.
_AGREEMENT = {"fp32": 0.95, "fp16": 0.9, "int8": 0.5, "fp8": 0.5}


class BuildResult(StageResult):
    """The engines.

    Attributes:
        engines: Scenario to its engine; scenarios may share one.
        agreement: Digest of an engine to the share of samples with the fp32 reference's response, None where it
            cannot run here.
        checked: Number of samples of the self-check.
        unchecked: Digest of an engine that cannot run here to the reason and what to do.
    """

    engines: dict[str, Engine]
    agreement: dict[str, float | None]
    checked: int
    unchecked: dict[str, str] = Field(default_factory=dict)

    def usable(self) -> bool:
        """Whether the engines are still there."""
        return all(engine.path.is_dir() for engine in self.engines.values())

    def tables(self) -> list[Any]:
        """Return one row for each engine, then the layers of each."""
        unique = {engine.digest: engine for engine in self.engines.values()}
        rows, layers = [], []
        for digest, engine in unique.items():
            used = ", ".join(name for name, other in self.engines.items() if other.digest == digest)
            check = self._check(digest)
            size, seconds = round(engine.megabytes, 1), round(engine.build_seconds, 2)
            rows.append([digest[:8], used, engine.backend, engine.precision, size, seconds, engine.origin, check])
            layers += [[digest[:8], name, count] for name, count in engine.report.layers.items()]
        headings = ["engine", "scenarios", "backend", "precision", "MB", "build s", "origin", "self-check"]
        notes = [f"{digest[:8]} is not checked. {reason}" for digest, reason in self.unchecked.items()]
        tables = [Table(headings, rows, "Engines", [*notes, *self.notes])]
        facts = [
            [digest[:8], key, _line(value)]
            for digest, engine in unique.items()
            for key, value in engine.report.details.items()
        ]
        if facts:
            tables.append(Table(["engine", "what", "value"], facts, "What the build says"))
        return [*tables, Table(["engine", "layer", "count"], layers, "Layers after optimisation")] if layers else tables

    def _check(self, digest: str) -> str:
        """Say in words how the self-check of an engine went."""
        if digest in self.unchecked:
            return "not checked: cannot run on this machine"
        share = self.agreement.get(digest)
        return "nothing computed" if share is None else f"passed: {share:.0%} of {self.checked} as fp32"


def _line(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {entry}" for key, entry in value.items())
    return (
        "; ".join(map(str, value))
        if isinstance(value, list)
        else f"{value:,}"
        if isinstance(value, int)
        else str(value)
    )


def build(config: RunConfig, run: RunFolder, *, fresh: bool = False) -> BuildResult:
    """Build the engine of every scenario and check its outputs.

    Raises:
        EngineBuildError: an engine cannot be built, or its outputs are not those of the network.
    """
    first, before, ranges = setup(config, run), preprocess(config, run), calibrate(config, run)

    def work() -> BuildResult:
        network = ranges.network(first)
        engines = {name: build_engine(run.store, network, settings) for name, settings in config.scenarios.items()}
        count = min(before.samples.count, _CHECKED)
        shares: dict[str, float | None] = {}
        unchecked: dict[str, str] = {}
        for name, engine in engines.items():
            chosen = backend(engine.backend)
            if engine.digest in shares or chosen.scheme is None:
                continue
            if reason := chosen.cannot_run(config.scenarios[name]):
                shares[engine.digest], unchecked[engine.digest] = None, reason
            else:
                shares[engine.digest] = _self_check(config, before.samples, run.store, network, name, engine, count)
        return BuildResult(engines=engines, agreement=shares, checked=count, unchecked=unchecked, notes=ranges.notes)

    key = {"calibrate": ranges.key}
    if not run.read_only and (known := run.finished(BuildResult, "build", key)) is not None:
        fresh = fresh or (bool(known.unchecked) and not _cannot_run(config))  # it was carried to its machine
    return run.stage(BuildResult, "build", key, work, fresh=fresh)


def _cannot_run(config: RunConfig) -> bool:
    return any(backend(settings.backend).cannot_run(settings) for settings in config.scenarios.values())


def _self_check(
    config: RunConfig,
    samples: SampleSet,
    store: Store,
    network: Network,
    scenario: str,
    engine: Engine,
    count: int,
) -> float:
    """Return the share of samples to which the engine gives the fp32 reference's response."""
    settings, bench = config.scenarios[scenario], benchmark(config.package)
    plain = on_cpu(settings, "fp32")
    reference = build_engine(store, network, plain)
    scale = network.input_scale
    expected = run_samples(reference, plain, samples, count, "self-check, fp32 reference", scale)
    found = run_samples(engine, settings, samples, count, "self-check, engine", scale)
    share = agreement(bench, bench.encode(expected, range(count)), bench.encode(found, range(count)))
    least = _AGREEMENT[engine.precision]
    if share < least:
        raise EngineBuildError(
            f"The {engine.precision} engine {engine.digest[:8]} gives the fp32 reference's response for {share:.0%} "
            f"of {count} samples; at least {least:.0%} are needed.",
            "Check the activation ranges (30_calibrate shows them), or build with --precision fp32.",
        )
    return share
