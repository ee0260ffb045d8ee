"""Engines in the store: built once for everything that they depend on."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nvkit.benchmarks.base import Array, SampleSet
from nvkit.engine import backend
from nvkit.engine.base import BuildReport, Network, infer
from nvkit.progress import tqdm
from nvkit.store import Store, file_digest, write_json

_REPORT = "build.json"
_QUANTISED = ("int8", "fp8")


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
    if settings.precision not in _QUANTISED:  # a float engine does not depend on ranges, and is the same without them
        network = replace(network, ranges=None, quantized=None)
    files = {"model": network.model, "ranges": network.ranges, "quantized": network.quantized}
    key = {
        "network": {name: file_digest(path) for name, path in files.items() if path},
        "output": network.output,
        "backend": chosen.name,
        **chosen.identity(settings),
    }

    def make(folder: Path) -> None:
        started = time.perf_counter()
        report = chosen.build(network, settings, folder)
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


def run_samples(engine: Engine, settings: Any, samples: SampleSet, count: int, what: str) -> Array:
    """Run the first `count` samples through an engine, outside LoadGen; return the outputs, axis 0 the samples."""
    runner = backend(engine.backend).load(engine.path, settings)
    step = runner.max_batch
    parts = []
    try:
        for start in tqdm(range(0, count, step), desc=what, unit="batch"):
            parts.append(infer(runner, samples.load(range(start, min(start + step, count)))))
    finally:
        runner.close()
    return np.concatenate(parts)


def agreement(expected: Array, found: Array) -> float:
    """Return the share of samples (axis 0) with equal responses."""
    return float(np.mean((expected == found).reshape(len(expected), -1).all(axis=1)))
