"""Small helpers for rewriting ONNX graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nvkit.quantize.graph import consumers

if TYPE_CHECKING:
    import onnx

Floats = npt.NDArray[np.float32]


class Links:
    """Who makes and who reads each tensor of a graph, as it was when this was made.

    Attributes:
        producer: Tensor to the node that makes it; inputs and constants have none.
        readers: Tensor to the nodes that read it; none for what nothing reads.
        constants: Name to initialiser.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.producer = {name: node for node in model.graph.node for name in node.output if name}
        self.readers = consumers(model)
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}

    def made_by(self, tensor: str, *operators: str) -> onnx.NodeProto | None:
        """Return the node that makes a tensor if its operator is one of these."""
        node = self.producer.get(tensor)
        return node if node is not None and node.op_type in operators else None

    def value(self, tensor: str) -> npt.NDArray[np.generic] | None:
        """Return the value of a constant, or None if the tensor is not one."""
        from onnx import numpy_helper

        if tensor in self.constants:
            return numpy_helper.to_array(self.constants[tensor])
        node = self.made_by(tensor, "Constant")
        return (
            numpy_helper.to_array(node.attribute[0].t)
            if node is not None and node.attribute[0].name == "value"
            else None
        )

    def through(self, tensor: str, *operators: str) -> str:
        """Follow a tensor back through nodes of these operators, by their first input."""
        while (node := self.made_by(tensor, *operators)) is not None:
            tensor = node.input[0]
        return tensor


def attribute(node: onnx.NodeProto, name: str, default: object = None) -> object:
    """Return the value of a node's attribute, or the default if it has none."""
    from onnx import helper

    return next((helper.get_attribute_value(entry) for entry in node.attribute if entry.name == name), default)


def plugin_node(
    operator: str,
    name: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    fields: Mapping[str, npt.NDArray[np.generic]],
    version: str = "1",
) -> onnx.NodeProto:
    """Return a node that TensorRT's ONNX parser makes a plugin of: the operator is the plugin's name.

    Args:
        operator: Name of the plugin.
        name: Name of the layer.
        inputs: Tensors that it reads.
        outputs: Tensors that it makes.
        fields: Values of its fields; their types tell the plugin what it is given.
        version: Version of the plugin.
    """
    from onnx import helper, numpy_helper

    node = helper.make_node(operator, inputs, outputs, name=name, plugin_version=version, plugin_namespace="")
    for key, value in fields.items():
        node.attribute.append(helper.make_attribute(key, numpy_helper.from_array(np.ascontiguousarray(value), key)))
    return node


def put(model: onnx.ModelProto, name: str, value: npt.NDArray[np.generic]) -> str:
    """Add an initialiser, or replace the one of this name; return its name."""
    from onnx import numpy_helper

    found = next((tensor for tensor in model.graph.initializer if tensor.name == name), None)
    tensor = numpy_helper.from_array(np.ascontiguousarray(value), name)
    if found is None:
        model.graph.initializer.append(tensor)
    else:
        found.CopyFrom(tensor)
    return name


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the network with the bodies of its functions in the place of their calls, for a parser without functions.

    The weights take no part in it: they may be more than a gigabyte.
    """
    import onnx.inliner

    bare = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
    graph = model.graph
    bare.graph.MergeFrom(onnx.GraphProto(name=graph.name, node=graph.node, input=graph.input, output=graph.output))
    weights = {tensor.name for tensor in graph.initializer}
    # As inputs, so that no name inside of a body becomes one of theirs.
    bare.graph.input.extend(onnx.ValueInfoProto(name=name) for name in weights)
    result = onnx.inliner.inline_local_functions(bare)
    inputs = [value for value in result.graph.input if value.name not in weights]
    del result.graph.input[:]
    result.graph.input.extend(inputs)
    result.graph.initializer.extend(graph.initializer)
    return result


def prune(model: onnx.ModelProto) -> None:
    """Drop nodes and constants that no output needs, in whatever order the nodes stand, and sort the others."""
    producer = {name: node for node in model.graph.node for name in node.output if name}
    order: list[onnx.NodeProto] = []
    done: set[int] = set()
    waiting = [(producer[value.name], False) for value in model.graph.output if value.name in producer]
    while waiting:
        node, ready = waiting.pop()
        if id(node) in done:
            continue
        if ready:
            done.add(id(node))
            order.append(node)
            continue
        waiting.append((node, True))
        waiting += [(producer[name], False) for name in node.input if name in producer]
    kept = [type(node).FromString(node.SerializeToString()) for node in order]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    read = {name for node in kept for name in node.input} | {value.name for value in model.graph.output}
    for number in reversed(range(len(model.graph.initializer))):
        if model.graph.initializer[number].name not in read:
            del model.graph.initializer[number]
