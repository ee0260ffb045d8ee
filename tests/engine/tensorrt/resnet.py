"""A ResNet-50 of true size with random weights and ranges by hand: made in seconds, without a calibration run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from nvkit.benchmarks.resnet50 import network as architecture
from nvkit.engine.base import Network
from nvkit.quantize import Ranges, TensorRange
from nvkit.quantize.graph import prepare, quantizable
from nvkit.store import file_digest

AMAX = 6.0


def resnet50(folder: Path, width: float = 1.0) -> Network:
    """Write the network and the ranges; every activation has the range `AMAX`."""
    rng = np.random.default_rng(3)
    shape = architecture.topology(width)
    convs = [shape.stem, *(c for b in shape.blocks for c in (*([b.projection] if b.projection else []), *b.convs))]
    parameters = {}
    for conv in convs:
        size = (conv.outputs, conv.inputs, conv.kernel, conv.kernel)
        kernel = rng.standard_normal(size, dtype=np.float32) / np.float32(np.sqrt(np.prod(size[1:])))
        parameters[conv.name] = (kernel, rng.standard_normal(conv.outputs, dtype=np.float32) * np.float32(0.1))
    dense = (rng.standard_normal((shape.features, 1001), dtype=np.float32), np.zeros(1001, np.float32))
    model = folder / "resnet50.onnx"
    onnx.save(architecture.resnet50(parameters, dense, width), str(model))
    tensors = {name: TensorRange(AMAX) for name in quantizable(prepare(model))}
    Ranges(tensors, "max", None, 1, file_digest(model), "").save(folder / "ranges.json")
    return Network(model, folder / "ranges.json", None, "ArgMax:0", background=1)
