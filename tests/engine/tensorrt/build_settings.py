"""What the build side of TensorRT reads of the settings."""

from __future__ import annotations

from typing import Any

from nvkit.config.settings import Settings


def settings(**changes: Any) -> Settings:
    """Return settings of a batch of 8 for compute capability 8.9 unless changed."""
    return Settings(**{"backend": "tensorrt-rtx", "batch_size": 8, "compute_capability": "8.9", **changes})
