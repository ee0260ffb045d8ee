"""The system under test: LoadGen's queries to batches on a runner, and completions back. The only hot path.

What the measurements behind it say (2 cores, LoadGen 6): ConstructFastSUT hands over plain integers; an append in
the callback, one `QuerySamplesComplete` a batch and reused response objects carry several 100,000 queries/s from
Python. Waking a thread for every query, or making an object for every query, does not.

Offline and Server use leader and followers: every slot has a thread; one of them, the leader, forms a batch and
starts it, then hands the lead over while it waits for its batch. No batch passes from thread to thread. SingleStream
and MultiStream have one query in flight, which is run in LoadGen's own thread, as a hand-over would double its
latency.

Where samples have lengths, those of a query are put in order, longest first: batches are then of nearly one length,
and little is computed on padding. The order of queries stays.

Batches that compute side by side on one GPU share it, and so those that start together end together: then all slots
answer and copy at once, and nothing computes. In Offline, where nothing else draws them apart, slots begin one after
the other, spread over the time of a batch.

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

import numpy as np

from nvkit.config.settings import Settings
from nvkit.engine.base import Array, Runner
from nvkit.errors import ConfigError
from nvkit.harness.qsl import QuerySampleLibrary
from nvkit.harness.responder import Encode, Responder
from nvkit.harness.soft_drop import SoftDrop

_POLL_S = 0.0005


def longest_first(ids: list[int], indices: list[int], lengths: Array) -> tuple[list[int], list[int]]:
    """Return the ids and QSL indices of a query in the order of length; samples of one length keep their order."""
    if len(ids) == 1:
        return ids, indices
    order = np.argsort(-lengths[indices], kind="stable").tolist()
    return [ids[i] for i in order], [indices[i] for i in order]


class InlineSut:
    """SingleStream and MultiStream: runs each query in the thread that LoadGen calls.

    Arguments are those of `BatchingSut`.

    Attributes:
        completed: Samples done so far.
        batches: Batches done so far.
        deferred: 0; see `BatchingSut`.
    """

    deferred = 0

    def __init__(
        self,
        runner: Runner,
        encode: Encode,
        row_of: Sequence[int],
        failed: Callable[[BaseException], None],
        lengths: Array | None = None,
    ) -> None:
        self._runner = runner
        self._row_of = row_of
        self._failed = failed
        self._lengths = lengths
        self._responder = Responder(encode, runner.max_batch)
        self.completed = 0
        self.batches = 0

    def issue(self, ids: list[int], indices: list[int]) -> None:
        """LoadGen's callback: run one query, in as many batches as it needs."""
        runner, row_of, step = self._runner, self._row_of, self._runner.max_batch
        try:
            if self._lengths is not None:
                ids, indices = longest_first(ids, indices, self._lengths)
            for start in range(0, len(ids), step):
                # Latency counts here: what fits into one batch, as it mostly does, is not copied.
                whole = len(ids) <= step
                batch = indices if whole else indices[start : start + step]
                runner.submit(0, [row_of[i] for i in batch])
                self._responder.complete(ids if whole else ids[start : start + step], batch, runner.wait(0))
                self.batches += 1
        except BaseException as error:  # LoadGen's C++ calls this; an exception would only crash the process
            self._failed(error)
        self.completed += len(ids)

    def flush(self) -> None:
        """LoadGen's callback after the last query: there is nothing left."""

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
        lengths: Length of each sample, by QSL index; None where all have one length.
        soft_drop: Which samples are answered after the last query; None for none.
        apart_s: Least time between the first batches of the slots.
    """

    def __init__(
        self,
        runner: Runner,
        encode: Encode,
        row_of: Sequence[int],
        timeout_s: float,
        failed: Callable[[BaseException], None],
        lengths: Array | None = None,
        soft_drop: SoftDrop | None = None,
        apart_s: float = 0.0,
    ) -> None:
        self._runner = runner
        self._encode = encode
        self._row_of = row_of
        self._timeout_s = timeout_s
        self._failed = failed
        self._lengths = lengths
        self._soft_drop = soft_drop
        self._apart_s = apart_s
        self._not_before = 0.0  # when the next slot may start its first batch
        self._queue: deque[tuple[list[int], list[int]]] = deque()
        self._idle = False
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._lead = threading.Lock()
        self._ids: list[int] = []  # taken from the queue; read and written by the leader only
        self._indices: list[int] = []
        self._taken = 0
        self._flushed = False
        self._last = False  # what is taken was set aside before
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

    @property
    def deferred(self) -> int:
        """Samples that soft_drop had answered after the last query."""
        return self._soft_drop.deferred if self._soft_drop else 0

    def issue(self, ids: list[int], indices: list[int]) -> None:
        """LoadGen's callback: append, and wake the leader only if it sleeps for want of samples."""
        self._queue.append((ids, indices))
        if self._idle:
            self._idle = False
            self._wake.put(None)

    def flush(self) -> None:
        """LoadGen's callback after the last query: answer what was set aside."""
        if self._soft_drop:
            self._flushed = True
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
        first = bool(self._apart_s)
        try:
            while True:
                with self._lead:
                    ids, indices = self._next_batch()
                    if not ids:
                        return
                    if first:
                        self._stay_apart()
                        first = False
                    row_of = self._row_of
                    self._runner.submit(slot, [row_of[i] for i in indices])
                responder.complete(ids, indices, self._runner.wait(slot))
                self._completed[slot] += len(ids)
                self._batches[slot] += 1
        except BaseException as error:
            self._failed(error)

    def _stay_apart(self) -> None:
        """Wait until a slot may start its first batch."""
        left = self._not_before - time.perf_counter()
        if left > 0:
            time.sleep(left)
        self._not_before = time.perf_counter() + self._apart_s

    def _next_batch(self) -> tuple[list[int], list[int]]:
        """Wait for samples and return the ids and QSL indices of a batch, or two empty lists when stopping."""
        while self._wait():
            ids, indices = self._take()
            if self._soft_drop and not self._last:
                ids, indices = self._soft_drop.admit(ids, indices)
            if ids:
                return ids, indices
        return [], []

    def _wait(self) -> bool:
        """Wait until there are samples, and for a full batch no longer than the timeout; False when stopping."""
        size = self._runner.max_batch
        while not self._drain():
            if self._flushed and self._soft_drop:
                self._flushed = False
                self._ids, self._indices = self._soft_drop.release()
                self._last = bool(self._ids)
                continue
            if self._stopping:
                return False
            self._idle = True
            if not self._queue and not self._flushed:
                self._wake.get()
            self._idle = False
        if self._timeout_s and not self._last and self._waiting() < size:
            deadline = time.perf_counter() + self._timeout_s
            while self._drain() < size and (left := deadline - time.perf_counter()) > 0:
                time.sleep(min(left, _POLL_S))
        return True

    def _take(self) -> tuple[list[int], list[int]]:
        """Return the ids and QSL indices of the next batch."""
        start, end = self._taken, min(self._taken + self._runner.max_batch, len(self._ids))
        ids, indices = self._ids[start:end], self._indices[start:end]
        self._taken = end
        if end == len(self._ids):
            self._ids, self._indices, self._taken = [], [], 0
        return ids, indices

    def _waiting(self) -> int:
        return len(self._ids) - self._taken

    def _drain(self) -> int:
        """Take what LoadGen has queued; return how many samples now wait."""
        queue, lengths = self._queue, self._lengths
        for _ in range(len(queue)):
            ids, indices = queue.popleft()
            self._last = False
            if lengths is not None:
                ids, indices = longest_first(ids, indices, lengths)
            if self._ids:
                self._ids += ids
                self._indices += indices
            else:
                self._ids, self._indices = ids, indices
        return self._waiting()


def sut_for(
    scenario: str,
    runner: Runner,
    encode: Encode,
    library: QuerySampleLibrary,
    settings: Settings,
    failed: Callable[[BaseException], None],
    batch_s: float = 0.0,
) -> InlineSut | BatchingSut:
    """Return the SUT that suits a scenario.

    Args:
        scenario: LoadGen's name of it.
        runner: Where batches run.
        encode: Outputs of a batch to responses.
        library: The samples.
        settings: Resolved values.
        failed: Called with an exception of a slot's thread.
        batch_s: Time of a batch while all slots are busy, seconds; 0 if it is not known.

    Raises:
        ConfigError: soft_drop is set, and the samples have no lengths.
    """
    row_of, lengths = library.row_of, library.lengths
    if scenario in ("SingleStream", "MultiStream"):
        return InlineSut(runner, encode, row_of, failed, lengths)
    soft_drop = None
    if scenario == "Server" and settings.soft_drop is not None:
        if lengths is None:
            raise ConfigError("soft_drop is set, and all samples have one length.", "Leave soft_drop out.")
        share = settings.server_target_latency_percentile
        soft_drop = SoftDrop(settings.soft_drop, share, lengths, runner.max_batch)
    side_by_side = scenario == "Offline" and settings.gpu_inference_streams > 1
    apart_s = batch_s / runner.slots if side_by_side else 0.0
    return BatchingSut(runner, encode, row_of, settings.deque_timeout_usec / 1e6, failed, lengths, soft_drop, apart_s)
