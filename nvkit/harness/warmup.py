"""Inference before the test, so that no query pays for first-time costs."""

from __future__ import annotations

import threading
import time

from nvkit.benchmarks.base import SampleSet
from nvkit.engine.base import Runner


def warm_up(runner: Runner, samples: SampleSet, seconds: float) -> int:
    """Run full batches on every slot for at least `seconds`, and at least one on each.

    Returns:
        The number of batches run.
    """
    if seconds <= 0:
        return 0
    count = min(runner.max_batch, samples.count)
    runner.stage(samples.load(range(count)))
    deadline = time.perf_counter() + seconds
    batches = [0] * runner.slots
    errors: list[BaseException] = []

    def work(slot: int) -> None:
        try:
            while batches[slot] == 0 or time.perf_counter() < deadline:
                runner.submit(slot, range(count))
                runner.wait(slot)
                batches[slot] += 1
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(slot,)) for slot in range(runner.slots)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return sum(batches)
