"""Calibrate: activation ranges over the calibration set, and the explicit Q/DQ network made from them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import Field

from nvkit.benchmarks.base import Array, SampleSet, benchmark
from nvkit.config import RunConfig
from nvkit.engine import backend
from nvkit.engine.base import Network, Ragged, sample_rows
from nvkit.runs import RunFolder, StageResult
from nvkit.stages.engines import QUANTISED, agreement, build_engine, on_cpu, run_samples
from nvkit.stages.preprocess import PreprocessResult, preprocess
from nvkit.stages.setup import SetupResult, setup
from nvkit.store import Artefact, file_digest, write_json
from nvkit.tables import Table


class CalibrateResult(StageResult):
    """The quantised network.

    Attributes:
        why_not: Why this run needs no calibration; empty if it was done.
        origin: Whether the ranges were made now or reused.
        method: Which ranges the network uses: entropy, max, percentile, cache or, those of the weights, trained.
        ranges: Method to the JSON file of its ranges.
        quantized: The Q/DQ ONNX file.
        quantized_layers: Operator type to number of int8 nodes.
        without_range: Tensors that stay float for want of a range.
        accuracy: Precision to the line of the accuracy script, on the same samples.
        agreement: Share of these samples to which fp32 and int8 give the same response.
        checked: Number of these samples.
    """

    why_not: str = ""
    origin: str = ""
    method: str = ""
    ranges: dict[str, Path] = Field(default_factory=dict)
    quantized: Path | None = None
    quantized_layers: dict[str, int] = Field(default_factory=dict)
    without_range: tuple[str, ...] = ()
    accuracy: dict[str, str] = Field(default_factory=dict)
    agreement: float | None = None
    checked: int = 0

    def usable(self) -> bool:
        """Whether the files are still there."""
        return all(path.is_file() for path in [*self.ranges.values(), *([self.quantized] if self.quantized else [])])

    def network(self, before: SetupResult) -> Network:
        """Return what engines are built from."""
        ranges = self.ranges[self.method] if self.ranges else None
        model = before.model
        return Network(
            model.path,
            ranges,
            self.quantized,
            model.output.name,
            background=model.background,
            input_scale=model.inputs[0].scale,
            variable=model.variable,
        )

    def tables(self) -> list[Any]:
        """Return what was quantised and what it costs."""
        if self.why_not:
            return [Table(["calibration"], [[self.why_not]])]
        layers = ", ".join(f"{count} {name}" for name, count in self.quantized_layers.items())
        facts = [["ranges", f"{self.method}, {self.origin}"], ["int8 layers", layers]]
        if self.without_range:
            facts.append(["tensors left float", ", ".join(self.without_range)])
        scores = [[name, line] for name, line in self.accuracy.items()]
        agree = (
            f"Same response for {self.agreement:.1%} of {self.checked} samples." if self.agreement is not None else ""
        )
        return [
            Table(["what", "which"], facts, "Calibration"),
            Table(["precision", "accuracy"], scores, "Accuracy on the same validation samples", [agree, *self.notes]),
        ]

    def figures(self) -> dict[str, Any]:
        """Return the plot of ranges per layer, methods side by side."""
        if not self.ranges:
            return {}
        from nvkit.quantize.plots import ranges_per_layer
        from nvkit.quantize.ranges import Ranges

        found = {name: Ranges.load(path) for name, path in self.ranges.items()}
        return {"calibration-ranges": ranges_per_layer(found, brand=" · ".join(self.notes))}


def calibrate(config: RunConfig, run: RunFolder, *, fresh: bool = False) -> CalibrateResult:
    """Find the ranges (or read the user's calibration cache, or the weights' own), quantise, compare fp32 with int8.

    Raises:
        RangesError: the user's calibration cache does not fit the network.
    """
    first, before = setup(config, run), preprocess(config, run)
    settings = config.shared
    scheme = backend(settings.backend).scheme

    def work() -> CalibrateResult:
        if settings.precision not in QUANTISED:
            return CalibrateResult(why_not=f"The {settings.precision} engine needs no ranges.", notes=before.notes)
        if scheme is None:
            return CalibrateResult(why_not=f"Backend {settings.backend} computes nothing.", notes=before.notes)
        from nvkit.quantize.qdq import quantize
        from nvkit.quantize.ranges import Ranges

        found = _ranges(config, run, first, before)
        ranges = {path.stem.removeprefix("ranges-"): path for path in sorted(found.path.glob("ranges-*.json"))}
        method = next(iter(ranges)) if len(ranges) == 1 else settings.calibration_method

        def make(folder: Path) -> None:
            report = quantize(first.model.path, Ranges.load(ranges[method]), folder / "qdq.onnx", scheme=scheme)
            write_json(folder / "report.json", {**asdict(report), "path": "qdq.onnx"})

        key = {"model": first.model.digest, "ranges": file_digest(ranges[method]), "scheme": scheme, "version": 1}
        folder = run.store.get_or_make("quantized", key, make).path
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        result = CalibrateResult(
            origin=found.origin(),
            method=method,
            ranges=ranges,
            quantized=folder / "qdq.onnx",
            quantized_layers=report["layers"],
            without_range=report["without_range"],
            notes=before.notes,
        )
        return result.model_copy(update=_compared(config, run, first, before, result))

    return run.stage(CalibrateResult, "calibrate", {"preprocess": before.key}, work, fresh=fresh)


def _ranges(config: RunConfig, run: RunFolder, first: SetupResult, before: PreprocessResult) -> Artefact:
    """Return the artefact that holds ranges-<method>.json, and a calibration cache for each method.

    Ranges that the user gives, or that came with the weights, have a method of their own, the only one.
    """
    from nvkit.quantize.calibration_cache import match, read_cache, write_cache
    from nvkit.quantize.graph import observable, prepare
    from nvkit.quantize.ranges import METHODS, Ranges, observe

    settings, samples = config.shared, before.calibration
    key: dict[str, Any] = {"model": first.model.digest, "percentile": settings.calibration_percentile, "version": 1}
    if settings.calibration_cache is not None:
        cache = read_cache(settings.calibration_cache)

        def take(folder: Path) -> None:
            match(cache, observable(prepare(first.model.path))).ranges.save(folder / "ranges-cache.json")

        return run.store.get_or_make("ranges", {**key, "cache": cache.calibration}, take)

    if (trained := first.model.ranges) is not None:

        def copy(folder: Path) -> None:
            ranges = Ranges.load(trained)
            ranges.save(folder / f"ranges-{ranges.method}.json")

        return run.store.get_or_make("ranges", {**key, "trained": file_digest(trained)}, copy)

    assert samples is not None
    count = min(samples.count, settings.calibration_samples)

    def work(folder: Path) -> None:
        batches = (_sample(samples, i, variable=first.model.variable) for i in range(count))
        seen = observe(first.model.path, batches, total=count, calibration=samples.digest)
        for method in METHODS:
            ranges = seen.ranges(method, settings.calibration_percentile)
            ranges.save(folder / f"ranges-{method}.json")
            write_cache(ranges, folder / f"calibration-{method}.cache")

    return run.store.get_or_make("ranges", {**key, "samples": samples.digest, "count": count}, work)


def _compared(
    config: RunConfig, run: RunFolder, first: SetupResult, before: PreprocessResult, result: CalibrateResult
) -> dict[str, Any]:
    """Run the fp32 and the int8 network on the same validation samples, on the CPU, and score both."""
    bench, settings = benchmark(config.package), config.shared
    data = bench.without(first.data, before.samples.skipped)
    count = min(before.samples.count, settings.accuracy_check_samples)
    network = result.network(first)
    responses: dict[str, Array | Ragged] = {}
    for precision in ("fp32", "int8"):
        wanted = on_cpu(settings, precision)
        engine = build_engine(run.store, network, wanted)
        found = run_samples(engine, wanted, before.samples, count, f"{precision} accuracy", network.input_scale)
        responses[precision] = bench.encode(found, range(count))
    scores = {
        precision: bench.score({i: row.tobytes() for i, row in enumerate(sample_rows(encoded))}, data, part=True).line
        for precision, encoded in responses.items()
    }
    agree = agreement(bench, responses["fp32"], responses["int8"])
    return {"accuracy": scores, "agreement": agree, "checked": count}


def _sample(samples: SampleSet, index: int, *, variable: bool) -> dict[str, Array]:
    """Return one sample, where samples have lengths without its padding: it has no part in the ranges."""
    inputs, lengths = samples.load([index]), samples.lengths_of([index])
    if not variable or lengths is None:
        return inputs
    return {name: array[:, : lengths[0]] for name, array in inputs.items()}
