"""How the work on samples is spread over cores: one sample per thread, OpenCV itself single-threaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nvkit.system import usable_cores


def worker_count(threads: int | None) -> int:
    """Return the number of worker threads: as asked for, else one for each core that this process may use."""
    return threads or usable_cores()


@contextmanager
def single_threaded_opencv() -> Iterator[None]:
    """Keep OpenCV from starting threads of its own inside the block: they would fight with the workers."""
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
