"""`soft_drop`: long batches of the Server scenario lose their first samples, which are answered after the last query.

The policy is that of NVIDIA's BERT harness (closed/NVIDIA/code/harness/harness_bert/bert_server.cc of the v4.1
results). A batch with far more tokens than usual delays every query that waits behind it. Some samples may miss the
latency limit anyway, as the limit holds for a percentile; these are made the ones that miss it.
"""

from __future__ import annotations

import math

import numpy as np

from nvkit.engine.base import Array

_FEWEST = 1000  # token counts before there is a threshold


class SoftDrop:
    """Decides which samples of a batch are answered last.

    The number of tokens in a batch is noted after each of its samples. A batch whose number lies above the quantile
    `kept` of all that was noted loses samples from its front, while those set aside fit into the share of queries that
    may miss the latency limit.

    Args:
        kept: `settings.soft_drop`; 1 sets nothing aside.
        percentile: `settings.server_target_latency_percentile`.
        lengths: Tokens of each sample, by QSL index.
        max_batch: Most samples in a batch.

    Attributes:
        deferred: Samples set aside so far.
    """

    def __init__(self, kept: float, percentile: float, lengths: Array, max_batch: int) -> None:
        self.deferred = 0
        self._may_miss = 1.0 - percentile
        self._lengths = lengths
        self._seen = 0
        self._tokens = _RunningQuantile(kept, max_batch * int(lengths.max()))
        self._aside: tuple[list[int], list[int]] = [], []

    def admit(self, ids: list[int], indices: list[int]) -> tuple[list[int], list[int]]:
        """Return the ids and QSL indices of a batch without those that are set aside; there may be none left."""
        lengths = self._lengths[indices]
        tokens = np.cumsum(lengths)
        self._tokens.add(tokens)
        self._seen += len(ids)
        if self._tokens.count < _FEWEST:
            return ids, indices
        left = math.floor(self._seen * self._may_miss) - self.deferred
        after = tokens[-1] - np.concatenate([[0], tokens])  # of the batch without its first 0, 1, ... samples
        first = min(int(np.argmax(after <= self._tokens.value)), max(left, 0))
        if first:
            self.deferred += first
            self._aside[0].extend(ids[:first])
            self._aside[1].extend(indices[:first])
        return ids[first:], indices[first:]

    def release(self) -> tuple[list[int], list[int]]:
        """Return the ids and QSL indices of all samples that are set aside, and forget them."""
        aside, self._aside = self._aside, ([], [])
        return aside


class _RunningQuantile:
    """The least whole number that more than a share of all numbers do not exceed.

    Attributes:
        count: Numbers so far.
        value: The quantile.
    """

    def __init__(self, share: float, highest: int) -> None:
        self.count = 0
        self.value = 0
        self._share = share
        self._counts = np.zeros(highest + 1, np.int64)
        self._below = 0  # numbers that are not above `value`

    def add(self, numbers: Array) -> None:
        np.add.at(self._counts, numbers, 1)
        self.count += len(numbers)
        self._below += int(np.count_nonzero(numbers <= self.value))
        wanted = self._share * self.count
        while self._below <= wanted and self.value < len(self._counts) - 1:
            self.value += 1
            self._below += int(self._counts[self.value])
        while (lower := self._below - int(self._counts[self.value])) > wanted:
            self.value, self._below = self.value - 1, lower
