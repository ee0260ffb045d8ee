"""A batch in flight of samples of different lengths: written into page-locked memory, copied, computed, copied back."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence

import numpy as np

from nvkit.engine.base import Array, Ragged
from nvkit.engine.tensorrt.cuda import Handle
from nvkit.engine.tensorrt.flight import Context, Flight, Streams, Timing
from nvkit.engine.tensorrt.packed import CUMULATIVE, LONGEST, Extent, Form
from nvkit.engine.tensorrt.tensors import Tensor
from nvkit.errors import DataError, NvkitError, nearest

_MOST_GRAPHS = 256  # on a GPU: NVIDIA's harness counts 43 MiB for each of BERT-large and takes 400
_ITEM = 4  # bytes of a token


class Tokens:
    """Staged samples without their padding, in host memory: slots of all GPUs write their batches from here.

    Args:
        form: Which inputs samples have, and how long they may be.
    """

    def __init__(self, form: Form) -> None:
        self._form = form
        self._tokens: Array = np.empty((len(form.sources), 0), np.int32)
        self._starts: Array = np.empty(0, np.int64)
        self.lengths: Array = np.empty(0, np.int32)

    def stage(self, inputs: Mapping[str, Array], lengths: Array | None) -> None:
        """Take samples, padded to one length.

        Raises:
            DataError: an input is missing, is not int32 [samples, length], or a length is not in 1 to the longest.
        """
        if lengths is None:
            raise DataError("The samples come without lengths.", "Run the preprocess stage again.")
        found = []
        for name in self._form.sources:
            if name not in inputs:
                raise DataError(f"The samples lack the engine's input '{name}'.", nearest(name, inputs))
            array = inputs[name]
            if array.dtype != np.int32 or array.ndim != 2 or len(array) != len(lengths):
                raise DataError(
                    f"Input '{name}' takes int32 [{len(lengths)}, length]; the samples are {array.dtype} "
                    f"{list(array.shape)}.",
                    "Preprocess the samples for this engine: --input-dtype int32.",
                )
            found.append(array)
        width = min(self._form.longest, *(array.shape[1] for array in found))
        if len(lengths) and not 1 <= lengths.min() <= lengths.max() <= width:
            raise DataError(
                f"The samples have {lengths.min()} to {lengths.max()} tokens.", f"The engine takes 1 to {width}."
            )
        own = np.arange(max(array.shape[1] for array in found)) < np.asarray(lengths)[:, None]
        self._tokens = np.stack([array[own[:, : array.shape[1]]] for array in found])
        self.lengths = np.asarray(lengths, np.int32)
        self._starts = np.concatenate([[0], np.cumsum(self.lengths, dtype=np.int64)])

    def parts(self, rows: Sequence[int]) -> tuple[list[Array], Array]:
        """Return the tokens of each row, as views [sources, its length], and the lengths."""
        wanted = np.asarray(rows, np.int64)
        tokens, starts, ends = self._tokens, self._starts[wanted].tolist(), self._starts[wanted + 1].tolist()
        return [tokens[:, start:end] for start, end in zip(starts, ends, strict=True)], self.lengths[wanted]


class PackedSlot(Flight):
    """A place for a batch: context, buffers for the largest one, events, graphs.

    Args:
        streams: The GPU and its inference streams.
        context: The engine's execution context of this place.
        number: Of this place on its GPU.
        form: How its batches lie in memory.
        output: The engine's output, [rows, ...] or [samples, length, ...].
        tokens: The staged samples.
        spin: Whether a thread that waits for the batch spins.
        graphs_longest: Tokens of the longest sample that graphs are made for.
    """

    def __init__(
        self,
        streams: Streams,
        context: Context,
        number: int,
        form: Form,
        output: Tensor,
        tokens: Tokens,
        *,
        spin: bool,
        graphs_longest: int,
    ) -> None:
        super().__init__(streams, number, spin=spin)
        gpu, most = self._gpu, self._options.max_batch
        self._context, self._form, self._tokens, self._graphs_longest = context, form, tokens, graphs_longest
        whole = Extent(most * form.longest, most, form.longest)
        rows = form.rows(whole)
        host = gpu.pinned(_ITEM * rows * len(form.sources))
        self._block = host.view(np.int32).reshape(len(form.sources), rows)
        ends = gpu.pinned(_ITEM * (most + 1))
        self._ends = ends.view(np.int32)
        self._from = {name: int(row.ctypes.data) for name, row in zip(form.sources, self._block, strict=True)}
        self._from[CUMULATIVE] = int(ends.ctypes.data)
        self._to: dict[str, int] = {}
        for name, shape in form.shapes(whole).items():
            self._to[name] = gpu.allocate(_ITEM * int(np.prod(shape)))
            context.bind(name, self._to[name])
        self._dtype = np.dtype(output.dtype)
        self._width = int(np.prod([size for size in output.shape if size > 0], dtype=np.int64))
        self._output = gpu.allocate(rows * self._width * self._dtype.itemsize)
        context.bind(output.name, self._output)
        made = gpu.pinned(rows * self._width * self._dtype.itemsize)
        self._host_address = int(made.ctypes.data)
        self._host = made.view(self._dtype).reshape(rows, self._width)
        self._floats = np.empty((rows, self._width), np.float32)
        self._extent = self._sized = Extent(0, 0, 0)
        self._lengths: Array = np.empty(0, np.int32)
        self._graphs: dict[Extent, Handle] = {}
        self._extents: list[Extent] = []

    @property
    def graphs(self) -> int:
        """Number of CUDA graphs."""
        return len(self._graphs)

    def staged(self) -> None:
        """Take note of new samples, and capture the graphs the first time."""
        self.timing = Timing()
        if self._options.use_graphs and not self._graphs:
            self._gpu.activate()
            most = max(1, _MOST_GRAPHS // self._options.copy_streams)
            self._extents = self._form.graphs(self._options.max_batch, self._graphs_longest, most)
            for extent in self._extents:
                self._graphs[extent] = self._captured(extent)

    def submit(self, rows: Sequence[int]) -> None:
        """Start a batch of staged rows, without waiting for it."""
        gpu, stream = self._gpu, self._stream
        try:
            parts, self._lengths = self._tokens.parts(rows)
            own = Extent(int(self._lengths.sum()), len(rows), int(self._lengths.max()))
            self._extent, graph = self._graph_for(own)
            self._form.fill(self._block, self._ends, parts, self._lengths, self._extent)
            self._begin(len(rows))
            if graph is not None and self._alone:
                gpu.launch(graph, stream)
            else:
                self._bring(self._extent)
                if graph is None:
                    self._size(self._extent)
                    self._compute(self._context.enqueue)
                else:
                    self._compute(lambda on: gpu.launch(graph, on))
                self._fetch(self._extent)
            gpu.record(self._done, stream)
        except NvkitError as error:
            raise self._failure("start", error) from error

    def wait(self) -> Ragged:
        """Wait for the batch and return each sample's rows, float32; the next batch overwrites them."""
        self._land()
        found = self._form.select(self._host, self._lengths, self._extent)
        if self._dtype != np.float32:
            floats = self._floats[: len(found)]
            np.copyto(floats, found)
            found = floats
        return Ragged(found, self._lengths)

    def _graph_for(self, own: Extent) -> tuple[Extent, Handle | None]:
        """Return the smallest graph with room for a batch and its extent, or the batch's own extent and None."""
        for extent in self._extents[bisect_left(self._extents, Extent(own.tokens, 0, 0)) :]:
            if extent.covers(own):
                return extent, self._graphs[extent]
        return own, None

    def _bring(self, extent: Extent) -> None:
        for name, shape in self._form.shapes(extent).items():
            if name != LONGEST:
                self._gpu.copy(self._to[name], self._from[name], _ITEM * int(np.prod(shape)), self._stream)

    def _fetch(self, extent: Extent) -> None:
        size = self._form.rows(extent) * self._width * self._dtype.itemsize
        self._fetch_output(self._host_address, self._output, size)

    def _size(self, extent: Extent) -> None:
        if extent != self._sized:
            self._context.set_shapes(self._form.shapes(extent))
            self._sized = extent

    def _captured(self, extent: Extent) -> Handle:
        """Return the graph of an extent: of all of a batch where it has a stream of its own, else of the network."""
        gpu, stream, context = self._gpu, self._stream, self._context
        share = [int(extent.tokens * (n + 1) / extent.samples) for n in range(extent.samples)]
        self._block[:, : self._form.rows(extent)] = 0
        self._ends[: extent.samples + 1] = [0, *share]
        self._size(extent)
        self._bring(extent)
        context.enqueue(stream)  # TensorRT does what a new shape needs in the first call, which no graph may hold
        gpu.finish()

        def whole() -> None:
            self._bring(extent)
            context.enqueue(stream)
            self._fetch(extent)

        return gpu.capture(stream, whole if self._alone else lambda: context.enqueue(stream))
