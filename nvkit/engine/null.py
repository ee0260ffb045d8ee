"""A backend that completes at once with zeros. What LoadGen measures on it is the harness itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nvkit.engine.base import Array, BuildReport, Network, Ragged, required_lengths
from nvkit.engine.cpu import slots_of
from nvkit.errors import EngineBuildError, ModelError, nearest
from nvkit.store import write_json

_CARD = "engine.json"


class NullRunner:
    """Answers each batch with zeros of the output's shape; nothing is computed and nothing is copied.

    Args:
        shape: Shape of a sample's output; of a network of variable length without the length.
        dtype: Type of the output, numpy's name.
        slots: Batches in flight.
        batch_size: Most samples in a batch.
        variable: Whether samples have lengths.
    """

    def __init__(
        self, shape: Sequence[int], dtype: str, slots: int, batch_size: int, *, variable: bool = False
    ) -> None:
        self.slots = slots
        self.max_batch = batch_size
        self._zeros = np.zeros((batch_size, *shape), dtype)
        self._sizes = [0] * slots
        self._variable = variable
        self._lengths: Array | None = None
        self._chosen: list[Array] = [np.zeros(0, np.int64)] * slots

    def stage(self, inputs: Mapping[str, Array], lengths: Array | None = None) -> None:
        """Accept samples, of which nothing but their lengths is read.

        Raises:
            DataError: the network is of variable length, and there are no lengths.
        """
        if self._variable:
            self._lengths = required_lengths(lengths)
            most = self.max_batch * int(self._lengths.max())
            self._zeros = np.zeros((most, *self._zeros.shape[1:]), self._zeros.dtype)

    def submit(self, slot: int, rows: Sequence[int]) -> None:
        """Note how many samples the batch has, or how long they are."""
        self._sizes[slot] = len(rows)
        if self._lengths is not None:
            self._chosen[slot] = self._lengths[np.asarray(rows)]

    def wait(self, slot: int) -> Array | Ragged:
        """Return a zero for each sample of the batch, or for each of its rows, as a view."""
        if self._lengths is None:
            return self._zeros[: self._sizes[slot]]
        lengths = self._chosen[slot]
        return Ragged(self._zeros[: int(lengths.sum())], lengths)

    def facts(self) -> dict[str, Any]:
        """Return nothing: there is nothing to tell."""
        return {}

    def close(self) -> None:
        """Release nothing."""


class NullBackend:
    """Backend "null"."""

    name = "null"
    settings = frozenset({"batch_size", "slots"})
    scheme: str | None = None

    def unavailable(self) -> str | None:
        """Return None: it is always there."""
        return None

    def cannot_run(self, settings: Any) -> str | None:
        """Return None: what is built here runs here."""
        return None

    def identity(self, settings: Any) -> dict[str, Any]:
        """Return the name alone: its engines are the same everywhere."""
        return {"backend": self.name}

    def build(self, network: Network, settings: Any, folder: Path, cache: Path | None = None) -> BuildReport:
        """Write down the shape and type of the output.

        Raises:
            ModelError: the file is not usable, or the output is not one of its outputs.
        """
        import onnx

        from nvkit.quantize.graph import load_model

        outputs = {value.name: value.type.tensor_type for value in load_model(network.model).graph.output}
        if network.output not in outputs:
            raise ModelError(f"{network.model} has no output '{network.output}'.", nearest(network.output, outputs))
        found = outputs[network.output]
        first = 2 if network.variable else 1  # axes before it are the batch and, where samples have one, the length
        shape = [max(1, dim.dim_value) for dim in found.shape.dim[first:]]
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(found.elem_type)).name
        card = {"backend": self.name, "shape": shape, "dtype": dtype, "variable": network.variable}
        write_json(folder / _CARD, card)
        return BuildReport(layers={}, details={"output": f"zeros of {dtype} {shape}"})

    def load(self, folder: Path, settings: Any) -> NullRunner:
        """Load what `build` wrote.

        Raises:
            EngineBuildError: it is missing or damaged.
        """
        try:
            card = json.loads((folder / _CARD).read_text(encoding="utf-8"))
            slots, variable = slots_of(settings), card.get("variable", False)
            return NullRunner(card["shape"], card["dtype"], slots, settings.batch_size, variable=variable)
        except (OSError, ValueError, KeyError) as error:
            raise EngineBuildError(
                f"{folder} holds no engine of backend null: {error}.", "Run the build stage again."
            ) from error
