"""A batch in flight: where its samples lie, how they come to the network, what it waits for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nvkit.engine.base import Array
from nvkit.engine.tensorrt.cuda import Gpu, Handle, OutOfDeviceMemoryError
from nvkit.engine.tensorrt.flight import Context, Flight, Options, Streams, Timing
from nvkit.engine.tensorrt.tensors import Tensor
from nvkit.errors import ConfigError, NvkitError

_BASE_BYTES = 8  # of the gather kernel's parameters, before the rows


def graph_sizes(max_batch: int) -> list[int]:
    """Return the batch sizes that have a graph: powers of two up to 32, then steps of an eighth of the largest."""
    powers = {1 << n for n in range(6) if 1 << n <= min(max_batch, 32)}
    steps = {-(-max_batch * n // 8) for n in range(1, 9)}
    return sorted(powers | {s for s in steps if s > 32} | {max_batch})


class Device(Streams):
    """One GPU, its inference streams and its staged samples."""

    def __init__(self, gpu: Gpu, inputs: Sequence[Tensor], options: Options) -> None:
        super().__init__(gpu, options)
        self.inputs = inputs
        self.staged: dict[str, int] = {}
        self._sizes: dict[str, int] = {}
        self._host: dict[str, Array] = {}

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


class Slot(Flight):
    """A batch in flight: context, buffers, events, graphs."""

    def __init__(self, device: Device, context: Context, number: int, output: Tensor, spin: bool) -> None:
        super().__init__(device, number, spin=spin)
        self._device, self._context = device, context
        gpu, options = self._gpu, self._options
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
        self._output = gpu.allocate(size)
        self._bound: dict[str, int] = {}
        context.bind(output.name, self._output)
        self._graphs: dict[int, Handle] = {}
        self._size_of: list[int] = []  # number of samples to the size of the graph

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
            self._begin(count)
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
        self._land()
        found = self._host[: self._count]
        if self._offset:
            found += self._offset
        return found

    def _copy_back(self, count: int) -> None:
        self._fetch_output(self._host_address, self._output, self._output_bytes * count)

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


def _consecutive(rows: Sequence[int], first: int) -> bool:
    return isinstance(rows, range) or list(rows) == list(range(first, first + len(rows)))
