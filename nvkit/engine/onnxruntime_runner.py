"""The runner of backend "onnxruntime": the part of it that is timed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nvkit.engine.base import Array, Ragged, required_lengths
from nvkit.errors import DataError, nearest

if TYPE_CHECKING:
    import onnxruntime


class OnnxRuntimeRunner:
    """Sessions on an optimised network.

    `submit` only prepares the input: a view of the staged samples where their rows follow one another, else a copy
    into the slot's own batch buffer. Where samples have lengths, the batch is cut to its longest one, always a copy.
    `wait` computes, on the calling thread and its session's pool.

    Args:
        sessions: One for each slot; may be the same one.
        output: Name of the output to return.
        batch_size: Most samples in a batch.
        variable: Whether axis 1 of every input and of the output is the length of a sample.
    """

    def __init__(
        self,
        sessions: Sequence[onnxruntime.InferenceSession],
        output: str,
        batch_size: int,
        *,
        variable: bool = False,
    ) -> None:
        self.slots = len(sessions)
        self.max_batch = batch_size
        self._runs = [session.run for session in sessions]
        self._outputs = [output]
        self._inputs = {value.name: value for value in sessions[0].get_inputs()}
        self._staged: list[tuple[str, Array]] = []
        self._buffers: list[dict[str, Array]] = [{} for _ in sessions]
        self._feeds: list[dict[str, Array]] = [{} for _ in sessions]
        self._variable = variable
        self._lengths: Array | None = None
        self._cuts: list[Array] = [np.zeros(0, np.int64) for _ in sessions]

    def stage(self, inputs: Mapping[str, Array], lengths: Array | None = None) -> None:
        """Keep the arrays; contiguous ones are not copied.

        Raises:
            DataError: names, types or shapes are not the network's, or it needs lengths and there are none.
        """
        for name, value in self._inputs.items():
            if name not in inputs:
                raise DataError(f"The samples lack the network's input '{name}'.", nearest(name, inputs))
            _check_input(name, value, inputs[name])
        self._staged = [(name, np.ascontiguousarray(inputs[name])) for name in self._inputs]
        for buffers in self._buffers:
            buffers.clear()
        if self._variable:
            self._lengths = required_lengths(lengths)

    def submit(self, slot: int, rows: Sequence[int]) -> None:
        """Point the slot's next run at these rows."""
        count = len(rows)
        first = rows[0]
        feeds = self._feeds[slot]
        if self._lengths is not None:
            chosen = np.asarray(rows)
            self._cuts[slot] = cut = self._lengths[chosen]
            longest = int(cut.max())
            for name, array in self._staged:
                feeds[name] = np.ascontiguousarray(array[chosen, :longest])
            return
        if count == 1 or _consecutive(rows, first, count):
            for name, array in self._staged:
                feeds[name] = array[first : first + count]
            return
        buffers = self._buffers[slot]
        for name, array in self._staged:
            if name not in buffers:
                buffers[name] = np.empty((self.max_batch, *array.shape[1:]), array.dtype)
            target = buffers[name][:count]
            # With mode "raise" numpy gathers into a temporary array first.
            np.take(array, rows, axis=0, out=target, mode="clip")
            feeds[name] = target

    def wait(self, slot: int) -> Array | Ragged:
        """Run the slot's batch and return the output, of samples of different lengths without the padding."""
        output: Array = self._runs[slot](self._outputs, self._feeds[slot])[0]
        if self._lengths is None:
            return output
        lengths = self._cuts[slot]
        return Ragged(output[np.arange(output.shape[1]) < lengths[:, None]], lengths)

    def facts(self) -> dict[str, Any]:
        """Return nothing: slots and threads stand in the settings."""
        return {}

    def close(self) -> None:
        """Drop the sessions and the samples."""
        self._runs = []
        self._staged = []
        self._buffers = []
        self._feeds = []


def _consecutive(rows: Sequence[int], first: int, count: int) -> bool:
    if rows[-1] - first != count - 1:
        return False
    if isinstance(rows, np.ndarray):
        return bool((rows[1:] - rows[:-1] == 1).all())
    return isinstance(rows, range) or list(rows) == list(range(first, first + count))


def _check_input(name: str, value: Any, array: Array) -> None:
    wanted = value.type.removeprefix("tensor(").rstrip(")")
    given = {"float32": "float", "float64": "double"}.get(array.dtype.name, array.dtype.name)
    sizes = zip(value.shape[1:], array.shape[1:], strict=False)
    fits = len(value.shape) == array.ndim and all(not isinstance(a, int) or a == b for a, b in sizes)
    if wanted != given or not fits:
        raise DataError(
            f"Input '{name}' takes {wanted} {value.shape}; the samples are {given} {list(array.shape)}.",
            "Preprocess the samples for this network.",
        )
