"""A small run made by notebooks, sealed and signed, once for all tests; each works on a copy."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from small import SMALL

import nvkit
from nvkit.record.compliance import ComplianceResult, comply
from nvkit.record.compliance_checks import verify_performance
from nvkit.record.keys import keygen
from nvkit.reproduce import reproduce

_VALUES = {**SMALL, "warmup_duration": 0.06}
"""Not those of `small_run`, whose folder other tests change."""


@dataclass(frozen=True)
class Made:
    """A sealed run, the public key of who signed it, and the home folder of its maker."""

    run: Path
    key: Path
    private: Path
    home: Path


@dataclass(frozen=True)
class Complied:
    """A run and its compliance tests."""

    config: nvkit.RunConfig
    run: nvkit.RunFolder
    result: ComplianceResult


def _plant(patch: pytest.MonkeyPatch, home: Path) -> None:
    """Make this machine one whose names are easy to find in a record."""
    patch.setenv("HOME", str(home))
    patch.setenv("LOGNAME", "plantedperson")
    patch.setenv("PLANTED_API_TOKEN", "s3cr3t-planted-value")
    patch.setattr("platform.node", lambda: "plantedhost")


@pytest.fixture(scope="session")
def made(outputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A run of Offline and SingleStream by a person with a home and a key, as `nvkit run` leaves it."""
    home = tmp_path_factory.mktemp("home") / "home" / "plantedperson"
    home.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        _plant(patch, home)
        private, public = keygen()
        names = {
            "profile": "cpu",
            "benchmark": "resnet50",
            "scenario": "Offline,SingleStream",
            "quick": True,
            "round": "v4.1",
        }
        _, run = reproduce(names, _VALUES, str(outputs))
    return Made(run, public, private, home)


@pytest.fixture
def copy(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the record, for a test to change, on the machine that made it."""
    _plant(monkeypatch, made.home)
    return Path(shutil.copytree(made.run, tmp_path / "runs" / made.run.name))


@pytest.fixture(scope="session")
def complied(outputs: Path) -> Iterator[Complied]:
    """A run of Offline and SingleStream with its compliance tests, not sealed.

    Tests of a third of a second differ by more than the tolerance whenever the machine does something else, so each
    score is compared with itself here; test_compliance.py has the comparison.
    """
    # A run folder of its own: compliance tests change it.
    values = {**SMALL, "warmup_duration": 0.07}
    config = nvkit.configure("cpu", scenario="Offline,SingleStream", quick=True, overrides=values)
    run = nvkit.open_run(config, outputs)
    nvkit.stages.report(config, run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "nvkit.record.compliance.verify_performance", lambda test, first, _: verify_performance(test, first, first)
        )
        yield Complied(config, run, comply(config, run))
