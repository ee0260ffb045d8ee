"""Windows of pyramid levels to train heads on, with what the anchors in them stand for.

Half of the windows lie on an object on a level that fits its size, which is rare among all positions. Most of the
others lie on objects on levels that do not: to a head a part of a large object looks like a small one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nvkit.benchmarks.convolutions import Floats
from nvkit.benchmarks.retinanet.anchors import GRIDS, LEVELS
from nvkit.benchmarks.retinanet.head_training import MARGIN
from nvkit.benchmarks.retinanet.matching import NOTHING, UNSURE, Matcher
from nvkit.benchmarks.retinanet.tensors import SIDE

ASKED = 6
"""Positions on a side of a window for which outputs are asked."""

UNITS = tuple(8.0 * 2**level for level in range(len(GRIDS)))
"""Pixels that box coordinates of each level are counted in: a quarter of the smallest anchor's side."""

_SIZE = ASKED + 2 * MARGIN
_FITTING, _ON_OBJECT = 0.5, 0.3  # shares of windows
_OF_LEVELS = (0.45, 0.25, 0.15, 0.1, 0.05)  # shares of the others
_SHIFT = 2.0  # positions by which a window may lie beside its object


@dataclass(frozen=True)
class Annotated:
    """An image to train on.

    Attributes:
        pyramid: Levels P3 to P7, [side, side, channels].
        boxes: x1, y1, x2, y2 in pixels of the 800 x 800 image, [objects, 4].
        labels: Classes, [objects].
    """

    pyramid: Sequence[npt.NDArray[np.floating]]
    boxes: npt.NDArray[np.floating]
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """Windows and what is asked of the heads.

    Attributes:
        values: [n, size, size, channels].
        inside: Which positions lie on the level, [n, size, size].
        anchors: Of the positions asked for: 1 where an anchor stands for an object, 0 for nothing, -1 where that is
            unsure, int8 [n, ASKED, ASKED, 9].
        labels: Class of the object that a position has anchors of, or -1, [n, ASKED, ASKED].
        boxes: Of that object: centre from the position, logarithm of the sides, in units of the level; [..., 4].
    """

    values: Floats
    inside: npt.NDArray[np.bool_]
    anchors: npt.NDArray[np.int8]
    labels: npt.NDArray[np.int64]
    boxes: Floats


class WindowSampler:
    """Draws windows from annotated images."""

    def __init__(self, images: Sequence[Annotated]) -> None:
        self._images = images
        matcher = Matcher()
        self._matches = [matcher.match(image.boxes) for image in images]
        self._fitting = [
            (number, level, int(which))
            for number, levels in enumerate(self._matches)
            for level, match in enumerate(levels)
            for which in np.unique(match[match >= 0])
        ]

    def share(self) -> float:
        """Return the share of all anchors of the images that stand for an object."""
        found = sum(int((match >= 0).sum()) for levels in self._matches for match in levels)
        return found / (len(self._images) * sum(LEVELS))

    def draw(self, rng: np.random.Generator, count: int) -> Batch:
        """Return so many windows."""
        return _joined([self._window(rng, *self._place(rng)) for _ in range(count)])

    def _place(self, rng: np.random.Generator) -> tuple[int, int, int, int]:
        """Choose image, level, and the first row and column asked for."""
        chance = rng.random()
        if chance < _FITTING:
            number, level, which = self._fitting[rng.integers(len(self._fitting))]
            box = self._images[number].boxes[which]
            centre = (box[:2] + box[2:]) / 2 * GRIDS[level] / SIDE + rng.uniform(-_SHIFT, _SHIFT, 2)
        else:
            number, level = int(rng.integers(len(self._images))), int(rng.choice(len(GRIDS), p=_OF_LEVELS))
            low, high = np.zeros(2), np.full(2, SIDE)
            if chance < _FITTING + _ON_OBJECT and len(self._images[number].boxes):
                box = self._images[number].boxes[rng.integers(len(self._images[number].boxes))]
                low, high = box[:2], box[2:]
            centre = rng.uniform(low, high) * GRIDS[level] / SIDE
        first = np.clip(np.round(centre - ASKED / 2), -ASKED // 2, GRIDS[level] - ASKED // 2).astype(int)
        return number, level, int(first[1]), int(first[0])

    def _window(self, rng: np.random.Generator, number: int, level: int, row: int, column: int) -> Batch:
        image, match = self._images[number], self._matches[number][level]
        values = _cut(image.pyramid[level], row - MARGIN, column - MARGIN, _SIZE, 0).astype(np.float32)
        inside = _cut(np.ones(match.shape[:2], np.bool_), row - MARGIN, column - MARGIN, _SIZE, False)
        which = _cut(match, row, column, ASKED, UNSURE)
        objects = which.max(axis=2)  # two objects rarely share a position
        known = np.maximum(objects, 0)
        place = np.stack(np.meshgrid(*(np.arange(ASKED) + first for first in (column, row))), axis=-1)
        boxes = image.boxes[known]
        centre, size = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
        unit = UNITS[level]
        coded = np.concatenate([(centre - place * (SIDE // GRIDS[level])) / unit, np.log(size / unit)], axis=-1)
        anchors = np.where(which >= 0, 1, np.where(which == NOTHING, 0, -1)).astype(np.int8)
        labels = np.where(objects >= 0, image.labels[known], -1)
        return Batch(values, inside, anchors, labels, coded.astype(np.float32))


def _cut(values: npt.NDArray[Any], row: int, column: int, size: int, beyond: float) -> npt.NDArray[Any]:
    """Return a square of a level, filled up where it reaches beyond it."""
    window = np.full((size, size, *values.shape[2:]), beyond, values.dtype)
    top, left = max(0, row), max(0, column)
    bottom, right = min(values.shape[0], row + size), min(values.shape[1], column + size)
    if top < bottom and left < right:
        window[top - row : bottom - row, left - column : right - column] = values[top:bottom, left:right]
    return window


def _joined(windows: Sequence[Batch]) -> Batch:
    fields = ("values", "inside", "anchors", "labels", "boxes")
    return Batch(*(np.stack([getattr(window, field) for window in windows]) for field in fields))
