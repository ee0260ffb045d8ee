"""The anchors of MLPerf's RetinaNet: nine boxes at every position of every pyramid level, and how boxes are coded.

Sizes, ratios, rounding and order are those of torchvision's anchor generator as the reference model configures it; so
is the code of a box relative to its anchor: shift of the centre in anchor sides, logarithm of the sides' ratio.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from nvkit.benchmarks.retinanet.tensors import SIDE

Floats = npt.NDArray[np.float32]

GRIDS = (100, 50, 25, 13, 7)
"""Positions on a side of pyramid levels P3 to P7."""

PER_POSITION = 9
LEVELS = tuple(PER_POSITION * side * side for side in GRIDS)
"""Anchors of each level: 120,087 in all."""

LARGEST_GROWTH = math.log(1000 / 16)
"""Greatest logarithm of box side over anchor side that is decoded; larger ones are cut to it."""

_SMALLEST = (32, 64, 128, 256, 512)
_RATIOS = (0.5, 1.0, 2.0)  # height over width


def anchors() -> Floats:
    """Return all anchors as x1, y1, x2, y2 in pixels of the 800 x 800 image, float32 [120087, 4].

    Level by level, row by row, position by position; at a position ratio by ratio, and of each ratio by size.
    """
    return np.concatenate([_level(side, smallest) for side, smallest in zip(GRIDS, _SMALLEST, strict=True)])


def _level(side: int, smallest: int) -> Floats:
    sizes = np.array([int(smallest * 2 ** (step / 3)) for step in range(3)], np.float32)
    heights = np.sqrt(np.array(_RATIOS, np.float32))
    h = (heights[:, None] * sizes).reshape(-1)
    w = ((1 / heights)[:, None] * sizes).reshape(-1)
    cell = np.rint(np.stack([-w, -h, w, h], axis=1) / 2)
    at = np.arange(side, dtype=np.float32) * (SIDE // side)
    y, x = np.meshgrid(at, at, indexing="ij")
    corners = np.stack([x, y, x, y], axis=-1).reshape(-1, 1, 4)
    level: Floats = (corners + cell).reshape(-1, 4).astype(np.float32)
    return level


def encode_boxes(boxes: npt.NDArray[np.floating], reference: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Return what the regression head should give at these anchors for these boxes: dx, dy, dw, dh, [n, 4]."""
    size, centre = reference[:, 2:] - reference[:, :2], (reference[:, :2] + reference[:, 2:]) / 2
    wanted, middle = boxes[:, 2:] - boxes[:, :2], (boxes[:, :2] + boxes[:, 2:]) / 2
    return np.concatenate([(middle - centre) / size, np.log(wanted / size)], axis=1)


def overlaps(boxes: npt.NDArray[np.floating], others: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Return the intersection over union of each box with each other one, [boxes, others]; corners x1, y1, x2, y2."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    areas = [np.prod(each[:, 2:] - each[:, :2], axis=1) for each in (boxes, others)]
    return np.asarray(shared / np.maximum(areas[0][:, None] + areas[1][None] - shared, 1e-12))
