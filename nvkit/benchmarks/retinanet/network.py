"""The RetinaNet graph: ResNeXt-50 32x4d, a feature pyramid P3 to P7, two heads whose weights all levels share.

Convolutions are named as in the state dictionary of MLCommons' reference model, whose batch normalisation is folded
here. Tensors are named as in the calibration cache of NVIDIA's submission, whose graph has batch normalisation as a
scale and a bias of their own: a convolution's output here is the output of that bias.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from nvkit.benchmarks.base import TensorSpec
from nvkit.benchmarks.convolutions import Conv, Parameters, conv_node, finish, initialisers
from nvkit.benchmarks.retinanet.anchors import GRIDS, LEVELS, PER_POSITION, anchors
from nvkit.benchmarks.retinanet.detect import FUNCTION_OPSET, OPERATOR, detect_objects
from nvkit.benchmarks.retinanet.tensors import CLASSES, INPUT, INPUT_SCALE, SAMPLE_SHAPE, SIDE
from nvkit.quantize.graph import COMPOSITE

CLASS_LOGITS, BOX_DELTAS, OUTPUT = "class_logits", "box_deltas", "detections"

# What MLCommons' reference model sets (single_stage_detector/ssd/model/retinanet.py in mlcommons/training).
SCORE_THRESHOLD = 0.05
IOU_THRESHOLD = 0.5
CANDIDATES = 1000
"""Pairs of anchor and class with the best scores that each pyramid level hands to the suppression."""

DETECTIONS = 300
"""Most detections of an image."""

_BLOCKS = (3, 4, 6, 3)
_GROUPS = 32
_GROUP_WIDTH = 4  # channels of a group in the first stage
_STEM, _SMALLEST_STEM = 64, 8
_PYRAMID = 256
_HEAD_DEPTH = 4


@dataclass(frozen=True)
class Block:
    """One bottleneck block of the backbone; the 3x3 convolution is grouped and has the stride."""

    convs: tuple[Conv, Conv, Conv]
    projection: Conv | None


@dataclass(frozen=True)
class Head:
    """One of the two heads: four convolutions with ReLU, then the last."""

    name: str
    convs: tuple[Conv, ...]
    last: Conv


@dataclass(frozen=True)
class Topology:
    """All convolutions.

    Attributes:
        stem: The first one.
        stages: Blocks of each of the four stages.
        laterals: From the last three stages into the pyramid.
        outputs: Of P3, P4 and P5.
        coarser: From P5 to P6 and from P6 to P7.
        classification: Its last one has a channel for each pair of anchor and class.
        regression: Its last one has a channel for each pair of anchor and coordinate.
    """

    stem: Conv
    stages: tuple[tuple[Block, ...], ...]
    laterals: tuple[Conv, Conv, Conv]
    outputs: tuple[Conv, Conv, Conv]
    coarser: tuple[Conv, Conv]
    classification: Head
    regression: Head

    def convs(self) -> list[Conv]:
        """Return all convolutions in the order of computation."""
        blocks = [block for stage in self.stages for block in stage]
        backbone = [conv for b in blocks for conv in (*b.convs, *([b.projection] if b.projection else []))]
        heads = [conv for head in (self.classification, self.regression) for conv in (*head.convs, head.last)]
        return [self.stem, *backbone, *self.laterals, *self.outputs, *self.coarser, *heads]


def topology(width: float = 1.0) -> Topology:
    """Return RetinaNet's convolutions with the number of groups, and all channels with it, scaled by `width`.

    The stem has at least 8 channels: of fewer no image can be told.
    """
    groups = max(1, round(_GROUPS * width))
    channels = max(_SMALLEST_STEM, _STEM * groups // _GROUPS)
    stem = Conv("backbone.body.conv1", 3, channels, 7, 2)
    stages = []
    for stage, count in enumerate(_BLOCKS):
        middle = groups * _GROUP_WIDTH << stage
        blocks = []
        for index in range(count):
            name = f"backbone.body.layer{stage + 1}.{index}"
            stride = 2 if stage > 0 and index == 0 else 1
            projection = Conv(f"{name}.downsample.0", channels, 2 * middle, 1, stride) if index == 0 else None
            convs = (
                Conv(f"{name}.conv1", channels, middle, 1, 1),
                Conv(f"{name}.conv2", middle, middle, 3, stride, groups),
                Conv(f"{name}.conv3", middle, 2 * middle, 1, 1),
            )
            blocks.append(Block(convs, projection))
            channels = 2 * middle
        stages.append(tuple(blocks))
    pyramid = _PYRAMID * groups // _GROUPS
    inputs = [stage[0].convs[2].outputs for stage in stages[1:]]
    laterals = [Conv(f"backbone.fpn.inner_blocks.{k}", size, pyramid, 1, 1) for k, size in enumerate(inputs)]
    outputs = [Conv(f"backbone.fpn.layer_blocks.{k}", pyramid, pyramid, 3, 1) for k in range(3)]
    coarser = [Conv(f"backbone.fpn.extra_blocks.{name}", pyramid, pyramid, 3, 2) for name in ("p6", "p7")]
    return Topology(
        stem,
        tuple(stages),
        (laterals[0], laterals[1], laterals[2]),
        (outputs[0], outputs[1], outputs[2]),
        (coarser[0], coarser[1]),
        _head("classification_head", "cls_logits", pyramid, PER_POSITION * CLASSES),
        _head("regression_head", "bbox_reg", pyramid, PER_POSITION * 4),
    )


def _head(name: str, last: str, channels: int, outputs: int) -> Head:
    convs = tuple(Conv(f"head.{name}.conv.{2 * k}", channels, channels, 3, 1) for k in range(_HEAD_DEPTH))
    return Head(name, convs, Conv(f"head.{name}.{last}", channels, outputs, 3, 1))


def retinanet(parameters: Parameters, width: float) -> onnx.ModelProto:
    """Assemble the network.

    Args:
        parameters: Of each convolution, by its name.
        width: As given to `topology`.
    """
    graph = _Graph()
    shape = topology(width)
    pyramid = _pyramid(graph, shape, _backbone(graph, shape))
    _heads(graph, shape, pyramid)
    graph.nodes.append(
        helper.make_node(
            OPERATOR,
            [CLASS_LOGITS, BOX_DELTAS, "anchors"],
            [OUTPUT],
            name=OPERATOR,
            domain=COMPOSITE,
            score_threshold=SCORE_THRESHOLD,
            iou_threshold=IOU_THRESHOLD,
            detections=DETECTIONS,
            candidates=CANDIDATES,
            levels=LEVELS,
            image_size=SIDE,
        )
    )
    constants = {"anchors": anchors(), **graph.constants}
    return finish(
        graph.nodes,
        {**initialisers(parameters), **constants},
        inputs=[helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", *SAMPLE_SHAPE])],
        outputs=[helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", DETECTIONS, 6])],
        name="retinanet_resnext50_32x4d_fpn",
        opset=FUNCTION_OPSET,
        functions=[detect_objects(len(LEVELS))],
    )


def pyramid_network(parameters: Parameters, width: float) -> tuple[onnx.ModelProto, list[str]]:
    """Return the network up to its pyramid, and the names of P3 to P7.

    Args:
        parameters: Of the convolutions of backbone and pyramid, by name.
        width: As given to `topology`.
    """
    graph = _Graph()
    shape = topology(width)
    levels = _pyramid(graph, shape, _backbone(graph, shape))
    model = finish(
        graph.nodes,
        {**initialisers(parameters), **graph.constants},
        inputs=[helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", *SAMPLE_SHAPE])],
        outputs=[helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in levels],
        name="pyramid",
        opset=FUNCTION_OPSET,
    )
    return model, levels


class _Graph:
    """Collects nodes; every method returns the name of the tensor that it makes."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, npt.NDArray[Any]] = {}

    def add(self, operator: str, sources: list[str], target: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, sources, [target], name=target, **attributes))
        return target

    def conv(self, conv: Conv, source: str, target: str) -> str:
        self.nodes.append(conv_node(conv, source, target, name=target))
        return target


def _backbone(graph: _Graph, shape: Topology) -> list[str]:
    """Add ResNeXt-50; return the outputs of its last three stages."""
    at = graph.add("Relu", [graph.conv(shape.stem, INPUT, "res1_bias_out_0")], "res1_relu_out_0")
    at = graph.add("MaxPool", [at], "res1_maxpool_out_0", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    outputs = []
    for stage, blocks in enumerate(shape.stages):
        for index, block in enumerate(blocks):
            at = _block(graph, block, at, f"res{stage + 2}{'abcdef'[index]}")
        outputs.append(at)
    return outputs[1:]


def _block(graph: _Graph, block: Block, source: str, name: str) -> str:
    shortcut = graph.conv(block.projection, source, f"{name}_branch1_bias_out_0") if block.projection else source
    at = source
    for conv, branch in zip(block.convs[:2], "ab", strict=True):
        at = graph.conv(conv, at, f"{name}_branch2{branch}_bias_out_0")
        at = graph.add("Relu", [at], f"{name}_branch2{branch}_relu_out_0")
    at = graph.conv(block.convs[2], at, f"{name}_branch2c_bias_out_0")
    at = graph.add("Add", [at, shortcut], f"{name}_residual_add_out_0")
    return graph.add("Relu", [at], f"{name}_relu_out_0")


def _pyramid(graph: _Graph, shape: Topology, stages: list[str]) -> list[str]:
    """Add the feature pyramid over the last three stages; return P3 to P7."""
    root = "/backbone/fpn"
    graph.constants["double"] = np.array([1, 1, 2, 2], np.float32)
    inner = [
        graph.conv(conv, stage, f"{root}/inner_blocks.{level}/Conv_output_0")
        for level, (conv, stage) in enumerate(zip(shape.laterals, stages, strict=True))
    ]
    for step, level in enumerate((1, 0)):
        suffix = f"_{step}" if step else ""
        doubled = graph.add(
            "Resize",
            [inner[level + 1], "", "double"],
            f"{root}/Resize{suffix}_output_0",
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
        inner[level] = graph.add("Add", [inner[level], doubled], f"{root}/Add{suffix}_output_0")
    levels = [
        graph.conv(conv, source, f"{root}/layer_blocks.{level}/Conv_output_0")
        for level, (conv, source) in enumerate(zip(shape.outputs, inner, strict=True))
    ]
    levels.append(graph.conv(shape.coarser[0], levels[-1], f"{root}/extra_blocks/p6/Conv_output_0"))
    positive = graph.add("Relu", [levels[-1]], f"{root}/extra_blocks/Relu_output_0")
    return [*levels, graph.conv(shape.coarser[1], positive, f"{root}/extra_blocks/p7/Conv_output_0")]


def _heads(graph: _Graph, shape: Topology, levels: list[str]) -> None:
    """Add both heads on every level, and bring their outputs to [batch, anchors, classes or coordinates]."""
    for head, values, target in (
        (shape.classification, CLASSES, CLASS_LOGITS),
        (shape.regression, 4, BOX_DELTAS),
    ):
        graph.constants[f"{target}/rows"] = np.array([0, -1, values], np.int64)
        parts = []
        for number, (at, side) in enumerate(zip(levels, GRIDS, strict=True)):
            suffix = f"_{number}" if number else ""
            for step, conv in enumerate(head.convs):
                root = f"/head/{head.name}/conv/conv"
                at = graph.conv(conv, at, f"{root}.{2 * step}{suffix}/Conv_output_0")
                at = graph.add("Relu", [at], f"{root}.{2 * step + 1}{suffix}/Relu_output_0")
            at = graph.conv(head.last, at, f"{head.name}_{side}x{side}")
            # Channels are ordered anchor by anchor, so rows of pixels hold rows of anchors.
            at = graph.add("Transpose", [at], f"{at}/pixels", perm=[0, 2, 3, 1])
            parts.append(graph.add("Reshape", [at, f"{target}/rows"], f"{at}/anchors"))
        graph.add("Concat", parts, target, axis=1)


def input_specs() -> tuple[TensorSpec, ...]:
    """Return the network's input; int8 samples are images in steps of NVIDIA's input range."""
    return (TensorSpec(INPUT, "float32", SAMPLE_SHAPE, INPUT_SCALE),)


def output_spec() -> TensorSpec:
    """Return the output that responses are encoded from."""
    return TensorSpec(OUTPUT, "float32", (DETECTIONS, 6))
