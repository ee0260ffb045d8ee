"""The range of every tensor, for a TensorRT that takes per-tensor ranges.

Calibration observes what int8 reads: inputs of convolutions, additions and poolings. TensorRT 8.6 leaves int8 on both
sides of a tensor that has no range, so the others get one here, by what makes or reads them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nvkit.engine.tensorrt.onnx_tools import Links
from nvkit.quantize.graph import WEIGHTED

if TYPE_CHECKING:
    import onnx

    from nvkit.quantize.ranges import Ranges

# What only moves, picks or averages values: the output lies in the input's range.
_SHARING = frozenset(
    {
        "Relu", "MaxPool", "AveragePool", "GlobalAveragePool", "ReduceMean", "Flatten", "Reshape", "Squeeze",
        "Unsqueeze", "Transpose", "Identity", "Dropout", "Clip", "Resize",
    }
)  # fmt: skip
_COMBINING = frozenset({"Add", "Sum", "Concat"})
_INTEGER = frozenset({"ArgMax", "Cast", "TopK"})


@dataclass(frozen=True)
class TensorRanges:
    """Ranges by tensor name, as magnitudes.

    Attributes:
        amax: Tensor to the magnitude that int8 represents as its largest.
        origins: How many of them are "observed", "shared" with a neighbour, or a "bound" computed from weights.
    """

    amax: Mapping[str, float]
    origins: Mapping[str, int]


def every_range(model: onnx.ModelProto, observed: Ranges, given: Mapping[str, float]) -> TensorRanges:
    """Return a range for every float tensor that can have one.

    Args:
        model: The graph that is parsed.
        observed: From calibration.
        given: Ranges that win over the observed ones: of inputs that are int8 already.
    """
    links = Links(model)
    amax = {name: entry.amax or 1.0 for name, entry in observed.tensors.items()}
    amax.update(given)
    origin = dict.fromkeys(amax, "observed")
    nodes = [node for node in model.graph.node if node.op_type not in _INTEGER]
    # Backwards first: a layer and the ReLU behind it are one kernel, so the ReLU's range is the pair's.
    for node in reversed(nodes):
        for name in node.output:
            after = [r.output[0] for r in links.readers.get(name, []) if r.op_type in _SHARING and r.output[0] in amax]
            if name not in amax and after:
                amax[name], origin[name] = max(amax[other] for other in after), "shared"
    for node in nodes:
        sources = [amax[name] for name in node.input if name in amax]
        for name in node.output:
            if name in amax or not sources:
                continue
            if node.op_type in _SHARING:
                amax[name], origin[name] = max(sources), "shared"
            elif node.op_type in _COMBINING:
                amax[name], origin[name] = sum(sources), "bound"
            elif node.op_type in WEIGHTED and (bound := _bound(links, node, max(sources))):
                amax[name], origin[name] = bound, "bound"
    here = {name for node in model.graph.node for name in node.output} | {value.name for value in model.graph.input}
    return TensorRanges(
        {name: float(value) for name, value in amax.items() if name in here},
        Counter(origin[name] for name in amax if name in here),
    )


def _bound(links: Links, node: onnx.NodeProto, amax: float) -> float | None:
    """Return what a layer's outputs can reach for inputs of this magnitude."""
    weight = links.value(node.input[1])
    if weight is None:
        return None
    last = weight.ndim - 1 if node.op_type == "MatMul" else 0
    sums = np.abs(np.moveaxis(weight, last, 0).reshape(weight.shape[last], -1)).sum(axis=1).astype(np.float64) * amax
    bias = links.value(node.input[2]) if len(node.input) > 2 else None
    return float((sums + (np.abs(bias).reshape(-1) if bias is not None else 0.0)).max())
