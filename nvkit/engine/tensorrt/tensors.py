"""Inputs and outputs of an engine: their types, shapes and layouts, as its card tells of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nvkit.engine.base import Array


@dataclass(frozen=True)
class Tensor:
    """An input or output of an engine.

    Attributes:
        name: As in the network.
        dtype: numpy's name of the type.
        shape: Shape of one sample as numpy has it.
        vector: Channels that lie side by side in the engine's layout: 1 linear, 4 chw4, 32 chw32.
        offset: What is added to each value of an output: what the device did not compute.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    vector: int = 1
    offset: int = 0

    @property
    def row_bytes(self) -> int:
        """Bytes of one sample in the engine's layout."""
        channels = -(-self.shape[0] // self.vector) * self.vector / self.shape[0] if self.vector > 1 else 1
        return int(np.prod(self.shape, dtype=np.int64) * channels) * np.dtype(self.dtype).itemsize

    def laid_out(self, samples: Array) -> Array:
        """Return samples [n, *shape] in the engine's layout; a vector's missing channels are zeros."""
        if self.vector == 1:
            return np.ascontiguousarray(samples)
        count, channels, *rest = samples.shape
        groups = -(-channels // self.vector)
        padded = np.zeros((count, groups * self.vector, *rest), samples.dtype)
        padded[:, :channels] = samples
        grouped = padded.reshape(count, groups, self.vector, *rest)
        return np.ascontiguousarray(np.moveaxis(grouped, 2, -1))


def tensors_of(card: Mapping[str, Any]) -> tuple[list[Tensor], Tensor]:
    """Return the inputs and the output that an engine's card tells of."""
    return [_tensor(told) for told in card["inputs"]], _tensor(card["outputs"][0])


def _tensor(told: Mapping[str, Any]) -> Tensor:
    vector = {"chw4": 4, "chw32": 32}.get(told.get("format", "linear"), 1)
    return Tensor(told["name"], told["dtype"], tuple(told["shape"]), vector, told.get("offset", 0))
