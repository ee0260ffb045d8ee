"""The Backend seam: ONNX to engine on disk to runner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from nvkit.errors import DataError

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Ragged:
    """What belongs to each sample of a batch where samples have different lengths, one after the other.

    Attributes:
        values: Shape [sum of lengths, *rest].
        lengths: Rows of `values` of each sample, int, in the order of the samples.
    """

    values: Array
    lengths: Array

    def rows(self) -> list[Array]:
        """Return each sample's rows, as views."""
        return np.split(self.values, np.cumsum(self.lengths)[:-1])


@dataclass(frozen=True)
class Network:
    """What a backend builds an engine from.

    Attributes:
        model: The fp32 ONNX file.
        ranges: JSON file of activation ranges (`nvkit.quantize.Ranges`), or None for a float engine.
        quantized: The explicit Q/DQ ONNX file made from these ranges, or None for a float engine.
        output: Name of the graph output that responses are encoded from.
        background: Leading classes of that output that no response names; a backend need not compute them.
        input_scale: What one step of an int8 sample stands for.
        variable: Whether axis 1 of every input and of the output is the length of a sample, and may be cut to it.
    """

    model: Path
    ranges: Path | None
    quantized: Path | None
    output: str
    background: int = 0
    input_scale: float = 1.0
    variable: bool = False


@dataclass(frozen=True)
class BuildReport:
    """What a build says of itself.

    Attributes:
        layers: Operator type to count, after optimisation.
        details: Further facts for people, e.g. {"nodes before": 175}.
    """

    layers: Mapping[str, int]
    details: Mapping[str, Any]


class Runner(Protocol):
    """An engine in memory, ready to run.

    A runner has `slots` places; at most one batch is in flight on each. Calls for different slots may come from
    different threads at the same time; calls for one slot never overlap.
    """

    slots: int
    max_batch: int

    def stage(self, inputs: Mapping[str, Array], lengths: Array | None = None) -> None:
        """Put samples where inference reads them (axis 0 is the sample), before the test starts.

        Args:
            inputs: Input name to samples, padded to one length where lengths differ.
            lengths: Length of each sample, int, of a network of variable length; else None.
        """

    def submit(self, slot: int, rows: Sequence[int]) -> None:
        """Start a batch of staged samples, given by their rows, on a free slot, without waiting for it."""

    def wait(self, slot: int) -> Array | Ragged:
        """Wait for the batch of a slot; return the output, axis 0 in the order of the rows.

        A network of variable length gives each sample's rows without padding. The arrays may be overwritten by the
        next batch on this slot.
        """

    def facts(self) -> dict[str, Any]:
        """Return what a reader of the result wants to know of the runner: devices, options in use, times."""

    def close(self) -> None:
        """Release everything."""


class Backend(Protocol):
    """How to run: builds engines and loads them.

    Attributes:
        name: As in parameters/.
        settings: The settings that it reads.
        scheme: The Q/DQ scheme that it runs fastest (`nvkit.quantize.SCHEMES`), or None if it computes nothing.
    """

    name: str
    settings: frozenset[str]
    scheme: str | None

    def unavailable(self) -> str | None:
        """Return why this backend cannot be used here and what to install, or None if it can."""

    def identity(self, settings: Any) -> dict[str, Any]:
        """Return what an engine depends on beside the network: versions, device, options."""

    def cannot_run(self, settings: Any) -> str | None:
        """Return why engines that are built here cannot run here, and what to do, or None if they can."""

    def build(self, network: Network, settings: Any, folder: Path, cache: Path | None = None) -> BuildReport:
        """Write an engine into `folder`; `cache` is a folder that is kept between builds, to shorten them."""

    def load(self, folder: Path, settings: Any) -> Runner:
        """Load an engine from `folder`."""


def infer(runner: Runner, inputs: Mapping[str, Array], lengths: Array | None = None) -> Array | Ragged:
    """Run all samples of `inputs` through one slot, batch by batch, and return the whole output.

    Args:
        runner: The engine.
        inputs: As of `Runner.stage`.
        lengths: As of `Runner.stage`.
    """
    runner.stage(inputs, lengths)
    count = len(next(iter(inputs.values())))
    parts = []
    for start in range(0, count, runner.max_batch):
        runner.submit(0, range(start, min(start + runner.max_batch, count)))
        parts.append(joined([runner.wait(0)]))  # a copy: the next batch overwrites it
    return joined(parts)


def required_lengths(lengths: Array | None) -> Array:
    """Return the lengths of the samples of a network of variable length.

    Raises:
        DataError: there are none.
    """
    if lengths is None:
        raise DataError(
            "The engine takes samples of different lengths, and the samples come without lengths.",
            "Preprocess the samples again, or build the engine for samples of one length.",
        )
    return np.asarray(lengths)


def joined(parts: Sequence[Array | Ragged]) -> Array | Ragged:
    """Return a copy of batches, of which at least one is there and all are of one kind, one after the other."""
    ragged = [part for part in parts if isinstance(part, Ragged)]
    if ragged:
        return Ragged(np.concatenate([p.values for p in ragged]), np.concatenate([p.lengths for p in ragged]))
    return np.concatenate([part for part in parts if not isinstance(part, Ragged)])


def sample_rows(values: Array | Ragged) -> Sequence[Array]:
    """Return what belongs to each sample, as views."""
    return values.rows() if isinstance(values, Ragged) else list(values)
