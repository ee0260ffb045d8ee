"""The types of a strongly typed network: fp16 by conversion, fp8 by other Q/DQ, and the type of the input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nvkit.engine.tensorrt.onnx_tools import Links, put
from nvkit.errors import ModelError

if TYPE_CHECKING:
    import onnx

_LARGEST_HALF = 65504.0
_FP8_STEPS = 448.0 / 127.0  # largest float8e4m3fn over largest int8
# Inputs that ONNX wants in fp32 whatever the type of the data.
_FLOAT_INPUTS = {"Resize": (1, 2), "Upsample": (1,)}


def to_half(model: onnx.ModelProto) -> None:
    """Compute in fp16 from the first node to the last, in place; the graph's inputs and float outputs keep their type.

    Weights beyond what fp16 holds become its largest value.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    kept = {
        node.input[position]
        for node in graph.node
        for position in _FLOAT_INPUTS.get(node.op_type, ())
        if position < len(node.input)
    }
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in kept:
            tensor.CopyFrom(numpy_helper.from_array(_half(numpy_helper.to_array(tensor)), tensor.name))
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name in ("value_float", "value_floats"):
            node.attribute[0].CopyFrom(_tensor_attribute(helper.get_attribute_value(node.attribute[0])))
        for entry in node.attribute:
            if node.op_type == "Cast" and entry.name == "to" and entry.i == TensorProto.FLOAT:
                entry.i = TensorProto.FLOAT16
            elif entry.name == "value" and entry.t.data_type == TensorProto.FLOAT and node.output[0] not in kept:
                entry.t.CopyFrom(numpy_helper.from_array(_half(numpy_helper.to_array(entry.t)), entry.t.name))
    for value in graph.input:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            half = f"{value.name}/half"
            _read_instead(graph.node, value.name, half)
            graph.node.insert(0, helper.make_node("Cast", [value.name], [half], name=half, to=TensorProto.FLOAT16))
    for value in graph.output:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            half = f"{value.name}/half"
            for node in graph.node:
                node.output[:] = [half if name == value.name else name for name in node.output]
            _read_instead(graph.node, value.name, half)
            graph.node.append(helper.make_node("Cast", [half], [value.name], name=half, to=TensorProto.FLOAT))
    del graph.value_info[:]


def to_fp8(model: onnx.ModelProto) -> None:
    """Make float8e4m3fn of every int8 in Q/DQ, in place: 448 is the largest value instead of 127.

    The graph keeps its operator set, for which ONNX has no fp8 yet: TensorRT's parser goes by the type of the zero
    point, and a later operator set would change the meaning of other nodes.
    """
    from onnx import TensorProto, helper

    graph, links = model.graph, Links(model)
    pairs = {
        (node.input[1], node.input[2]) for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")
    }
    for scale in sorted({scale for scale, _ in pairs}):
        put(model, scale, np.asarray(links.value(scale)) / np.float32(_FP8_STEPS))
    for zero in sorted({zero for _, zero in pairs}):
        points = np.asarray(links.value(zero))
        if points.dtype != np.int8 or points.any():
            raise ModelError(f"'{zero}' is not the zero point of symmetric int8.", "Run the calibrate stage again.")
        tensor = helper.make_tensor(zero, TensorProto.FLOAT8E4M3FN, points.shape, np.zeros(points.size))
        links.constants[zero].CopyFrom(tensor)
    del graph.value_info[:]


def set_input_type(model: onnx.ModelProto, name: str, dtype: str, scale: float) -> None:
    """Let a float input be fp16, or int8 whose steps are `scale`, in place.

    An int8 input takes the place of the input's own quantisation, which the preprocessing has done already.
    """
    from onnx import TensorProto, helper

    graph = model.graph
    value = next(entry for entry in graph.input if entry.name == name)
    if value.type.tensor_type.elem_type != TensorProto.FLOAT or dtype == "fp32":
        return
    floats = f"{name}/float"
    if dtype == "fp16":
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
        for cast in [node for node in graph.node if node.op_type == "Cast" and node.input[0] == name]:
            _read_instead(graph.node, cast.output[0], name)  # what `to_half` put here
            graph.node.remove(cast)
            return
        _read_instead(graph.node, name, floats)
        graph.node.insert(0, helper.make_node("Cast", [name], [floats], name=floats, to=TensorProto.FLOAT))
        return
    value.type.tensor_type.elem_type = TensorProto.INT8
    links = Links(model)
    for quantise in [node for node in links.readers.get(name, []) if node.op_type == "QuantizeLinear"]:
        for dequantise in links.readers[quantise.output[0]]:
            _read_instead(graph.node, dequantise.output[0], floats)
            graph.node.remove(dequantise)
        graph.node.remove(quantise)
    _read_instead(graph.node, name, floats)
    step = put(model, f"{name}/scale", np.array(scale, np.float32))
    zero = put(model, f"{name}/zero", np.array(0, np.int8))
    graph.node.insert(0, helper.make_node("DequantizeLinear", [name, step, zero], [floats], name=floats))


def _tensor_attribute(value: object) -> onnx.AttributeProto:
    """Return the attribute of a constant node whose float or floats are to change type."""
    from onnx import helper, numpy_helper

    return helper.make_attribute("value", numpy_helper.from_array(np.asarray(value, np.float32)))


def _half(
    value: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float16]]:
    return np.clip(value, -_LARGEST_HALF, _LARGEST_HALF).astype(np.float16)


def _read_instead(nodes: object, old: str, new: str) -> None:
    for node in nodes:  # type: ignore[attr-defined]
        node.input[:] = [new if name == old else name for name in node.input]
