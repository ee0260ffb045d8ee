"""Responses and their score: top-1 accuracy, as MLCommons' accuracy-imagenet.py counts it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from nvkit.benchmarks.base import Accuracy, DataSet
from nvkit.errors import DataError

Array = npt.NDArray[Any]


_RESPONSE = np.dtype("<i4")


def encode_classes(outputs: Array) -> Array:
    """Turn class numbers of 0 (background) to 1000 into responses: int32 little-endian, 0 to 999, shape [n, 1].

    The background class becomes -1, which no label equals.
    """
    return np.subtract(outputs.reshape(len(outputs), 1), 1, dtype=_RESPONSE, casting="same_kind")


def same_class(expected: Array, found: Array) -> Array:
    """Tell of each of two sets of responses, shape [n, 1], whether they are equal, as bool [n]."""
    return np.asarray((expected == found)[:, 0])


def score_responses(responses: Mapping[int, bytes], data: DataSet) -> Accuracy:
    """Score the responses of an accuracy run.

    Args:
        responses: QSL index to the bytes of its response; the first four are the class, int32 little-endian.
        data: The data set whose file i has QSL index i (see `without` where files were skipped).

    Raises:
        DataError: an index is outside of the data set or a response is shorter than four bytes, or there is none.
    """
    if not responses:
        raise DataError("The accuracy log holds no responses.", "Run accuracy mode again.")
    good = 0
    for index, response in responses.items():
        if not 0 <= index < len(data.labels):
            raise DataError(
                f"The response of sample {index} is outside of the data set of {len(data.labels)} images.",
                "Score the log with the data set that it was made with.",
            )
        if len(response) < 4:
            raise DataError(f"The response of sample {index} has {len(response)} bytes, not 4.", "Run it again.")
        good += int.from_bytes(response[:4], "little", signed=True) == data.labels[index]
    total = len(responses)
    value = 100.0 * good / total
    line = f"accuracy={value:.3f}%, good={good}, total={total}"
    return Accuracy("acc", value, total, line, {"good": float(good)})
