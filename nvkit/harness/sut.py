"""The system under test: LoadGen's queries to batches on a runner, and completions back. The only hot path.

What the measurements behind it say (2 cores, LoadGen 6): ConstructFastSUT hands over plain integers; an append in
the callback, one `QuerySamplesComplete` a batch and reused response objects carry several 100,000 queries/s from
Python. Waking a thread for every query, or making an object for every query, does not.

Offline and Server use leader and followers: every slot has a thread; one of them, the leader, forms a batch and
starts it, then hands the lead over while it waits for its batch. No batch passes from thread to thread. SingleStream
and MultiStream have one query in flight, which is run in LoadGen's own thread, as a hand-over would double its
latency.

Python's garbage collector is off between `start` and `stop`: LoadGen makes objects for every query, so collections
come often and walk over every query that waits; they took half of LoadGen's own thread where queries piled up, and a
third of the p99 latency at 450,000 queries/s. Nothing on this path makes reference cycles.
"""

from __future__ import annotations

import gc
import threading
import time
from _queue import SimpleQueue
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nvkit.engine.base import Array, Runner

_POLL_S = 0.0005


class Responder:
    """Turns outputs into LoadGen responses; one for each slot.

    Response objects and the buffer that they point to are made once. LoadGen copies what it logs inside the call.
    """

    def __init__(self, encode: Callable[[Array], Array], max_batch: int) -> None:
        import mlperf_loadgen as lg

        self._response = lg.QuerySampleResponse
        self._report = lg.QuerySamplesComplete
        self._encode = encode
        self._max_batch = max_batch
        self._buffer: Array | None = None
        self._responses: list[Any] = []

    def complete(self, ids: Sequence[int], outputs: Array) -> None:
        """Report the samples `ids` as done, row i of the encoded outputs being the response of ids[i]."""
        encoded = self._encode(outputs)
        if self._buffer is None:
            self._prepare(encoded)
        buffer = self._buffer
        assert buffer is not None
        count = len(ids)
        buffer[:count] = encoded
        responses = self._responses if count == self._max_batch else self._responses[:count]
        for response, sample_id in zip(responses, ids, strict=True):
            response.id = sample_id
        self._report(responses)

    def _prepare(self, encoded: Array) -> None:
        self._buffer = np.empty((self._max_batch, *encoded.shape[1:]), encoded.dtype)
        size = self._buffer[0].nbytes
        start = self._buffer.ctypes.data
        self._responses = [self._response(0, start + i * size, size) for i in range(self._max_batch)]


class InlineSut:
    """SingleStream and MultiStream: runs each query in the thread that LoadGen calls.

    Attributes:
        completed: Samples done so far.
        batches: Batches done so far.
    """

    def __init__(
        self,
        runner: Runner,
        encode: Callable[[Array], Array],
        row_of: Sequence[int],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._runner = runner
        self._row_of = row_of
        self._failed = failed
        self._responder = Responder(encode, runner.max_batch)
        self.completed = 0
        self.batches = 0

    def issue(self, ids: list[int], indices: list[int]) -> None:
        """LoadGen's callback: run one query, in as many batches as it needs."""
        runner, row_of, step = self._runner, self._row_of, self._runner.max_batch
        try:
            for start in range(0, len(ids), step):
                runner.submit(0, [row_of[i] for i in indices[start : start + step]])
                self._responder.complete(ids[start : start + step], runner.wait(0))
                self.batches += 1
        except BaseException as error:  # LoadGen's C++ calls this; an exception would only crash the process
            self._failed(error)
        self.completed += len(ids)

    def start(self) -> None:
        """Turn the garbage collector off."""
        gc.disable()

    def stop(self) -> None:
        """Turn the garbage collector on."""
        gc.enable()


class BatchingSut:
    """Offline and Server: a queue, from which the slots' threads take batches.

    Args:
        runner: Where batches run; one thread for each of its slots.
        encode: Outputs of a batch to responses.
        row_of: QSL index to staged row.
        timeout_s: A batch that is not full waits so long for more samples.
        failed: Called with an exception of a slot's thread; LoadGen cannot be told, so it must end the process.
    """

    def __init__(
        self,
        runner: Runner,
        encode: Callable[[Array], Array],
        row_of: Sequence[int],
        timeout_s: float,
        failed: Callable[[BaseException], None],
    ) -> None:
        self._runner = runner
        self._encode = encode
        self._row_of = row_of
        self._timeout_s = timeout_s
        self._failed = failed
        self._queue: deque[tuple[list[int], list[int]]] = deque()
        self._idle = False
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._lead = threading.Lock()
        self._ids: list[int] = []  # taken from the queue; read and written by the leader only
        self._indices: list[int] = []
        self._taken = 0
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._serve, args=(slot,), daemon=True) for slot in range(runner.slots)
        ]
        self._completed = [0] * runner.slots  # one figure for each thread: += is not atomic
        self._batches = [0] * runner.slots

    @property
    def completed(self) -> int:
        """Samples done so far."""
        return sum(self._completed)

    @property
    def batches(self) -> int:
        """Batches done so far."""
        return sum(self._batches)

    def issue(self, ids: list[int], indices: list[int]) -> None:
        """LoadGen's callback: append, and wake the leader only if it sleeps for want of samples."""
        self._queue.append((ids, indices))
        if self._idle:
            self._idle = False
            self._wake.put(None)

    def start(self) -> None:
        """Start the threads and turn the garbage collector off."""
        gc.disable()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads and turn the garbage collector on; all samples must have been completed."""
        self._stopping = True
        for _ in self._threads:
            self._wake.put(None)
        for thread in self._threads:
            thread.join()
        gc.enable()

    def _serve(self, slot: int) -> None:
        responder = Responder(self._encode, self._runner.max_batch)
        try:
            while True:
                with self._lead:
                    ids, rows = self._next_batch()
                    if not ids:
                        return
                    self._runner.submit(slot, rows)
                responder.complete(ids, self._runner.wait(slot))
                self._completed[slot] += len(ids)
                self._batches[slot] += 1
        except BaseException as error:
            self._failed(error)

    def _next_batch(self) -> tuple[list[int], list[int]]:
        """Wait for samples and return their ids and rows, or two empty lists when stopping."""
        size = self._runner.max_batch
        while not self._drain():
            if self._stopping:
                return [], []
            self._idle = True
            if not self._queue:
                self._wake.get()
            self._idle = False
        if self._timeout_s and self._waiting() < size:
            deadline = time.perf_counter() + self._timeout_s
            while self._drain() < size and (left := deadline - time.perf_counter()) > 0:
                time.sleep(min(left, _POLL_S))
        start, end = self._taken, min(self._taken + size, len(self._ids))
        ids, indices = self._ids[start:end], self._indices[start:end]
        self._taken = end
        if end == len(self._ids):
            self._ids, self._indices, self._taken = [], [], 0
        row_of = self._row_of
        return ids, [row_of[i] for i in indices]

    def _waiting(self) -> int:
        return len(self._ids) - self._taken

    def _drain(self) -> int:
        """Take what LoadGen has queued; return how many samples now wait."""
        queue = self._queue
        for _ in range(len(queue)):
            ids, indices = queue.popleft()
            if self._ids:
                self._ids += ids
                self._indices += indices
            else:
                self._ids, self._indices = ids, indices
        return self._waiting()


def sut_for(
    scenario: str,
    runner: Runner,
    encode: Callable[[Array], Array],
    row_of: Sequence[int],
    timeout_s: float,
    failed: Callable[[BaseException], None],
) -> InlineSut | BatchingSut:
    """Return the SUT that suits a scenario."""
    if scenario in ("SingleStream", "MultiStream"):
        return InlineSut(runner, encode, row_of, failed)
    return BatchingSut(runner, encode, row_of, timeout_s, failed)
