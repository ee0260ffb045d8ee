"""A backend that completes at once with zeros. What LoadGen measures on it is the harness itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nvkit.engine.base import Array, BuildReport, Network
from nvkit.engine.cpu import slots_of
from nvkit.errors import EngineBuildError, ModelError, nearest
from nvkit.store import write_json

_CARD = "engine.json"


class NullRunner:
    """Answers each batch with zeros of the output's shape; nothing is computed and nothing is copied."""

    def __init__(self, shape: Sequence[int], dtype: str, slots: int, batch_size: int) -> None:
        self.slots = slots
        self.max_batch = batch_size
        self._zeros = np.zeros((batch_size, *shape), dtype)
        self._sizes = [0] * slots

    def stage(self, inputs: Mapping[str, Array]) -> None:
        """Accept samples; nothing reads them."""

    def submit(self, slot: int, rows: Sequence[int]) -> None:
        """Note how many samples the batch has."""
        self._sizes[slot] = len(rows)

    def wait(self, slot: int) -> Array:
        """Return a zero for each sample of the batch, as a view."""
        return self._zeros[: self._sizes[slot]]

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
        shape = [max(1, dim.dim_value) for dim in found.shape.dim[1:]]
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(found.elem_type)).name
        write_json(folder / _CARD, {"backend": self.name, "shape": shape, "dtype": dtype})
        return BuildReport(layers={}, details={"output": f"zeros of {dtype} {shape}"})

    def load(self, folder: Path, settings: Any) -> NullRunner:
        """Load what `build` wrote.

        Raises:
            EngineBuildError: it is missing or damaged.
        """
        try:
            card = json.loads((folder / _CARD).read_text(encoding="utf-8"))
            return NullRunner(card["shape"], card["dtype"], slots_of(settings), settings.batch_size)
        except (OSError, ValueError, KeyError) as error:
            raise EngineBuildError(
                f"{folder} holds no engine of backend null: {error}.", "Run the build stage again."
            ) from error
