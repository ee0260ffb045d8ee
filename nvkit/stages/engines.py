"""Engines in the store: built once for everything that they depend on."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nvkit.benchmarks.base import Array, Benchmark, SampleSet
from nvkit.engine import backend
from nvkit.engine.base import BuildReport, Network, Ragged, infer, joined
from nvkit.progress import tqdm
from nvkit.store import Store, file_digest, write_json

_REPORT = "build.json"
_CACHE = "timing_cache"
#: Precisions that need activation ranges.
QUANTISED = ("int8", "fp8")


@dataclass(frozen=True)
class Engine:
    """An engine on disk.

    Attributes:
        path: Its folder in the store.
        backend: What built and runs it.
        precision: As configured.
        digest: Digest of all that it depends on.
        origin: "made now", or "reused" with its age.
        build_seconds: How long the build took.
        megabytes: Size on disk.
        report: What the build said.
    """

    path: Path
    backend: str
    precision: str
    digest: str
    origin: str
    build_seconds: float
    megabytes: float
    report: BuildReport


def build_engine(store: Store, network: Network, settings: Any) -> Engine:
    """Return the engine of this network and these settings, building it if it is not in the store.

    Raises:
        EngineBuildError, ModelError: it cannot be built.
    """
    chosen = backend(settings.backend)
    if settings.precision not in QUANTISED:  # a float engine does not depend on ranges, and is the same without them
        network = replace(network, ranges=None, quantized=None)
    files = {"model": network.model, "ranges": network.ranges, "quantized": network.quantized}
    key = {
        "network": {name: file_digest(path) for name, path in files.items() if path},
        "output": network.output,
        "background": network.background,
        "input scale": network.input_scale,
        **({"variable": True} if network.variable else {}),
        "backend": chosen.name,
        **chosen.identity(settings),
    }

    def make(folder: Path) -> None:
        started = time.perf_counter()
        report = chosen.build(network, settings, folder, store.root / _CACHE)
        write_json(folder / _REPORT, {"seconds": time.perf_counter() - started, "report": asdict(report)})

    artefact = store.get_or_make("engines", key, make)
    said = json.loads((artefact.path / _REPORT).read_text(encoding="utf-8"))
    size = sum(path.stat().st_size for path in artefact.path.iterdir())
    return Engine(
        artefact.path,
        chosen.name,
        settings.precision,
        artefact.digest,
        artefact.origin(),
        said["seconds"],
        size / 1e6,
        BuildReport(**said["report"]),
    )


def on_cpu(settings: Any, precision: str) -> Any:
    """Return the settings with which ONNX Runtime runs the same network as a reference."""
    return settings.model_copy(
        update={"backend": "onnxruntime", "precision": precision, "batch_size": 8, "input_dtype": "fp32"}
    )


def run_samples(
    engine: Engine, settings: Any, samples: SampleSet, count: int, what: str, input_scale: float = 1.0
) -> Array | Ragged:
    """Run samples through an engine, outside LoadGen.

    Args:
        engine: The engine.
        settings: What it is loaded with; samples of integers are made floats where its input is fp32.
        samples: Preprocessed samples, of which the first `count` are run.
        count: How many.
        what: Title of the progress bar.
        input_scale: What one step of integer samples stands for.

    Returns:
        The outputs in the order of the samples, as of `Runner.wait`.
    """
    runner = backend(engine.backend).load(engine.path, settings)
    step = runner.max_batch
    parts = []
    try:
        for start in tqdm(range(0, count, step), desc=what, unit="batch"):
            wanted = range(start, min(start + step, count))
            inputs = samples.load(wanted)
            if settings.input_dtype == "fp32":
                inputs = {name: _floats(array, input_scale) for name, array in inputs.items()}
            parts.append(infer(runner, inputs, samples.lengths_of(wanted)))
    finally:
        runner.close()
    return joined(parts)


def _floats(array: Array, scale: float) -> Array:
    return array.astype(np.float32) * np.float32(scale) if array.dtype == np.int8 else array


def agreement(bench: Benchmark, expected: Array | Ragged, found: Array | Ragged) -> float:
    """Return the share of samples whose encoded responses say the same."""
    return float(np.mean(bench.agree(expected, found)))
