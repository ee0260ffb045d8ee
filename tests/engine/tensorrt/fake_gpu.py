"""A simulated GPU behind the CUDA seam: streams run in order and beside each other, with delays and injected failures.

Every operation checks what a real GPU would only do wrong: two operations that write one buffer at the same time,
an event that is waited for before it was recorded, memory that was not allocated.
"""

from __future__ import annotations

import itertools
import queue
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from nvkit.engine.base import Array
from nvkit.engine.tensorrt.cuda import OutOfDeviceMemoryError
from nvkit.errors import HarnessError

Work = Callable[[], None]


class Event:
    """Happens anew with each record."""

    def __init__(self) -> None:
        self.happened: threading.Event | None = None
        self.error: Exception | None = None
        self.at = 0.0


class Stream:
    """A thread that does its work in order; after a failure it only passes the error on."""

    def __init__(self) -> None:
        self.captured: list[Callable[[], None]] | None = None
        self.error: Exception | None = None
        self._work: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def put(self, work: Work) -> None:
        if self.captured is not None:
            self.captured.append(work)
        else:
            self._work.put(work)

    def end(self) -> None:
        self._work.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            try:
                work()
            except Exception as error:
                self.error = error


class FakeGpu:
    """`fail_at` maps an operation ("copy", "enqueue", "gather", "record", "launch", "run") to the call that fails.

    "run" fails while the network computes, so that the event behind it brings the error; the others fail in the call.
    """

    def __init__(self, index: int = 0, *, memory: int = 1 << 30, fail_at: dict[str, int] | None = None) -> None:
        self.index = index
        self.calls: Counter[str] = Counter()
        self.closed = False
        self._memory = memory
        self._fail_at = fail_at or {}
        self._buffers: dict[int, Array] = {}
        self._next = (index + 1) << 40
        self._streams: list[Stream] = []
        self._random = random.Random(index)
        self._writing: set[int] = set()
        self._lock = threading.Lock()
        self.violations: list[str] = []

    def count(self, what: str) -> None:
        self.calls[what] += 1
        if self._fail_at.get(what) == self.calls[what]:
            raise HarnessError(f"CUDA on GPU {self.index}: injected failure of {what}.", "None: it is a test.")

    def activate(self) -> None:
        assert not self.closed

    def pinned(self, size: int) -> Array:
        array = np.zeros(size, np.uint8)
        self._buffers[array.ctypes.data] = array
        return array

    def allocate(self, size: int) -> int:
        if size > self._memory:
            raise OutOfDeviceMemoryError(size)
        self._memory -= size
        self._next += size + 4096
        self._buffers[self._next - size] = np.zeros(size, np.uint8)
        return self._next - size

    def free(self, address: int) -> None:
        self._memory += len(self._buffers.pop(address))

    def at(self, address: int, size: int) -> Array:
        for start, buffer in self._buffers.items():
            if start <= address and address + size <= start + len(buffer):
                return buffer[address - start : address - start + size]
        raise AssertionError(f"{size} bytes at {address:#x} are not allocated")

    def stream(self) -> Stream:
        self._streams.append(Stream())
        return self._streams[-1]

    def event(self, *, spin: bool, timing: bool) -> Event:
        return Event()

    def upload(self, target: int, source: Array) -> None:
        data = np.ascontiguousarray(source).reshape(-1).view(np.uint8)
        self.at(target, len(data))[:] = data

    def copy(self, target: int, source: int, size: int, stream: Stream) -> None:
        self.count("copy")

        def work() -> None:
            with self.writes(target):
                self.at(target, size)[:] = self.at(source, size)

        stream.put(work)

    def gather(self, target: int, parameters: int, rows: int, row_bytes: int, stream: Stream) -> None:
        self.count("gather")

        def work() -> None:
            with self.writes(target):
                base = int(self.at(parameters, 8).view(np.int64)[0])
                wanted = self.at(parameters + 8, 4 * rows).view(np.int32)
                into = self.at(target, rows * row_bytes).reshape(rows, row_bytes)
                for i, row in enumerate(wanted):
                    into[i] = self.at(base + int(row) * row_bytes, row_bytes)

        stream.put(work)

    def publish(self, target: int, source: int, size: int, flag: int, stream: Stream) -> None:
        self.count("publish")

        def work() -> None:
            if stream.error is None:
                self.at(target, size)[:] = self.at(source, size)
                self.at(flag, 4).view(np.int32)[0] = 1

        stream.put(work)

    def compute(self, function: Callable[[], None], output: int, stream: Stream) -> None:
        self.count("enqueue")
        delay = self._random.random() * 0.002

        def work() -> None:
            with self.writes(output):
                time.sleep(delay)
                self.count("run")
                function()

        stream.put(work)

    def record(self, event: Event, stream: Stream) -> None:
        self.count("record")
        event.happened = happened = threading.Event()
        event.error = None

        def work() -> None:
            event.error, event.at = stream.error, time.perf_counter()
            happened.set()

        stream.put(work)

    def wait_event(self, stream: Stream, event: Event) -> None:
        happened = event.happened
        assert happened is not None, "waits for an event that was never recorded"

        def work() -> None:
            happened.wait()
            stream.error = stream.error or event.error

        stream.put(work)

    def synchronize(self, event: Event) -> None:
        assert event.happened is not None, "waits for an event that was never recorded"
        self.calls["synchronize"] += 1
        if not event.happened.wait(10):
            raise AssertionError("an event never happened")
        if event.error:
            raise event.error

    def elapsed_ms(self, start: Event, end: Event) -> float:
        return (end.at - start.at) * 1e3

    def capture(self, stream: Stream, work: Callable[[], None]) -> list[Work]:
        stream.captured = captured = []
        work()
        stream.captured = None
        return captured

    def launch(self, graph: list[Work], stream: Stream) -> None:
        self.count("launch")
        for work in graph:
            stream.put(work)

    def finish(self) -> None:
        for stream in self._streams:
            done = threading.Event()
            stream.put(done.set)
            assert done.wait(10)

    def close(self) -> None:
        for stream in self._streams:
            stream.end()
        self.closed = True

    def writes(self, address: int) -> Any:
        return _Writes(self, address)

    @property
    def used(self) -> int:
        return sum(len(b) for a, b in self._buffers.items() if a >= 1 << 40)


class _Writes:
    def __init__(self, gpu: FakeGpu, address: int) -> None:
        self._gpu, self._address = gpu, address

    def __enter__(self) -> None:
        with self._gpu._lock:
            if self._address in self._gpu._writing:
                self._gpu.violations.append(f"two operations write {self._address:#x} at the same time")
            self._gpu._writing.add(self._address)

    def __exit__(self, *_: object) -> None:
        with self._gpu._lock:
            self._gpu._writing.discard(self._address)


class FakeContext:
    """A network whose output for a sample is the first four bytes of its input, plus one."""

    def __init__(self, gpu: FakeGpu, row_bytes: int) -> None:
        self._gpu = gpu
        self._row_bytes = row_bytes
        self._addresses: dict[str, int] = {}
        self._size = 0

    def bind(self, name: str, address: int) -> None:
        self._addresses["output" if name == "output" else "input"] = address

    def set_batch(self, size: int) -> None:
        self._size = size

    def enqueue(self, stream: Stream) -> None:
        source, target, size = self._addresses["input"], self._addresses["output"], self._size
        assert size > 0

        def function() -> None:
            rows = self._gpu.at(source, size * self._row_bytes).reshape(size, self._row_bytes)
            self._gpu.at(target, 4 * size).view(np.int32)[:] = rows[:, :4].copy().view(np.int32)[:, 0] + 1

        self._gpu.compute(function, target, stream)


class FakeLengthContext:
    """A network of samples of different lengths, packed or padded: [id + 1000 segment, position + length] of a token.

    It reads what is on the device, as it is when the network's turn comes, and refuses what plugins would crash on.
    """

    def __init__(self, gpu: FakeGpu, *, packed: bool, dtype: str) -> None:
        self._gpu, self._packed, self._dtype = gpu, packed, np.dtype(dtype)
        self._addresses: dict[str, int] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self.shaped = 0

    def bind(self, name: str, address: int) -> None:
        self._addresses[name] = address

    def set_batch(self, size: int) -> None:
        raise AssertionError("samples of different lengths have no one shape")

    def set_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._shapes, self.shaped = dict(shapes), self.shaped + 1

    def enqueue(self, stream: Stream) -> None:
        shapes, target = dict(self._shapes), self._addresses["logits"]

        def read(name: str) -> Array:
            size = 4 * int(np.prod(shapes[name]))
            return self._gpu.at(self._addresses[name], size).view(np.int32).reshape(shapes[name])

        def function() -> None:
            ids, segments = read("input_ids"), read("segment_ids")
            made = np.full((*ids.shape, 2), np.nan, self._dtype)
            if self._packed:
                ends = read("cu_seqlens")
                lengths = np.diff(ends)
                assert ends[0] == 0
                assert 0 <= lengths.min() <= lengths.max() <= shapes["max_seqlen"][0]
                assert ends[-1] <= len(ids)
                for start, end in itertools.pairwise(ends):
                    made[start:end, 1] = np.arange(end - start) + (end - start)
                made[: ends[-1], 0] = (ids + 1000 * segments)[: ends[-1]]
            else:
                mask = read("input_mask")
                made[..., 0] = ids + 1000 * segments
                made[..., 1] = np.arange(ids.shape[1]) + mask.sum(axis=1)[:, None]
                made[mask == 0] = np.nan
            self._gpu.at(target, made.nbytes)[:] = made.reshape(-1).view(np.uint8)

        self._gpu.compute(function, target, stream)
