"""Inference before the test, so that no query pays for first-time costs."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count as numbers
from statistics import mean, median

import numpy as np

from nvkit.benchmarks.base import SampleSet
from nvkit.engine.base import Runner

_FEWEST = 2
_LENGTHS = 5


@dataclass(frozen=True)
class WarmUp:
    """What the warm-up showed.

    Attributes:
        batches: Batches run, on all slots together.
        batch: Samples in each.
        batch_s: Median time of a batch while all slots were busy, seconds; where samples have different lengths, the
            mean over batches of short to long ones.
    """

    batches: int
    batch: int
    batch_s: float


def warm_up(runner: Runner, samples: SampleSet, seconds: float) -> WarmUp:
    """Run full batches on every slot for at least `seconds`, and at least two on each.

    Where samples have different lengths, batches of several lengths are run in turn, each at least once after the
    first one of a slot.
    """
    size = min(runner.max_batch, samples.count)
    batches = _batches(samples, size)
    indices = [index for batch in batches for index in batch]
    runner.stage(samples.load(indices), samples.lengths_of(indices))
    fewest = max(_FEWEST, len(batches) + 1)
    deadline = time.perf_counter() + seconds
    times: list[list[float]] = [[] for _ in range(runner.slots)]
    errors: list[BaseException] = []

    def work(slot: int) -> None:
        try:
            for number in numbers():
                if number >= fewest and time.perf_counter() >= deadline:
                    break
                first = number % len(batches) * size
                started = time.perf_counter()
                runner.submit(slot, range(first, first + size))
                runner.wait(slot)
                times[slot].append(time.perf_counter() - started)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(slot,)) for slot in range(runner.slots)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    # The first of each slot pays for first-time costs.
    steady = [
        median(value for slot in times for number, value in enumerate(slot) if number and number % len(batches) == kind)
        for kind in range(len(batches))
    ]
    return WarmUp(sum(map(len, times)), size, mean(steady))


def _batches(samples: SampleSet, size: int) -> list[Sequence[int]]:
    """Return the QSL indices of the batches to run: one of the first samples, or from each fifth of the lengths one."""
    lengths = samples.lengths_of(range(samples.count))
    if lengths is None:
        return [range(size)]
    order = np.argsort(lengths, kind="stable")
    starts = ((np.arange(_LENGTHS) + 0.5) / _LENGTHS * samples.count - size / 2).round().astype(int)
    return [order[start : start + size].tolist() for start in np.clip(starts, 0, samples.count - size)]
