"""Runs one of nvkit's own LoadGen tests as `nvkit run` does: in the measured child."""

from __future__ import annotations

import tempfile
from pathlib import Path

from nvkit.benchmarks.base import SampleSet
from nvkit.config import Settings
from nvkit.harness import TestSpec, run_test
from nvkit.results.loadgen_log import DetailLog, read_detail


def performance_test(
    scenario: str, settings: Settings, engine: Path, samples: SampleSet, package: str = "resnet50"
) -> DetailLog:
    """Run a performance test and return its log; the files are not kept.

    Args:
        scenario: LoadGen's name of the scenario.
        settings: Resolved values.
        engine: Folder of the engine.
        samples: Preprocessed samples.
        package: Folder below nvkit/benchmarks/ that encodes responses.

    Raises:
        HarnessError: the child failed.
    """
    with tempfile.TemporaryDirectory(prefix="nvkit-bench-") as folder:
        spec = TestSpec(package, scenario, "performance", settings, engine, samples)
        run_test(spec, Path(folder) / "test")
        return read_detail(Path(folder) / "test")


def server_figure(log: DetailLog) -> tuple[bool, float]:
    """Return whether a Server test is valid, and its completed queries/s."""
    return log.require("result_validity") == "VALID", float(log.require("result_completed_samples_per_sec"))
