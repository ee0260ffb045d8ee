"""Inference before the test, so that no query pays for first-time costs."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from statistics import median

from nvkit.benchmarks.base import SampleSet
from nvkit.engine.base import Runner

_FEWEST = 2


@dataclass(frozen=True)
class WarmUp:
    """What the warm-up showed.

    Attributes:
        batches: Batches run, on all slots together.
        batch: Samples in each.
        batch_s: Median time of a batch while all slots were busy, seconds.
    """

    batches: int
    batch: int
    batch_s: float


def warm_up(runner: Runner, samples: SampleSet, seconds: float) -> WarmUp:
    """Run full batches on every slot for at least `seconds`, and at least two on each."""
    count = min(runner.max_batch, samples.count)
    runner.stage(samples.load(range(count)))
    deadline = time.perf_counter() + seconds
    times: list[list[float]] = [[] for _ in range(runner.slots)]
    errors: list[BaseException] = []

    def work(slot: int) -> None:
        try:
            while len(times[slot]) < _FEWEST or time.perf_counter() < deadline:
                started = time.perf_counter()
                runner.submit(slot, range(count))
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
    steady = [value for slot in times for value in slot[1:]]  # the first of each slot pays for first-time costs
    return WarmUp(sum(map(len, times)), count, median(steady))
