"""The Backend seam: ONNX to engine on disk to runner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


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
    """

    model: Path
    ranges: Path | None
    quantized: Path | None
    output: str
    background: int = 0
    input_scale: float = 1.0


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

    def stage(self, inputs: Mapping[str, Array]) -> None:
        """Put samples where inference reads them (axis 0 is the sample), before the test starts."""

    def submit(self, slot: int, rows: Sequence[int]) -> None:
        """Start a batch of staged samples, given by their rows, on a free slot, without waiting for it."""

    def wait(self, slot: int) -> Array:
        """Wait for the batch of a slot; return the output, axis 0 in the order of the rows.

        The array may be overwritten by the next batch on this slot.
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


def infer(runner: Runner, inputs: Mapping[str, Array]) -> Array:
    """Run all samples of `inputs` through one slot, batch by batch, and return the whole output."""
    runner.stage(inputs)
    count = len(next(iter(inputs.values())))
    parts = []
    for start in range(0, count, runner.max_batch):
        runner.submit(0, range(start, min(start + runner.max_batch, count)))
        parts.append(np.array(runner.wait(0)))
    return np.concatenate(parts)
