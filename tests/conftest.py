"""Shared by all tests: a finished small run, made once."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from small import SMALL, SMALL_TEXT

import nvkit


def pytest_configure() -> None:
    """Take interrupts, also where the tests were started in the background, which makes a process ignore them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An outputs folder whose store already holds the small data, model and engines."""
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="session")
def small_run(outputs: Path) -> nvkit.RunFolder:
    """A run of Offline and SingleStream with all stages finished."""
    config = nvkit.configure("cpu", scenario="Offline,SingleStream", quick=True, overrides=SMALL)
    run = nvkit.open_run(config, outputs)
    nvkit.stages.report(config, run)
    return run


@pytest.fixture(scope="session")
def text_run(outputs: Path) -> nvkit.RunFolder:
    """A run of Offline and SingleStream of bert-99, whose samples have different lengths, with all stages finished."""
    config = nvkit.configure("cpu", "bert-99", scenario="Offline,SingleStream", quick=True, overrides=SMALL_TEXT)
    run = nvkit.open_run(config, outputs)
    nvkit.stages.report(config, run)
    return run
