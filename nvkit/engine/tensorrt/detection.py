"""nvkit.DetectObjects on TensorRT with implicit ranges: how the graph of a detector ends.

Three ways lead from the heads' last convolutions to rows of detections:

- "kernels": the engine ends with these convolutions, and nvkit's own kernels (`detector`, detect.cu) do the rest. They
  read the class logits once, where the convolutions wrote them, of an int8 engine in int8.
- "plugin": EfficientNMS_TRT gets every score.
- "body": the function's own operators, where there is neither.

RetinaNet has 31.7 million scores an image. At 4.8 TB/s an H200 needs 7 microseconds to read them in int8 and 26 in
fp32; 1,800 images/s leave 555 for all of an image. EfficientNMS_TRT takes floats in the order [anchor, class], which no
convolution writes: their output is brought to a linear layout, transposed and concatenated, so fp32 is written four
times and read four times, 210 microseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nvkit.engine.tensorrt.detection_heads import find_heads
from nvkit.engine.tensorrt.detection_kernels import EXPORT, Ending, end_with_heads, layers
from nvkit.engine.tensorrt.detection_plugin import EFFICIENT_NMS, every_score
from nvkit.engine.tensorrt.detector import too_large
from nvkit.engine.tensorrt.flavours import Library
from nvkit.engine.tensorrt.onnx_tools import Floats, Links, attribute, inlined, prune
from nvkit.errors import ModelError
from nvkit.quantize.graph import COMPOSITE, consumers

if TYPE_CHECKING:
    import onnx

OPERATOR = "DetectObjects"
#: nvkit's kernels use more shared memory than earlier GPUs have.
KERNELS_COMPUTE_CAPABILITY = (8, 0)


def call_of(model: onnx.ModelProto) -> onnx.NodeProto | None:
    """Return the node that makes the graph's output if it is nvkit.DetectObjects, else None."""
    node = Links(model).made_by(model.graph.output[0].name, OPERATOR)
    return node if node is not None and node.domain == COMPOSITE else None


def chosen_way(library: Library, nms_type: str | None, target: str) -> tuple[str, str]:
    """Return how a detector's graph is to end, and what a person should know of it.

    Args:
        library: TensorRT.
        nms_type: The setting; None lets nvkit choose.
        target: Compute capability to build for.
    """
    notes = []
    if nms_type in ("nmsopt", "nmspva"):
        notes.append(f"nms_type {nms_type} is a plugin of NVIDIA's harness that TensorRT does not have")
    able = tuple(int(part) for part in target.split(".")) >= KERNELS_COMPUTE_CAPABILITY
    way = "plugin" if nms_type == "efficientnms" or not able else "kernels"
    if library.strongly_typed and way == "plugin":
        notes.append(f"{EFFICIENT_NMS} is not for strongly typed networks, which {library.title} builds")
        way = "kernels" if able else "body"
    elif way == "plugin" and EFFICIENT_NMS not in library.plugins():
        notes.append(f"{library.title} has no {EFFICIENT_NMS}")
        way = "body"
    return way, "; ".join(notes)


@dataclass(frozen=True)
class Detached:
    """A call of nvkit.DetectObjects outside of its graph.

    Attributes:
        call: The node.
        functions: The functions of the graph.
        constants: What the call reads of the graph's constants.
        output: The graph's output.
    """

    call: onnx.NodeProto
    functions: tuple[onnx.FunctionProto, ...]
    constants: tuple[onnx.TensorProto, ...]
    output: onnx.ValueInfoProto


def detach(model: onnx.ModelProto, call: onnx.NodeProto) -> Detached:
    """Let a graph end before a call, in place, so that the types of tensors can be changed up to there."""
    from onnx import TensorProto, helper

    constants = [tensor for tensor in model.graph.initializer if tensor.name in call.input]
    output = type(model.graph.output[0]).FromString(model.graph.output[0].SerializeToString())
    kept = type(call).FromString(call.SerializeToString())
    detached = Detached(kept, tuple(model.functions), tuple(constants), output)
    for tensor in constants:
        model.graph.initializer.remove(tensor)
    model.graph.node.remove(call)
    del model.functions[:], model.graph.output[:]
    for name in kept.input[:2]:
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", None, None]))
    return detached


def attach(model: onnx.ModelProto, detached: Detached) -> onnx.ModelProto:
    """Return the graph with the body of the call behind it, in fp32."""
    from onnx import helper

    model.functions.extend(detached.functions)
    model.graph.initializer.extend(detached.constants)
    model.graph.node.append(detached.call)
    del model.graph.output[:]
    model.graph.output.append(detached.output)
    model.opset_import.append(helper.make_opsetid(COMPOSITE, 1))
    return inlined(model)


def end(model: onnx.ModelProto, call: onnx.NodeProto, way: str, *, quantised: bool) -> Ending:
    """End a detector's graph, in place.

    Args:
        model: Graph with the shapes of all tensors, whose output the call makes.
        call: What `call_of` returned.
        way: What `chosen_way` returned.
        quantised: Whether the heads' last convolutions compute in int8.

    Raises:
        ModelError: the anchors are no constant, or not those of the heads.
    """
    logits, deltas, anchors = call.input
    table = Links(model).value(anchors)
    if table is None or table.ndim != 2 or table.shape[1] != 4:
        raise ModelError(f"Input '{anchors}' of {OPERATOR} is no constant [anchors, 4].", EXPORT)
    corners: Floats = table.astype(np.float32)
    heads = find_heads(model, logits, deltas)
    notes = []
    if heads is None:
        notes.append(f"no convolutions of levels were found behind '{logits}' and '{deltas}'")
        way = "plugin" if way == "kernels" else way
    elif (count := heads.shapes * sum(level.positions for level in heads.levels)) != len(corners):
        raise ModelError(f"'{logits}' has {count} anchors, and '{anchors}' {len(corners)}.", EXPORT)
    if way == "kernels" and heads is not None:
        candidates = int(attribute(call, "candidates", 0))  # type: ignore[call-overload]
        if not (why := too_large(len(heads.levels), candidates)):
            return end_with_heads(model, call, heads, corners, quantised=quantised)
        notes.append(why)
        way = "plugin"
    if way == "plugin":
        every_score(model, call, corners)
        notes.append(f"{EFFICIENT_NMS} of all scores")
    else:
        model.CopyFrom(inlined(model))
        notes.append("detections by the function's own operators")
    del model.functions[:]
    prune(model)
    last = heads.outputs() if heads is not None else [logits, deltas]
    return Ending(
        tuple(notes),
        (EFFICIENT_NMS,) if way != "body" else (),
        float_outputs=layers(model, last) if quantised and heads is not None else frozenset(),
        rangeless=_behind(model, last),
    )


def _behind(model: onnx.ModelProto, tensors: list[str]) -> frozenset[str]:
    """Return the tensors that depend on these."""
    readers, found, waiting = consumers(model), set[str](), list(tensors)
    while waiting:
        for node in readers.get(waiting.pop(), []):
            waiting += [name for name in node.output if name not in found]
            found.update(node.output)
    return frozenset(found)
