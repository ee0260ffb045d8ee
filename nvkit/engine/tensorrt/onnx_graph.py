"""The end of the graph as NVIDIA builds it: the class is found on the device, and 4 bytes a sample come back.

Softmax is dropped, because it does not change which class is largest; so are the leading classes that no response
names (ImageNet's background). What is left out is given back as an offset that the runner adds, so that an output means
what the network's own output means.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nvkit.engine.tensorrt.onnx_tools import Links, attribute, prune, put

if TYPE_CHECKING:
    import onnx

#: Name of the layer that `convolutional_tail` makes the scores with.
CLASSES = "nvkit/classes"

_MONOTONE = ("Softmax", "LogSoftmax", "Identity", "Dropout")


@dataclass(frozen=True)
class Tail:
    """What became of the end of the graph.

    Attributes:
        logits: Tensor of class scores, or None where the output is not an ArgMax.
        offset: What must be added to each output value.
        notes: What was changed, for people.
    """

    logits: str | None
    offset: int
    notes: tuple[str, ...]


def classes_on_device(model: onnx.ModelProto, output: str, background: int) -> Tail:
    """Make the class number an int32 output of the graph, in place.

    Args:
        model: Graph whose only output is `output`.
        output: Name of that output; if it is no ArgMax over classes, the graph stays as it is.
        background: Leading classes that no response names.
    """
    from onnx import TensorProto, helper

    links = Links(model)
    offset, tensor = _offset(links, output)
    argmax = links.made_by(tensor, "ArgMax")
    if argmax is None:
        return Tail(None, 0, (f"output {output} is not a class number and is left as it is",))
    axis, keep = attribute(argmax, "axis", 0), attribute(argmax, "keepdims", 1)
    logits = links.through(argmax.input[0], *_MONOTONE)
    notes = ["class found on the device, 4 bytes a sample"]
    if logits != argmax.input[0]:
        notes.append("softmax left out")
    if background and _drop_classes(model, links, logits, background):
        notes.append(f"{background} background class left out")
        offset += background
    for node in list(model.graph.node):
        if output in node.output:
            model.graph.node.remove(node)
    model.graph.node.append(
        helper.make_node("ArgMax", [logits], ["nvkit/class"], name="nvkit/class", axis=axis, keepdims=keep)
    )
    model.graph.node.append(
        helper.make_node("Cast", ["nvkit/class"], [output], name="nvkit/response", to=TensorProto.INT32)
    )
    shape: list[str | int | None] = ["batch", 1] if keep else ["batch"]
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info(output, TensorProto.INT32, shape))
    prune(model)
    return Tail(logits, offset, tuple(notes))


def _offset(links: Links, output: str) -> tuple[int, str]:
    """Return what constant additions after the ArgMax add up to, and the tensor before them."""
    total, tensor = 0, output
    while (node := links.made_by(tensor, "Add", "Identity", "Cast")) is not None:
        if node.op_type == "Add":
            values = {name: links.value(name) for name in node.input}
            constant = next((name for name, value in values.items() if value is not None and value.size == 1), None)
            other = next((name for name in node.input if name != constant), None)
            if constant is None or other is None:
                break
            total += int(np.asarray(values[constant]).item())
            tensor = other
        else:
            tensor = node.input[0]
    return total, tensor


def _drop_classes(model: onnx.ModelProto, links: Links, logits: str, count: int) -> bool:
    """Take the first classes out of the last layer's weights and bias; tell whether that was possible."""
    bias = None
    node = links.producer.get(logits)
    if node is not None and node.op_type == "Add":
        bias = next((name for name in node.input if links.value(name) is not None), None)
        node = next((links.producer[name] for name in node.input if name != bias and name in links.producer), None)
    if node is None or node.op_type not in ("Gemm", "MatMul"):
        return False
    columns = 0 if node.op_type == "Gemm" and attribute(node, "transB", 0) else 1
    if node.op_type == "Gemm" and len(node.input) > 2:
        bias = node.input[2]
    wanted = [(node.input[1], columns), *([(bias, -1)] if bias else [])]
    cuts: dict[str, tuple[npt.NDArray[np.generic], int]] = {}
    if not all(_find_constants(links, name, axis, cuts) for name, axis in wanted):
        return False
    classes = max(value.shape[axis] for value, axis in cuts.values())
    for name, (value, axis) in cuts.items():
        if value.shape[axis] == classes:  # a bias of one value holds for all
            put(model, name, np.delete(value, np.s_[:count], axis=axis))
    return True


def _find_constants(
    links: Links, tensor: str, axis: int, found: dict[str, tuple[npt.NDArray[np.generic], int]]
) -> bool:
    """Collect the constants behind a weight, also behind its Q/DQ, each with the axis of the classes."""
    if (value := links.value(tensor)) is not None and tensor in links.constants:
        found[tensor] = (value, axis if value.ndim > 1 else -1)
        return len(links.readers[tensor]) == 1
    node = links.made_by(tensor, "QuantizeLinear", "DequantizeLinear")
    if node is None or not _find_constants(links, node.input[0], axis, found):
        return False
    for name in node.input[1:]:  # scale and zero point, shared by the Q and the DQ, of every class or of all
        constant = links.value(name)
        if constant is not None and constant.ndim == 1 and constant.size > 1:
            found[name] = (constant, 0)
    return True


def convolutional_tail(model: onnx.ModelProto, logits: str) -> str | None:
    """Write the mean over the image and the last layer as a pooling and a 1x1 convolution, in place.

    TensorRT computes both in int8, which it has for neither a reduction nor a matrix product of implicit ranges.
    The scores become [N, classes, 1, 1], and the output [N, 1, 1, 1].

    Returns:
        What was changed, for people, or None if the graph does not end like this.
    """
    from onnx import TensorProto, helper

    links = Links(model)
    node, bias = links.producer.get(logits), None
    if node is not None and node.op_type == "Add":
        bias = next((name for name in node.input if links.value(name) is not None), None)
        node = next((links.producer[name] for name in node.input if name != bias and name in links.producer), None)
    if node is None or node.op_type not in ("Gemm", "MatMul"):
        return None
    scaled = any(attribute(node, name, 1.0) != 1.0 for name in ("alpha", "beta")) or attribute(node, "transA", 0)
    weight = links.value(node.input[1])
    mean = links.made_by(
        links.through(node.input[0], "Reshape", "Squeeze", "Flatten"), "ReduceMean", "GlobalAveragePool"
    )
    if weight is None or scaled or mean is None or len(links.readers[mean.output[0]]) != 1:
        return None
    side = _image(model, mean.input[0])
    if side is None or not _over_image(links, mean):
        return None
    if node.op_type == "Gemm" and len(node.input) > 2:
        bias = node.input[2]
    kernel = weight if node.op_type == "Gemm" and attribute(node, "transB", 0) else weight.T
    offsets = np.zeros(len(kernel), kernel.dtype) if bias is None else np.asarray(links.value(bias)).reshape(-1)
    argmax = next(reader for reader in links.readers[logits] if reader.op_type == "ArgMax")
    pooled = mean.output[0]
    new = [
        helper.make_node("AveragePool", [mean.input[0]], [pooled], name=f"{mean.name}/pool", kernel_shape=list(side)),
        helper.make_node(
            "Conv",
            [
                pooled,
                put(model, "nvkit/classes/kernel", kernel[:, :, None, None]),
                put(model, "nvkit/classes/bias", offsets),
            ],
            [logits],
            name=CLASSES,
            kernel_shape=[1, 1],
        ),
        helper.make_node("ArgMax", [logits], list(argmax.output), name=argmax.name, axis=1, keepdims=1),
    ]
    for old in (mean, links.producer[logits], argmax):
        model.graph.node.remove(old)
    model.graph.node.extend(new)
    response = model.graph.output[0].name
    shape: list[str | int | None] = ["batch", 1, 1, 1]
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info(response, TensorProto.INT32, shape))
    prune(model)
    return "mean and last layer written as pooling and 1x1 convolution"


def _over_image(links: Links, mean: onnx.NodeProto) -> bool:
    if mean.op_type == "GlobalAveragePool":
        return True
    axes = attribute(mean, "axes") or (links.value(mean.input[1]) if len(mean.input) > 1 else None)
    return axes is not None and sorted(int(axis) % 4 for axis in axes) == [2, 3]  # type: ignore[attr-defined]


def _image(model: onnx.ModelProto, tensor: str) -> tuple[int, int] | None:
    """Return height and width of a tensor [N, C, H, W], if they are known."""
    for value in model.graph.value_info:
        dims = value.type.tensor_type.shape.dim
        if value.name == tensor and len(dims) == 4 and dims[2].dim_value and dims[3].dim_value:
            return dims[2].dim_value, dims[3].dim_value
    return None
