"""Settings as the configuration gives them to resnet50, small enough for tests."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


def make_settings(**changes: Any) -> SimpleNamespace:
    values: dict[str, Any] = {
        "data_dir": None,
        "data_seed": 3,
        "generated_images": 40,
        "generated_calibration_images": 8,
        "generated_fit_images": 48,
        "allow_bad_images": 0,
        "model_path": None,
        "download_model": False,
        "synthetic_width": 0.125,
        "input_dtype": "fp32",
        "threads": 2,
    }
    return SimpleNamespace(**{**values, **changes})
