"""A batch in flight: where its samples lie, how they come to the network, what it waits for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np

from nvkit.engine.base import Array
from nvkit.engine.tensorrt.cuda import Gpu, Handle, OutOfDeviceMemoryError
from nvkit.engine.tensorrt.tensors import Tensor
from nvkit.errors import ConfigError, HarnessError, NvkitError

_BASE_BYTES = 8  # of the gather kernel's parameters, before the rows
# An output of at most so many bytes is written by the network into pinned host memory, where all of a batch is on one
# stream: a copy node at the end of the graph would take longer than the write. Larger ones are copied in one piece.
_DIRECT_BYTES = 4096


class Context(Protocol):
    """An engine's execution context with an optimisation profile of its own."""

    def bind(self, name: str, address: int) -> None:
        """Say where a tensor lies."""

    def set_batch(self, size: int) -> None:
        """Say how many samples the next batch has."""

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


def graph_sizes(max_batch: int) -> list[int]:
    """Return the batch sizes that have a graph: powers of two up to 32, then steps of an eighth of the largest."""
    powers = {1 << n for n in range(6) if 1 << n <= min(max_batch, 32)}
    steps = {-(-max_batch * n // 8) for n in range(1, 9)}
    return sorted(powers | {s for s in steps if s > 32} | {max_batch})


class Device:
    """One GPU, its inference streams and its staged samples."""

    def __init__(self, gpu: Gpu, inputs: Sequence[Tensor], options: Options) -> None:
        self.gpu = gpu
        self.options = options
        self.inputs = inputs
        gpu.activate()
        self.streams = (
            [] if options.run_infer_on_copy_streams else [gpu.stream() for _ in range(options.inference_streams)]
        )
        self.staged: dict[str, int] = {}
        self._sizes: dict[str, int] = {}
        self._host: dict[str, Array] = {}
        self._batches = 0

    def next_stream(self) -> Handle:
        """Return the inference streams in turn; called by the leader only."""
        self._batches += 1
        return self.streams[self._batches % len(self.streams)]

    def stage(self, inputs: Mapping[str, Array]) -> None:
        """Put samples where the slots of this GPU read them; room that is there is used again."""
        gpu = self.gpu
        gpu.activate()
        for tensor in self.inputs:
            size = tensor.row_bytes * len(inputs[tensor.name])
            if size > self._sizes.get(tensor.name, 0):  # before anything is laid out: it may not fit
                self._sizes[tensor.name] = size
                self.staged[tensor.name] = self._room(tensor.name, size)
            array = tensor.laid_out(inputs[tensor.name])
            if self.options.start_from_device:
                gpu.upload(self.staged[tensor.name], array)
            else:
                self._host[tensor.name][:size] = array.reshape(-1).view(np.uint8)

    def _room(self, name: str, size: int) -> int:
        if not self.options.start_from_device:
            self._host[name] = self.gpu.pinned(size)
            return int(self._host[name].ctypes.data)
        if name in self.staged:
            self.gpu.free(self.staged[name])
        try:
            return self.gpu.allocate(size)
        except OutOfDeviceMemoryError:
            raise ConfigError(
                f"{size:,} bytes of samples do not fit into the memory of GPU {self.gpu.index}.",
                "Give a smaller --performance-sample-count, or leave --start-from-device out.",
            ) from None


class Slot:
    """A batch in flight: context, buffers, events, graphs."""

    def __init__(self, device: Device, context: Context, number: int, output: Tensor, spin: bool) -> None:
        self._device, self._gpu, self._context = device, device.gpu, context
        self._options = options = device.options
        gpu = self._gpu
        gpu.activate()
        self._name = f"slot {number} of GPU {gpu.index}"
        self._stream = gpu.stream()
        self._parameters = {t.name: gpu.pinned(_BASE_BYTES + 4 * options.max_batch) for t in device.inputs}
        self._bases = [p[:_BASE_BYTES].view(np.int64) for p in self._parameters.values()]
        self._rows = [p[_BASE_BYTES:].view(np.int32) for p in self._parameters.values()]
        self._input = {t.name: gpu.allocate(max(1, t.row_bytes * options.max_batch)) for t in device.inputs}
        self._output_bytes = output.row_bytes
        self._offset = output.offset
        size = output.row_bytes * options.max_batch
        host = gpu.pinned(size)
        self._host = host.view(output.dtype).reshape(options.max_batch, *output.shape)
        self._host_address = int(host.ctypes.data)
        self._direct = self._alone and size <= _DIRECT_BYTES
        self._output = self._host_address if self._direct else gpu.allocate(size)
        self._bound: dict[str, int] = {}
        context.bind(output.name, self._output)
        self._batch = 0
        # Where all of a batch is on one stream there is nothing to tell apart, and latency counts.
        timing = options.timing and not self._alone
        self._copied, self._begun, self._inferred = (gpu.event(spin=spin, timing=timing) for _ in range(3))
        self._done = gpu.event(spin=spin, timing=timing)
        self._started = gpu.event(spin=spin, timing=timing) if timing else None
        self._count = 0
        self._graphs: dict[int, Handle] = {}
        self._size_of: list[int] = []  # number of samples to the size of the graph
        self.timing = Timing()

    @property
    def _alone(self) -> bool:
        """Whether all of a batch is on the slot's own stream."""
        return not self._device.streams or (self._options.copy_streams == 1 and len(self._device.streams) == 1)

    def staged(self) -> None:
        """Take note of new samples, and capture the graphs the first time."""
        self.timing = Timing()
        for base, address in zip(self._bases, self._device.staged.values(), strict=True):
            base[0] = address
        if self._options.use_graphs and not self._graphs:
            self._gpu.activate()
            most = self._options.max_batch
            sizes = [most] if self._options.fixed_batch else graph_sizes(most)
            self._size_of = [next(s for s in sizes if s >= n) for n in range(self._options.max_batch + 1)]
            for size in sizes:
                self._graphs[size] = self._captured(size)

    def submit(self, rows: Sequence[int]) -> None:
        """Start a batch of staged rows, without waiting for it."""
        gpu, stream, count = self._gpu, self._stream, len(rows)
        try:
            gpu.activate()
            self._count = count
            if self._started:
                gpu.record(self._started, stream)
            if self._graphs:
                size = self._size_of[count]
                for target in self._rows:
                    target[:count] = rows
                    if count < size:
                        target[count:size] = rows[-1]  # the graph computes these too; they must be rows that exist
                if self._alone:
                    gpu.launch(self._graphs[size], stream)
                    gpu.record(self._done, stream)
                    return
                self._gather(size)
                self._compute(lambda on: gpu.launch(self._graphs[size], on))
            else:
                if self._options.fixed_batch:
                    rows = [*rows, *[rows[-1]] * (self._options.max_batch - count)]
                self._bring(rows)
                self._size(len(rows))
                self._compute(self._context.enqueue)
            self._copy_back(count)
            gpu.record(self._done, stream)
        except NvkitError as error:
            raise self._failure("start", error) from error

    def wait(self) -> Array:
        """Wait for the batch and return its outputs, a view that the next batch overwrites."""
        gpu = self._gpu
        gpu.activate()
        try:
            gpu.synchronize(self._done)
        except NvkitError as error:
            raise self._failure("finish", error) from error
        self._batch += 1
        if self._started:
            self._time(self._started)
        found = self._host[: self._count]
        if self._offset:
            found += self._offset
        return found

    def _copy_back(self, count: int) -> None:
        if not self._direct:
            self._gpu.copy(self._host_address, self._output, self._output_bytes * count, self._stream)

    def _bring(self, rows: Sequence[int]) -> None:
        """Get the rows to where the network reads them."""
        count, first = len(rows), rows[0]
        together = rows[-1] - first == count - 1 and (count == 1 or _consecutive(rows, first))
        for i, tensor in enumerate(self._device.inputs):
            staged, own = self._device.staged[tensor.name], self._input[tensor.name]
            if together and self._options.start_from_device:
                self._bind(tensor.name, staged + first * tensor.row_bytes)
                continue
            self._bind(tensor.name, own)
            if together:
                self._gpu.copy(own, staged + first * tensor.row_bytes, count * tensor.row_bytes, self._stream)
            else:
                self._rows[i][:count] = rows
                self._gather_one(tensor, count)

    def _gather(self, count: int) -> None:
        for tensor in self._device.inputs:
            self._gather_one(tensor, count)

    def _gather_one(self, tensor: Tensor, count: int) -> None:
        parameters = int(self._parameters[tensor.name].ctypes.data)
        self._gpu.gather(self._input[tensor.name], parameters, count, tensor.row_bytes, self._stream)

    def _compute(self, enqueue: Callable[[Handle], None]) -> None:
        """Put the network behind the input and the slot's stream behind the network."""
        gpu = self._gpu
        if self._alone:
            enqueue(self._stream)
            return
        on = self._device.next_stream()
        gpu.record(self._copied, self._stream)
        gpu.wait_event(on, self._copied)
        if self._started:
            gpu.record(self._begun, on)
        enqueue(on)
        gpu.record(self._inferred, on)
        gpu.wait_event(self._stream, self._inferred)

    def _captured(self, size: int) -> Handle:
        """Return the graph of a batch size: of all of it where it has a stream of its own, else of the network."""
        gpu, stream, context = self._gpu, self._stream, self._context
        for rows in self._rows:
            rows[:size] = 0
        for tensor in self._device.inputs:
            self._bind(tensor.name, self._input[tensor.name])
        self._size(size)
        self._gather(size)
        context.enqueue(stream)  # TensorRT does what a new shape needs in the first call, which no graph may hold
        gpu.finish()

        def whole() -> None:
            self._gather(size)
            context.enqueue(stream)
            self._copy_back(size)

        return gpu.capture(stream, whole if self._alone else lambda: context.enqueue(stream))

    def _bind(self, name: str, address: int) -> None:
        if self._bound.get(name) != address:
            self._context.bind(name, address)
            self._bound[name] = address

    def _size(self, count: int) -> None:
        if self._bound.get("") != count:
            self._context.set_batch(count)
            self._bound[""] = count

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


def _consecutive(rows: Sequence[int], first: int) -> bool:
    return isinstance(rows, range) or list(rows) == list(range(first, first + len(rows)))
