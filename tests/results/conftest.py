"""Real LoadGen tests for the parsers: short, in child processes, each made once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

CHILD = Path(__file__).with_name("loadgen_child.py")
TESTS = {
    "Offline": ("Offline", "PerformanceOnly"),
    "Server": ("Server", "PerformanceOnly"),
    "SingleStream": ("SingleStream", "PerformanceOnly"),
    "MultiStream": ("MultiStream", "PerformanceOnly"),
    "accuracy": ("Offline", "AccuracyOnly"),
    "submission": ("Server", "SubmissionRun"),
    "over limit": ("Server", "PerformanceOnly", "server_target_latency_ns=200000"),
    "few queries": ("SingleStream", "PerformanceOnly", "min_duration_ms=3"),
    "capped": ("Server", "PerformanceOnly", "max_query_count=500"),
    "ran out": ("MultiStream", "PerformanceOnly", "multi_stream_expected_latency_ns=30000000"),
    "small query": ("Offline", "PerformanceOnly", "offline_expected_qps=10"),
}


@pytest.fixture(scope="session")
def loadgen_test(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of a LoadGen test by its name in TESTS."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name.replace(" ", "_"))
            command = [sys.executable, str(CHILD), str(made[name]), *TESTS[name]]
            subprocess.run(command, check=True, timeout=60, cwd=made[name])
        return made[name]

    return folder


@pytest.fixture(scope="session")
def published_logs() -> Path:
    """Return the folder of NVIDIA's published logs: <round>-<system>/<benchmark>/<scenario>."""
    return Path(__file__).parents[1] / "data" / "logs"


@pytest.fixture(scope="session")
def published_csv() -> Path:
    """Return the path of the published results."""
    return Path(__file__).parents[2] / "parameters" / "published_results.csv"
