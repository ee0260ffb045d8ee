"""What every batch in flight has, whatever its samples are: a stream, events, its times, and errors that name it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np

from nvkit.engine.tensorrt.cuda import Gpu, Handle
from nvkit.errors import HarnessError, NvkitError

_FLAG_BYTES = 4
# A flag is polled with the interpreter held, which other threads want, and an error of the GPU sets no flag.
_POLL_S = 0.02
_PUBLISHED_BYTES = 64 << 10  # one block copies so much in the time that a copy engine takes to start


class Context(Protocol):
    """An engine's execution context with an optimisation profile of its own."""

    def bind(self, name: str, address: int) -> None:
        """Say where a tensor lies."""

    def set_batch(self, size: int) -> None:
        """Say how many samples the next batch has, where all have one shape."""

    def set_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Say what shapes the inputs of the next batch have."""

    def enqueue(self, stream: Handle) -> None:
        """Put the network on a stream."""


@dataclass(frozen=True)
class Options:
    """How a runner uses its GPUs; names and meaning are those of NVIDIA's harness.

    Attributes:
        max_batch: Most samples in a batch.
        copy_streams: Batches in flight on each GPU.
        inference_streams: Streams that the networks of these batches share.
        use_graphs: Launch through CUDA graphs.
        start_from_device: Stage samples in device memory, else in pinned host memory.
        run_infer_on_copy_streams: One stream for all of a batch.
        fixed_batch: The engine knows no other batch than the largest.
        timing: Measure copy, network and copy back of every batch.
    """

    max_batch: int
    copy_streams: int = 1
    inference_streams: int = 1
    use_graphs: bool = False
    start_from_device: bool = False
    run_infer_on_copy_streams: bool = False
    fixed_batch: bool = False
    timing: bool = False


@dataclass
class Timing:
    """Sums over batches of GPU time, ms: input, waiting for the network's stream, network, output."""

    batches: int = 0
    samples: int = 0
    copy_in: float = 0.0
    wait: float = 0.0
    compute: float = 0.0
    copy_out: float = 0.0

    def add(self, other: Timing) -> None:
        """Add the sums of another."""
        for key, value in asdict(other).items():
            setattr(self, key, getattr(self, key) + value)


class Streams:
    """One GPU and the inference streams that its batches share."""

    def __init__(self, gpu: Gpu, options: Options) -> None:
        self.gpu = gpu
        self.options = options
        gpu.activate()
        self.streams = (
            [] if options.run_infer_on_copy_streams else [gpu.stream() for _ in range(options.inference_streams)]
        )
        self._batches = 0

    def next_stream(self) -> Handle:
        """Return the inference streams in turn; called by the leader only."""
        self._batches += 1
        return self.streams[self._batches % len(self.streams)]


class Flight:
    """A place for a batch in flight on one GPU.

    Args:
        streams: The GPU and its inference streams.
        number: Of this place on its GPU.
        spin: Whether a thread that waits for the batch spins.
    """

    def __init__(self, streams: Streams, number: int, *, spin: bool) -> None:
        self._streams, self._gpu, self._options = streams, streams.gpu, streams.options
        gpu = self._gpu
        gpu.activate()
        self._name = f"slot {number} of GPU {gpu.index}"
        self._stream = gpu.stream()
        self._batch = 0
        # Where all of a batch is on one stream there is nothing to tell apart, and latency counts.
        timing = self._options.timing and not self._alone
        self._copied, self._begun, self._inferred = (gpu.event(spin=spin, timing=timing) for _ in range(3))
        self._done = gpu.event(spin=spin, timing=timing)
        self._started = gpu.event(spin=spin, timing=timing) if timing else None
        self._count = 0
        self.timing = Timing()
        flag = gpu.pinned(_FLAG_BYTES)
        self._flag_address = int(flag.ctypes.data)
        self._flag = flag.view(np.int32).data  # an element of it is read in a fraction of numpy's time
        self._polls = spin and self._alone

    @property
    def _alone(self) -> bool:
        """Whether all of a batch is on the slot's own stream."""
        return not self._streams.streams or (self._options.copy_streams == 1 and len(self._streams.streams) == 1)

    def _begin(self, count: int) -> None:
        self._gpu.activate()
        self._count = count
        self._flag[0] = 0
        if self._started:
            self._gpu.record(self._started, self._stream)

    def _compute(self, enqueue: Callable[[Handle], None]) -> None:
        """Put the network behind the input and the slot's stream behind the network."""
        gpu = self._gpu
        if self._alone:
            enqueue(self._stream)
            return
        on = self._streams.next_stream()
        gpu.record(self._copied, self._stream)
        gpu.wait_event(on, self._copied)
        if self._started:
            gpu.record(self._begun, on)
        enqueue(on)
        gpu.record(self._inferred, on)
        gpu.wait_event(self._stream, self._inferred)

    def _land(self) -> None:
        """Wait for the batch.

        Raises:
            HarnessError: it failed; the message names it.
        """
        try:
            if not (self._polls and self._published()):
                self._gpu.activate()
                self._gpu.synchronize(self._done)
        except NvkitError as error:
            raise self._failure("finish", error) from error
        self._batch += 1
        if self._started:
            self._time(self._started)

    def _fetch_output(self, target: int, source: int, size: int) -> None:
        """Put the copy of an output to the host on the slot's stream, and the flag behind it where it is polled."""
        small = self._polls and size <= _PUBLISHED_BYTES
        if not small:
            self._gpu.copy(target, source, size, self._stream)
        if self._polls:
            self._gpu.publish(target, source, size if small else 0, self._flag_address, self._stream)

    def _published(self) -> bool:
        """Poll the flag; False where it takes so long that an event serves as well, or never comes."""
        flag, clock = self._flag, time.perf_counter
        deadline = clock() + _POLL_S
        while not flag[0]:
            if clock() > deadline:
                return False
        return True

    def _time(self, started: Handle) -> None:
        elapsed, timing = self._gpu.elapsed_ms, self.timing
        timing.batches += 1
        timing.samples += self._count
        timing.copy_in += elapsed(started, self._copied)
        timing.wait += elapsed(self._copied, self._begun)
        timing.compute += elapsed(self._begun, self._inferred)
        timing.copy_out += elapsed(self._inferred, self._done)

    def _failure(self, what: str, error: NvkitError) -> HarnessError:
        return HarnessError(
            f"Batch {self._batch + 1} ({self._count} samples) on {self._name} did not {what}: {error.what}", error.fix
        )
