"""Backends "tensorrt" and "tensorrt-rtx": engines for NVIDIA GPUs.

`flavours` finds out which TensorRT is here and what it can do, `prepare` makes the ONNX graph that is parsed, `network`
and `build` make the engine, `runner` and `cuda` run it. Every module imports without TensorRT.
"""

from __future__ import annotations
