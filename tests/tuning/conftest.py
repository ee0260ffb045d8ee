from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small import SMALL

import nvkit


@pytest.fixture
def null_run(outputs: Path) -> Callable[..., tuple[nvkit.RunConfig, nvkit.RunFolder]]:
    """Make the configuration and a new run folder of the null backend: `null_run(scenario, **settings)`."""

    def make(scenario: str, mode: str = "performance", **values: Any) -> tuple[nvkit.RunConfig, nvkit.RunFolder]:
        settings = {**SMALL, "backend": "null", **values}
        config = nvkit.configure(profile="cpu", scenario=scenario, mode=mode, quick=True, overrides=settings)
        return config, nvkit.open_run(config, outputs, new=True)

    return make
