"""Logits to responses, and what two responses have in common."""

from __future__ import annotations

import numpy as np

from nvkit.benchmarks.base import Array
from nvkit.benchmarks.bert.accuracy import RESPONSE_DTYPE
from nvkit.engine.base import Ragged

_LITTLE_ENDIAN = np.dtype(RESPONSE_DTYPE).newbyteorder("<")


def encode_logits(outputs: Array | Ragged) -> Array | Ragged:
    """Turn start and end logits into responses, float32 little-endian [tokens, 2] for each sample."""
    if isinstance(outputs, Ragged):
        return Ragged(np.ascontiguousarray(outputs.values, _LITTLE_ENDIAN), outputs.lengths)
    return np.ascontiguousarray(outputs, _LITTLE_ENDIAN)


def same_spans(expected: Array | Ragged, found: Array | Ragged) -> Array:
    """Tell of each sample whether both responses have their highest start and end logits at the same tokens."""
    return np.array([(a == b).all() for a, b in zip(_best(expected), _best(found), strict=True)], dtype=bool)


def _best(responses: Array | Ragged) -> list[Array]:
    rows = responses.rows() if isinstance(responses, Ragged) else list(responses)
    return [logits.argmax(axis=0) for logits in rows]
