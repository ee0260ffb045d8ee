"""Activation ranges and int8 networks.

`observe` runs a calibration set and makes `Ranges`; `read_cache`, `match` and `write_cache` exchange them with NVIDIA's
calibration caches; `quantize` makes an explicit Q/DQ network from them. `nvkit.quantize.plots` draws them.
"""

from __future__ import annotations

from nvkit.quantize.calibration_cache import Matched, match, read_cache, write_cache
from nvkit.quantize.qdq import SCHEMES, QdqReport, quantize
from nvkit.quantize.ranges import METHODS, Observation, Ranges, TensorRange, collect, observe

__all__ = [
    "METHODS",
    "SCHEMES",
    "Matched",
    "Observation",
    "QdqReport",
    "Ranges",
    "TensorRange",
    "collect",
    "match",
    "observe",
    "quantize",
    "read_cache",
    "write_cache",
]
