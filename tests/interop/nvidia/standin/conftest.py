"""The stand-in checkout, and configurations that run it."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any, Protocol

import pytest

from nvkit.config import RunConfig, resolve

_EXPECTED = {"Offline": "offline_expected_qps", "Server": "server_target_qps"}
FAST = {"min_duration": 50, "min_query_count": 64, "performance_sample_count": 32}


class Configure(Protocol):
    """Resolve a quick run by the stand-in; keyword arguments are settings."""

    def __call__(self, scenario: str = ..., mode: str = ..., benchmark: str = ..., **settings: Any) -> RunConfig: ...


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The closed/NVIDIA folder of a copy of the stand-in, whose python3 is this one."""
    root = tmp_path / "inference_results_v3.0" / "closed"
    shutil.copytree(Path(__file__).parent / "closed", root, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.delenv("STANDIN", raising=False)
    return root / "NVIDIA"


@pytest.fixture
def given(checkout: Path, tmp_path: Path) -> dict[str, Any]:
    """What a user gives: where things are, and a test of a moment."""
    return {"nvidia_code": str(checkout), "nvidia_scratch": str(tmp_path / "scratch"), **FAST}


@pytest.fixture
def configure(given: dict[str, Any]) -> Configure:
    def made(scenario: str = "Offline", mode: str = "both", benchmark: str = "resnet50", **settings: Any) -> RunConfig:
        expected = {key: 1000 for name, key in _EXPECTED.items() if name in scenario}
        return resolve(
            "l4",
            benchmark,
            scenario,
            mode=mode,
            round="v3.0",
            quick=True,
            overrides={**given, **expected, **settings},
            implementation="nvidia-original",
        )

    return made
