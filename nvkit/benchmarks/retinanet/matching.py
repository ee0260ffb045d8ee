"""Which object each anchor stands for, by the rules that RetinaNet is trained with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nvkit.benchmarks.retinanet.anchors import GRIDS, LEVELS, PER_POSITION, anchors

NOTHING, UNSURE = -1, -2
"""An anchor that overlaps no object by 0.4, and one that overlaps one by more, but not by 0.5."""

_OBJECT, _NOTHING = 0.5, 0.4


class Matcher:
    """Matches all anchors to the objects of one image after the other."""

    def __init__(self) -> None:
        parts = np.split(anchors(), np.cumsum(LEVELS)[:-1])
        self._levels = [part.reshape(side, side, PER_POSITION, 4) for part, side in zip(parts, GRIDS, strict=True)]

    def match(self, boxes: npt.NDArray[np.floating]) -> list[npt.NDArray[np.int8]]:
        """Return of each level [side, side, anchors] the number of the object, NOTHING or UNSURE.

        An anchor stands for the object that it overlaps most, by at least 0.5; and the anchors that overlap an object
        most of all stand for it in any case.

        Args:
            boxes: x1, y1, x2, y2 in pixels of the 800 x 800 image, [objects, 4].
        """
        greatest = [np.zeros(level.shape[:3], np.float32) for level in self._levels]
        nearest = [np.full(level.shape[:3], NOTHING, np.int8) for level in self._levels]
        own: list[list[npt.NDArray[np.bool_]]] = []
        for number, box in enumerate(boxes):
            found = [_overlap(level, box) for level in self._levels]
            most = max(float(overlap.max()) for overlap in found)
            own.append([overlap >= most - 1e-6 for overlap in found])
            for overlap, known, which in zip(found, greatest, nearest, strict=True):
                better = overlap > known
                known[better], which[better] = overlap[better], number
        for known, which in zip(greatest, nearest, strict=True):
            which[known < _OBJECT] = UNSURE
            which[known < _NOTHING] = NOTHING
        for number, places in enumerate(own):
            for which, place in zip(nearest, places, strict=True):
                which[place] = number
        return nearest


def _overlap(level: npt.NDArray[np.float32], box: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Return the intersection over union of a box with a level's anchors, [side, side, anchors].

    Widths depend on the column only and heights on the row, so the whole level takes one product.
    """
    row, column = level[0], level[:, 0]
    width = np.minimum(row[:, :, 2], box[2]) - np.maximum(row[:, :, 0], box[0])
    height = np.minimum(column[:, :, 3], box[3]) - np.maximum(column[:, :, 1], box[1])
    shared = np.maximum(height, 0)[:, None] * np.maximum(width, 0)[None]
    areas = (row[0, :, 2] - row[0, :, 0]) * (row[0, :, 3] - row[0, :, 1])
    return np.asarray(shared / (areas + (box[2] - box[0]) * (box[3] - box[1]) - shared), np.float32)
