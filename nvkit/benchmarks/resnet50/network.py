"""The ResNet-50 v1.5 graph, with the inputs, outputs and tail of MLPerf's resnet50_v1.onnx.

The stride of a down-sampling block is in its 3x3 convolution. Batch normalisation is folded: every convolution has
a bias. Node and tensor names follow the TensorFlow graph that the reference file was exported from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx
from onnx import TensorProto, helper

from nvkit.benchmarks.convolutions import Conv, Floats, Parameters, conv_node, finish, initialisers
from nvkit.benchmarks.resnet50.tensors import CLASS_OUTPUT, CLASSES, INPUT, SAMPLE_SHAPE, SOFTMAX_OUTPUT

FEATURES = "resnet_model/Mean:0"
"""Pooled features, what the last layer sees, [N, features]."""
_BLOCKS = (3, 4, 6, 3)


@dataclass(frozen=True)
class Block:
    """One bottleneck block: three convolutions beside a shortcut, which a fourth may project."""

    convs: tuple[Conv, Conv, Conv]
    projection: Conv | None


@dataclass(frozen=True)
class Topology:
    """All convolutions in the order of computation, and the number of pooled features."""

    stem: Conv
    blocks: tuple[Block, ...]
    features: int


def topology(width: float = 1.0) -> Topology:
    """Return ResNet-50's convolutions with the channels scaled by `width`; 1.0 is the true size."""
    base = max(4, round(64 * width))
    names = iter(["resnet_model/conv2d", *(f"resnet_model/conv2d_{k}" for k in range(1, 53))])
    stem = Conv(next(names), 3, base, 7, 2)
    blocks = []
    channels = base
    for stage, count in enumerate(_BLOCKS):
        middle, outputs = base << stage, base << (stage + 2)
        for index in range(count):
            stride = 2 if stage > 0 and index == 0 else 1
            projection = Conv(next(names), channels, outputs, 1, stride) if index == 0 else None
            convs = (
                Conv(next(names), channels, middle, 1, 1),
                Conv(next(names), middle, middle, 3, stride),
                Conv(next(names), middle, outputs, 1, 1),
            )
            blocks.append(Block(convs, projection))
            channels = outputs
    return Topology(stem, tuple(blocks), channels)


def resnet50(parameters: Parameters, dense: tuple[Floats, Floats], width: float) -> onnx.ModelProto:
    """Assemble the network.

    Args:
        parameters: Kernel [out, in, k, k] and bias [out] of each convolution, by its name.
        dense: Kernel [features, 1001] and bias [1001] of the last layer.
        width: As given to `topology`.
    """
    graph = _Graph()
    shape = topology(width)
    at = graph.relu(graph.conv(shape.stem, INPUT))
    at = graph.add(
        "MaxPool", [at], "resnet_model/max_pooling2d/MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]
    )
    for block in shape.blocks:
        shortcut = graph.conv(block.projection, at) if block.projection else at
        at = graph.relu(graph.conv(block.convs[0], at))
        at = graph.relu(graph.conv(block.convs[1], at))
        at = graph.relu(
            graph.add("Add", [graph.conv(block.convs[2], at), shortcut], graph.numbered("resnet_model/add"))
        )
    at = graph.add("ReduceMean", [at], "resnet_model/Mean", axes=[2, 3], keepdims=0)
    at = graph.add("MatMul", [at, "resnet_model/dense/kernel"], "resnet_model/dense/MatMul")
    logits = graph.add("Add", [at, "resnet_model/dense/bias"], "resnet_model/dense/BiasAdd")
    graph.add("Softmax", [logits], "softmax_tensor", axis=1)
    graph.add("ArgMax", [logits], "ArgMax", axis=1, keepdims=0)
    last_layer = {"resnet_model/dense/kernel": dense[0], "resnet_model/dense/bias": dense[1]}
    return finish(
        graph.nodes,
        {**last_layer, **initialisers(parameters)},
        inputs=[helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", *SAMPLE_SHAPE])],
        outputs=[
            helper.make_tensor_value_info(CLASS_OUTPUT, TensorProto.INT64, ["batch"]),
            helper.make_tensor_value_info(SOFTMAX_OUTPUT, TensorProto.FLOAT, ["batch", CLASSES]),
        ],
        name="resnet50_v1.5",
    )


class _Graph:
    """Collects nodes; every method returns the name of the tensor that it makes."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._counts: dict[str, int] = {}

    def numbered(self, name: str) -> str:
        """Number equal names as TensorFlow does: Relu, Relu_1, Relu_2."""
        count = self._counts.get(name, 0)
        self._counts[name] = count + 1
        return f"{name}_{count}" if count else name

    def add(self, operator: str, sources: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, sources, [f"{name}:0"], name=name, **attributes))
        return f"{name}:0"

    def conv(self, conv: Conv, source: str) -> str:
        target = f"{conv.name}/Conv2D:0"
        self.nodes.append(conv_node(conv, source, target))
        return target

    def relu(self, source: str) -> str:
        return self.add("Relu", [source], self.numbered("resnet_model/Relu"))
