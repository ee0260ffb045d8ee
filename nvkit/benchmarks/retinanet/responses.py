"""Responses: what the network found on an image, as MLCommons' accuracy-openimages.py reads it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nvkit.benchmarks.retinanet.anchors import overlaps
from nvkit.engine.base import Ragged

Array = npt.NDArray[Any]

COLUMNS = 7
_SCORE, _LABEL = 5, 6
_SAME_BOX = 0.5


def encode_detections(outputs: Array, indices: Sequence[int]) -> Ragged:
    """Turn rows of ymin, xmin, ymax, xmax, score, class into responses; on the hot path.

    Args:
        outputs: [batch, detections, 6]; rows with score 0 are none, and what a runner leaves in them does not matter.
        indices: QSL index of each sample.

    Returns:
        Rows of QSL index, ymin, xmin, ymax, xmax (0 to 1), score, label; float32 little-endian. Samples without a
        detection have no rows.
    """
    found = outputs[:, :, 4] > 0
    lengths = found.sum(axis=1)
    values = np.empty((int(lengths.sum()), COLUMNS), "<f4")
    values[:, 0] = np.repeat(np.asarray(indices, np.float32), lengths)
    values[:, 1:] = outputs[found]
    return Ragged(values, lengths)


def same_detections(expected: Ragged, found: Ragged) -> npt.NDArray[np.bool_]:
    """Tell of each sample whether two responses say the same.

    Of each response the confident detections count, those with at least half of its best score; each must meet one
    of the other response, confident or not, of the same label and with an overlap of at least 0.5 (the least that
    mAP counts). A response says the same if most of the confident ones of both meet. Where one is near a threshold or
    two are about equally good, engines of different precision differ; engines that are broken find next to nothing in
    common. Two responses without detections say the same.
    """
    return np.array([_same(one, other) for one, other in zip(expected.rows(), found.rows(), strict=True)], np.bool_)


def _same(one: Array, other: Array) -> bool:
    if not len(one) or not len(other):
        return len(one) == len(other)
    meets = one[:, _LABEL, None] == other[None, :, _LABEL]
    meets &= overlaps(one[:, 1:_SCORE], other[:, 1:_SCORE]) >= _SAME_BOX
    confident = [each[:, _SCORE] >= each[:, _SCORE].max() / 2 for each in (one, other)]
    met = np.concatenate([meets.any(axis=1)[confident[0]], meets.any(axis=0)[confident[1]]])
    return bool(met.mean() > 0.5)
