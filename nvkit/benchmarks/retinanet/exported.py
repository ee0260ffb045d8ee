"""Parameters of RetinaNet from an ONNX file that PyTorch exported.

Kernels bear the names of the module's parameters, e.g. `backbone.body.conv1.weight`. Frozen batch normalisation
became a multiplication and an addition behind the convolution, by constants that have no names or are themselves
computed from constants; they are found by following the graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from nvkit.benchmarks.convolutions import Floats, Parameters
from nvkit.quantize.graph import consumers, load_model

_KERNEL = ".weight"


def read_exported(path: Path) -> Parameters:
    """Return kernel and bias, batch normalisation folded, of every convolution whose kernel has a name.

    Raises:
        ModelError: the file is missing, cut short or no ONNX.
    """
    model = load_model(path)
    constants, readers = _Constants(model), consumers(model)
    found: Parameters = {}
    for node in model.graph.node:
        if node.op_type != "Conv" or not node.input[1].endswith(_KERNEL):
            continue
        name = node.input[1].removesuffix(_KERNEL)
        kernel = constants.value(node.input[1])
        if name in found or kernel is None:
            continue
        bias = constants.value(node.input[2]) if len(node.input) > 2 else None
        scale, shift = np.ones(len(kernel)), np.zeros(len(kernel)) if bias is None else bias.astype(np.float64)
        for operator, other in _behind(node.output[0], readers, constants):
            if other.size not in (1, len(kernel)):
                break
            values = other.astype(np.float64).reshape(-1)
            if operator == "Add":
                shift = shift + values
            else:
                scale, shift = scale * values, shift * values
        folded = kernel * scale.reshape(-1, 1, 1, 1)
        found[name] = (folded.astype(np.float32), np.broadcast_to(shift, len(kernel)).astype(np.float32))
    return found


def _behind(
    tensor: str, readers: dict[str, list[onnx.NodeProto]], constants: _Constants
) -> Iterator[tuple[str, npt.NDArray[np.generic]]]:
    """Yield the multiplications and additions of constants that follow one another behind a tensor."""
    while len(readers[tensor]) == 1 and readers[tensor][0].op_type in ("Mul", "Add"):
        node = readers[tensor][0]
        others = [name for name in node.input if name != tensor]
        value = constants.value(others[0]) if len(others) == 1 else None
        if value is None:
            return
        yield node.op_type, value
        tensor = node.output[0]


class _Constants:
    """The tensors of a network that do not depend on its input."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._opsets = model.opset_import
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self._makers = {name: node for node in model.graph.node for name in node.output}

    def value(self, name: str) -> Floats | None:
        """Return the value of a constant, computing it if it is made of constants; None if it depends on the input."""
        if name in self._weights:
            return np.asarray(numpy_helper.to_array(self._weights[name]))
        nodes: dict[str, onnx.NodeProto] = {}
        if not self._collect(name, nodes):
            return None
        used = {source for node in nodes.values() for source in node.input if source in self._weights}
        graph = helper.make_graph(
            list(nodes.values()),
            "constant",
            [],
            [helper.make_empty_tensor_value_info(name)],
            [self._weights[source] for source in used],
        )
        from onnx.reference import ReferenceEvaluator

        (result,) = ReferenceEvaluator(helper.make_model(graph, opset_imports=self._opsets)).run(None, {})
        return np.asarray(result)

    def _collect(self, name: str, nodes: dict[str, onnx.NodeProto]) -> bool:
        """Put the nodes that make a tensor into `nodes`, in order; return whether they need no input."""
        if not name or name in self._weights or name in nodes:
            return True
        node = self._makers.get(name)
        if node is None or not all(self._collect(source, nodes) for source in node.input):
            return False
        nodes.update(dict.fromkeys(node.output, node))
        return True
