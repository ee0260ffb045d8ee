"""Shared by all tests: a finished small run, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

import nvkit

SMALL = {
    "synthetic_width": 0.125,
    "generated_images": 32,
    "generated_calibration_images": 8,
    "generated_fit_images": 40,
    "min_duration": 300,
    "min_query_count": 64,
    "performance_sample_count": 16,
    "warmup_duration": 0.05,
    "accuracy_check_samples": 16,
}
"""Settings of a reproduction of a few seconds: the same path, a narrow network and few images."""


@pytest.fixture(scope="session")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An outputs folder whose store already holds the small data, model and engines."""
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="session")
def small_run(outputs: Path) -> nvkit.RunFolder:
    """A run of Offline and SingleStream with all stages finished."""
    config = nvkit.configure(scenario="Offline,SingleStream", quick=True, overrides=SMALL)
    run = nvkit.open_run(config, outputs)
    nvkit.stages.report(config, run)
    return run
