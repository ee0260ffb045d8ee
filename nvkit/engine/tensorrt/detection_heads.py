"""The heads of a detector: which convolutions make the class logits and box deltas of nvkit.DetectObjects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nvkit.engine.tensorrt.onnx_tools import Links, attribute

if TYPE_CHECKING:
    import onnx

COORDINATES = 4
Places = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Level:
    """The heads' outputs on one level of the pyramid.

    Attributes:
        logits: Tensor [batch, shapes * classes, height, width].
        deltas: Tensor [batch, shapes * 4, height, width].
        positions: height * width.
        first_anchor: Anchors of the levels before; those of this one are numbered position * shapes + shape.
    """

    logits: str
    deltas: str
    positions: int
    first_anchor: int


@dataclass(frozen=True)
class Heads:
    """All levels.

    Attributes:
        levels: In the order of the anchors.
        shapes: Anchors at a position.
        classes: Number of classes.
    """

    levels: tuple[Level, ...]
    shapes: int
    classes: int

    def outputs(self) -> list[str]:
        """Return the tensors of all levels."""
        return [name for level in self.levels for name in (level.logits, level.deltas)]


def find_heads(model: onnx.ModelProto, logits: str, deltas: str) -> Heads | None:
    """Find the convolutions behind class logits [batch, anchors, classes] and box deltas [batch, anchors, 4].

    Returns:
        The heads, or None unless both are concatenations of levels, each level a convolution whose channels and
        positions are only put into the order of the anchors.
    """
    shapes = {value.name: value.type.tensor_type.shape for value in model.graph.value_info}
    links = Links(model)
    found = []
    for tensor in (logits, deltas):
        joined = links.made_by(tensor, "Concat")
        if joined is not None and attribute(joined, "axis") not in (1, -2):
            return None
        parts = [_part(links, shapes, name) for name in (joined.input if joined is not None else [tensor])]
        found.append([part for part in parts if part is not None])
        if len(found[-1]) < len(parts):
            return None
    if len(found[0]) != len(found[1]):
        return None
    levels: list[Level] = []
    counts: set[tuple[int, int]] = set()
    first = 0
    for (scores, channels, classes, positions), (boxes, others, four, same) in zip(*found, strict=True):
        count = channels // classes
        if four != COORDINATES or same != positions or others != COORDINATES * count:
            return None
        levels.append(Level(scores, boxes, positions, first))
        counts.add((count, classes))
        first += count * positions
    return Heads(tuple(levels), *counts.pop()) if len(counts) == 1 else None


def _part(links: Links, shapes: dict[str, onnx.TensorShapeProto], tensor: str) -> tuple[str, int, int, int] | None:
    """Return a level's convolution output, its channels, the values of each anchor, and its positions."""
    nodes = []
    at = tensor
    while (node := links.made_by(at, "Reshape", "Transpose")) is not None:
        nodes.append(node)
        at = node.input[0]
    if links.made_by(at, "Conv") is None or at not in shapes:
        return None
    channels, height, width = (dim.dim_value for dim in shapes[at].dim[1:])
    if not channels * height * width:
        return None
    places = np.arange(channels * height * width, dtype=np.int32).reshape(1, channels, height, width)
    moved = places
    for node in reversed(nodes):
        found = _moved(links, node, moved)
        if found is None:
            return None
        moved = found
    if moved.ndim != 3:
        return None
    values, positions = moved.shape[2], height * width
    if channels % values or moved.shape[1] * values != channels * positions:
        return None
    wanted = places.reshape(channels // values, values, positions).transpose(2, 0, 1)
    return (at, channels, values, positions) if np.array_equal(moved.reshape(wanted.shape), wanted) else None


def _moved(links: Links, node: onnx.NodeProto, places: Places) -> Places | None:
    """Do to a sample's places what a node does."""
    if node.op_type == "Transpose":
        order: list[int] | None = attribute(node, "perm")  # type: ignore[assignment]
        turned: Places = places.transpose(order)
        return turned
    shape = links.value(node.input[1])
    if shape is None:
        return None
    sizes = [places.shape[i] if size == 0 and i < places.ndim else int(size) for i, size in enumerate(shape)]
    try:
        return places.reshape(sizes)
    except ValueError:  # the shape is of a batch
        return None
