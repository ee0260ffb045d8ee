"""Build: each scenario's engine, and a self-check of its outputs against the fp32 reference before any run."""

from __future__ import annotations

from typing import Any

from nvkit.benchmarks.base import SampleSet, benchmark
from nvkit.config import RunConfig
from nvkit.engine import backend
from nvkit.engine.base import Network
from nvkit.errors import EngineBuildError
from nvkit.runs import RunFolder, StageResult
from nvkit.stages.calibrate import calibrate
from nvkit.stages.engines import Engine, agreement, build_engine, run_samples
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
        agreement: Digest of an engine to the share of samples with the fp32 reference's response.
        checked: Number of samples of the self-check.
    """

    engines: dict[str, Engine]
    agreement: dict[str, float]
    checked: int

    def usable(self) -> bool:
        """Whether the engines are still there."""
        return all(engine.path.is_dir() for engine in self.engines.values())

    def tables(self) -> list[Any]:
        """Return one row for each engine, then the layers of each."""
        unique = {engine.digest: engine for engine in self.engines.values()}
        rows, layers = [], []
        for digest, engine in unique.items():
            used = ", ".join(name for name, other in self.engines.items() if other.digest == digest)
            agreement = self.agreement.get(digest)
            check = (
                f"passed: {agreement:.0%} of {self.checked} as fp32" if agreement is not None else "nothing computed"
            )
            size, seconds = round(engine.megabytes, 1), round(engine.build_seconds, 2)
            rows.append([digest[:8], used, engine.backend, engine.precision, size, seconds, engine.origin, check])
            layers += [[digest[:8], name, count] for name, count in engine.report.layers.items()]
        headings = ["engine", "scenarios", "backend", "precision", "MB", "build s", "origin", "self-check"]
        tables = [Table(headings, rows, "Engines", self.notes)]
        return [*tables, Table(["engine", "layer", "count"], layers, "Layers after optimisation")] if layers else tables


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
        shares: dict[str, float] = {}
        for name, engine in engines.items():
            if engine.digest not in shares and backend(engine.backend).scheme is not None:
                shares[engine.digest] = _self_check(config, before.samples, run.store, network, name, engine, count)
        return BuildResult(engines=engines, agreement=shares, checked=count, notes=ranges.notes)

    return run.stage(BuildResult, "build", {"calibrate": ranges.key}, work, fresh=fresh)


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
    plain = settings.model_copy(update={"backend": "onnxruntime", "precision": "fp32", "batch_size": 8})
    reference = build_engine(store, network, plain)
    expected = bench.encode(run_samples(reference, plain, samples, count, "self-check, fp32 reference"))
    found = bench.encode(run_samples(engine, settings, samples, count, "self-check, engine"))
    share = agreement(expected, found)
    least = _AGREEMENT[engine.precision]
    if share < least:
        raise EngineBuildError(
            f"The {engine.precision} engine {engine.digest[:8]} gives the fp32 reference's response for {share:.0%} "
            f"of {count} samples; at least {least:.0%} are needed.",
            "Check the activation ranges (30_calibrate shows them), or build with --precision fp32.",
        )
    return share
