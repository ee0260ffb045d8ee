"""Outputs of a batch to LoadGen's responses; on the hot path."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nvkit.engine.base import Array, Ragged

Encode = Callable[[Any, Sequence[int]], "Array | Ragged"]
"""`nvkit.benchmarks.base.Benchmark.encode`."""


class Responder:
    """Turns outputs into LoadGen responses; one for each slot.

    Response objects are made once. Responses of one size are copied into a buffer to which they point from the start;
    those of different sizes are pointed at their rows of what the benchmark encoded. LoadGen copies what it logs
    inside the call.
    """

    def __init__(self, encode: Encode, max_batch: int) -> None:
        import mlperf_loadgen as lg

        self._report = lg.QuerySamplesComplete
        self._encode = encode
        self._max_batch = max_batch
        self._buffer: Array | None = None
        self._responses: list[Any] = [lg.QuerySampleResponse(0, 0, 0) for _ in range(max_batch)]

    def complete(self, ids: Sequence[int], indices: Sequence[int], outputs: Array | Ragged) -> None:
        """Report samples as done.

        Args:
            ids: LoadGen's ids of the samples.
            indices: Their QSL indices.
            outputs: What the runner returned, in their order.
        """
        encoded = self._encode(outputs, indices)
        count = len(ids)
        responses = self._responses if count == self._max_batch else self._responses[:count]
        if isinstance(encoded, Ragged):
            _point_at(responses, encoded)
        else:
            if self._buffer is None:
                self._buffer = self._prepare(encoded)
            self._buffer[:count] = encoded
        for response, sample_id in zip(responses, ids, strict=True):
            response.id = sample_id
        self._report(responses)  # `encoded`, to which responses may point, lives until this returns

    def _prepare(self, encoded: Array) -> Array:
        buffer = np.empty((self._max_batch, *encoded.shape[1:]), encoded.dtype)
        size, start = buffer[0].nbytes, buffer.ctypes.data
        for row, response in enumerate(self._responses):
            response.data, response.size = start + row * size, size
        return buffer


def _point_at(responses: Sequence[Any], encoded: Ragged) -> None:
    """Point each response at the bytes of its sample."""
    values = encoded.values
    if not values.flags.c_contiguous:
        raise ValueError("encoded responses of different sizes must be one contiguous array")
    sizes = np.asarray(encoded.lengths, np.int64) * (values.itemsize * math.prod(values.shape[1:]))
    ends = np.cumsum(sizes)
    if not len(ends) or ends[-1] != values.nbytes:  # LoadGen would read what lies behind the array
        raise ValueError(f"responses of {sizes.sum()} bytes, the encoded array has {values.nbytes}")
    starts = ends - sizes + values.ctypes.data
    for response, start, size in zip(responses, starts.tolist(), sizes.tolist(), strict=True):
        response.data = start
        response.size = size
