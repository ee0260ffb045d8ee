"""NVIDIA's residual plugins as a rewrite of the ONNX graph: RnRes2FullFusion_TRT and SmallTileGEMM_TRT.

Both are in TensorRT 8.6's plugin library, without source or documentation. What they take is known from the surgery in
NVIDIA's submissions (closed/NVIDIA/code/resnet50/tensorrt/rn50_graphsurgeon.py, rounds v2.1 to v4.1): int8 activations
whose ranges are fields of the plugin; fp32 weights and biases; scales of ones. There the blocks are found by name, here
by structure: three convolutions of a bottleneck, an addition, a ReLU.

`use_fusions: auto` uses both wherever they build, because they win. ResNet-50 in int8 on one H200, TensorRT 8.6,
CUDA graph, input on the device:

| batch | images/s without | images/s with both |
| --- | --- | --- |
| 256 | 72,636 | 83,249 |
| 2048 | 78,136 | 96,334 |
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nvkit.engine.tensorrt.onnx_tools import Links, attribute, plugin_node, prune

if TYPE_CHECKING:
    import onnx

RES2 = "RnRes2FullFusion_TRT"
SMALL_TILE = "SmallTileGEMM_TRT"
#: Plugin to the least compute capability on which NVIDIA uses it.
LEAST_COMPUTE_CAPABILITY = {RES2: (7, 5), SMALL_TILE: (8, 0)}

_RES2_BLOCKS = 3
_RES2_SHAPES = ((64, 1), (64, 3), (256, 1))  # outputs and kernel of a block's convolutions
_SMALL_TILE_OUTPUTS = 512  # NVIDIA uses it from stage 3 on


@dataclass(frozen=True)
class Bottleneck:
    """A residual block.

    Attributes:
        source: Its input tensor.
        convs: 1x1, 3x3 and 1x1 convolution of the branch.
        projection: Convolution of the shortcut, or None where the shortcut is `source` itself.
        shortcut: Tensor that is added to the branch.
        relus: Outputs of the ReLUs behind the first and the second convolution.
        output: Its output tensor, behind the last ReLU.
    """

    source: str
    convs: tuple[onnx.NodeProto, onnx.NodeProto, onnx.NodeProto]
    projection: onnx.NodeProto | None
    shortcut: str
    relus: tuple[str, str]
    output: str


def fuse(model: onnx.ModelProto, amax: Mapping[str, float], plugins: Collection[str]) -> tuple[str, ...]:
    """Put the plugins where they fit, in place; return a note on each kind, none if the graph has no place for them.

    Args:
        model: Graph with batch normalisation folded into the convolutions.
        amax: Range of every activation.
        plugins: RES2, SMALL_TILE or both.
    """
    links = Links(model)
    blocks = [block for node in model.graph.node if (block := _bottleneck(links, node)) and all(_ranged(block, amax))]
    notes: list[str] = []
    if RES2 in plugins and (stage := _res2(links, blocks)):
        _replace(model, links, stage[-1].output, _res2_node(links, stage, amax))
        blocks = [block for block in blocks if block not in stage]
        notes.append(f"{RES2}: the second stage, {len(stage)} blocks, in one kernel")
    if SMALL_TILE in plugins:
        fitting = [
            block
            for block in blocks
            if _weights(links, block.convs[2]).shape[0] >= _SMALL_TILE_OUTPUTS and _strides(block.convs[2]) == {1}
        ]
        for number, block in enumerate(fitting):
            _replace(model, links, block.output, _small_tile_node(links, block, amax, number))
        if fitting:
            notes.append(f"{SMALL_TILE}: last convolution, addition and ReLU of {len(fitting)} blocks")
    prune(model)
    return tuple(notes)


def _bottleneck(links: Links, relu: onnx.NodeProto) -> Bottleneck | None:
    """Return the residual block that ends with this ReLU, or None if none does."""
    add = links.made_by(relu.input[0], "Add") if relu.op_type == "Relu" else None
    if add is None or len(links.readers[add.output[0]]) != 1:
        return None
    for branch, shortcut in (add.input, reversed(add.input)):
        convs: list[onnx.NodeProto] = []
        relus: list[str] = []
        at = branch
        for kernel in (1, 3, 1):
            conv = links.made_by(at, "Conv")
            if conv is None or len(links.readers[at]) != 1 or not _plain(links, conv, kernel):
                break
            convs.insert(0, conv)
            at = conv.input[0]
            before = links.made_by(at, "Relu")
            if len(convs) < 3 and before is not None and len(links.readers[at]) == 1:
                relus.insert(0, at)
                at = before.input[0]
        if len(convs) != 3 or len(relus) != 2:
            continue
        source = convs[0].input[0]
        projection = None if shortcut == source else links.made_by(shortcut, "Conv")
        if shortcut == source or (projection is not None and projection.input[0] == source):
            first, second, third = convs
            return Bottleneck(
                source, (first, second, third), projection, shortcut, (relus[0], relus[1]), relu.output[0]
            )
    return None


def _plain(links: Links, conv: onnx.NodeProto, kernel: int) -> bool:
    """Tell whether a convolution has constant weights of this size, a bias, and no groups or dilation."""
    if len(conv.input) < 3 or any(links.value(name) is None for name in conv.input[1:3]):
        return False
    ones = attribute(conv, "group", 1) == 1 and set(attribute(conv, "dilations", [1])) == {1}  # type: ignore[call-overload]
    return bool(ones and _weights(links, conv).shape[2:] == (kernel, kernel))


def _strides(conv: onnx.NodeProto) -> set[int]:
    return {int(stride) for stride in attribute(conv, "strides", [1])}  # type: ignore[attr-defined]


def _ranged(block: Bottleneck, amax: Mapping[str, float]) -> list[bool]:
    return [name in amax for name in _ranges_of(block)]


def _ranges_of(block: Bottleneck) -> list[str]:
    """Return the tensors whose ranges the second stage's plugin takes for a block, in its order."""
    return [*block.relus, block.convs[2].output[0], block.output]


def _res2(links: Links, blocks: list[Bottleneck]) -> list[Bottleneck]:
    """Return the three blocks of the second stage at full width, or none."""
    by_source = {block.source: block for block in blocks}
    for first in blocks:
        if first.projection is None or _weights(links, first.convs[0]).shape[1] != 64:
            continue
        stage = [first]
        while len(stage) < _RES2_BLOCKS and (following := by_source.get(stage[-1].output)) is not None:
            stage.append(following)
        shapes = {
            tuple((_weights(links, conv).shape[0], _weights(links, conv).shape[2]) for conv in block.convs)
            for block in stage
        }
        still = all(_strides(conv) == {1} for block in stage for conv in block.convs) and _strides(
            first.projection
        ) == {1}
        projected = [block for block in stage if block.projection is not None]
        inner = all(len(links.readers[block.output]) == 2 for block in stage[:-1])
        if len(stage) == _RES2_BLOCKS and shapes == {_RES2_SHAPES} and still and projected == [first] and inner:
            return stage
    return []


def _res2_node(links: Links, stage: list[Bottleneck], amax: Mapping[str, float]) -> onnx.NodeProto:
    first = stage[0]
    assert first.projection is not None
    fields: dict[str, npt.NDArray[np.generic]] = _conv_fields(links, first.projection, "res2a_br1")
    ranges = [first.source, first.projection.output[0]]
    for letter, block in zip("abc", stage, strict=True):
        for part, conv in zip("abc", block.convs, strict=True):
            fields |= _conv_fields(links, conv, f"res2{letter}_br2{part}")
        fields[f"r_res2{letter}_br2c_r"] = np.ones(256, np.float32)
        ranges += _ranges_of(block)
    fields["dynamic_ranges"] = np.array([amax[name] for name in ranges], np.float32)
    return plugin_node(RES2, "nvkit/res2", [first.source], [stage[-1].output], fields)


def _conv_fields(links: Links, conv: onnx.NodeProto, name: str) -> dict[str, npt.NDArray[np.generic]]:
    weights = _weights(links, conv)
    return {
        f"c_{name}_w": weights,
        f"s_{name}_s": np.ones(len(weights), np.float32),
        f"s_{name}_b": np.asarray(links.value(conv.input[2])),
    }


def _small_tile_node(links: Links, block: Bottleneck, amax: Mapping[str, float], number: int) -> onnx.NodeProto:
    conv = block.convs[2]
    weights = _weights(links, conv)
    fields: dict[str, npt.NDArray[np.generic]] = {
        "inputChannels": np.array([weights.shape[1]], np.int32),
        "filterDimR": np.array([1], np.int32),
        "filterDimS": np.array([1], np.int32),
        "weight": weights,
        "bias": np.asarray(links.value(conv.input[2])),
        "scale": np.ones(len(weights), np.float32),
        "rescale": np.ones(len(weights), np.float32),
        "dynamicRanges": np.array([amax[name] for name in (conv.input[0], block.output, block.shortcut)], np.float32),
        "epilogueScaleBiasBetaRelu": np.array([1], np.int32),
        "fairShareCacheSize": np.array([0], np.int32),
    }
    inputs = [conv.input[0], block.shortcut]
    return plugin_node(SMALL_TILE, f"nvkit/small_tile_{number}", inputs, [block.output], fields)


def _replace(model: onnx.ModelProto, links: Links, output: str, node: onnx.NodeProto) -> None:
    model.graph.node.remove(links.producer[output])
    model.graph.node.append(node)


def _weights(links: Links, conv: onnx.NodeProto) -> npt.NDArray[np.generic]:
    return np.asarray(links.value(conv.input[1]))
