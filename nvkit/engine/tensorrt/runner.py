"""The runner of backend "tensorrt": the hot path on the GPU.

Everything is allocated and captured before the test. In it, a batch costs the interpreter one write of row numbers
and two to nine asynchronous calls; `wait` sleeps in the driver with the interpreter released. With one batch in flight,
where latency counts, it polls a flag that the last kernel sets.

A slot is a batch in flight: its own execution context and buffers. Its input comes to the network in one of three
ways: the engine reads the staged samples in place (they follow one another and no graph fixes the address), a copy
(they follow one another in host memory), or the gather kernel (any rows, from host or device memory, in one launch).

Samples of different lengths are written into page-locked memory by the CPU and copied: a batch of BERT's is a
megabyte, of which the writing takes a millisecond beside more than a hundred of the network.

With one stream for all, the whole batch - gather, network, copy back - is one graph. With separate copy and inference
streams the gather and the copy back of one batch overlap with the network of another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from nvkit.engine.base import Array, Ragged
from nvkit.engine.tensorrt.cuda import Gpu, OutOfDeviceMemoryError
from nvkit.engine.tensorrt.flight import Context, Options, Streams, Timing
from nvkit.engine.tensorrt.packed import Form, form_of
from nvkit.engine.tensorrt.packed_slot import PackedSlot, Tokens
from nvkit.engine.tensorrt.slot import Device, Slot
from nvkit.engine.tensorrt.tensors import Tensor, tensors_of
from nvkit.errors import ConfigError, DataError, nearest

_Place = TypeVar("_Place", Slot, PackedSlot)


class _Runner(Generic[_Place]):
    """What runners of equal samples and of samples of different lengths have in common."""

    def __init__(self, gpus: Sequence[Streams], options: Options, make: Callable[[int, int, bool], _Place]) -> None:
        self.slots = len(gpus) * options.copy_streams
        self.max_batch = options.max_batch
        self._options = options
        self._gpus = gpus
        # One batch in flight: nothing else is to be done while it runs, and spinning sees its end soonest.
        spin = self.slots == 1
        try:
            self._slots: list[_Place] = [make(i % len(gpus), i // len(gpus), spin) for i in range(self.slots)]
        except OutOfDeviceMemoryError as error:
            raise ConfigError(
                f"The buffers of {self.slots} slots of {options.max_batch} samples do not fit: {error.args[0]:,} bytes "
                f"more are not free on the GPU.",
                "Give a smaller --batch-size or fewer --gpu-copy-streams.",
            ) from None

    def facts(self) -> dict[str, Any]:
        """Return the GPUs and options in use, and the sums of GPU time since the samples were staged."""
        timing = Timing()
        for slot in self._slots:
            timing.add(slot.timing)
        used = {"gpus": [streams.gpu.index for streams in self._gpus], **asdict(self._options)}
        return {**used, "timing": asdict(timing) if timing.batches else None}

    def submit(self, slot: int, rows: Sequence[int]) -> None:
        """Start a batch of staged rows on a free slot."""
        self._slots[slot].submit(rows)

    def close(self) -> None:
        """Wait for the GPUs and release them."""
        for streams in self._gpus:
            streams.gpu.close()


class TensorRtRunner(_Runner[Slot]):
    """An engine on one or several GPUs, `copy_streams` slots on each; slot numbers go round the GPUs.

    Args:
        gpus: The GPUs.
        contexts: For each GPU, a context for each of its slots.
        inputs: The engine's inputs.
        output: The output that responses are encoded from.
        options: How to use the GPUs.
    """

    def __init__(
        self,
        gpus: Sequence[Gpu],
        contexts: Sequence[Sequence[Context]],
        inputs: Sequence[Tensor],
        output: Tensor,
        options: Options,
    ) -> None:
        self._inputs = tuple(inputs)
        self._devices = [Device(gpu, self._inputs, options) for gpu in gpus]
        super().__init__(
            self._devices,
            options,
            lambda gpu, number, spin: Slot(self._devices[gpu], contexts[gpu][number], number, output, spin),
        )

    def stage(self, inputs: Mapping[str, Array], lengths: Array | None = None) -> None:
        """Put samples (axis 0) into device memory of every GPU, or into pinned host memory.

        Raises:
            DataError: names, types or shapes are not the engine's.
            ConfigError: they do not fit into the GPU's memory.
        """
        for tensor in self._inputs:
            if tensor.name not in inputs:
                raise DataError(f"The samples lack the engine's input '{tensor.name}'.", nearest(tensor.name, inputs))
            given = inputs[tensor.name]
            if given.dtype != np.dtype(tensor.dtype) or given.shape[1:] != tensor.shape:
                raise DataError(
                    f"Input '{tensor.name}' takes {tensor.dtype} {list(tensor.shape)}; the samples are {given.dtype} "
                    f"{list(given.shape[1:])}.",
                    "Preprocess the samples for this engine: --input-dtype and --input-format decide.",
                )
        for device in self._devices:
            device.stage(inputs)
        for slot in self._slots:
            slot.staged()

    def wait(self, slot: int) -> Array:
        """Wait for the slot's batch and return its outputs, a view that the slot's next batch overwrites."""
        return self._slots[slot].wait()


class PackedRunner(_Runner[PackedSlot]):
    """The same for an engine whose samples have different lengths.

    Args:
        gpus: The GPUs.
        contexts: For each GPU, a context for each of its slots.
        form: How a batch lies in memory.
        output: The output that responses are encoded from.
        options: How to use the GPUs.
        graphs_longest: Tokens of the longest sample that CUDA graphs are made for.
    """

    def __init__(
        self,
        gpus: Sequence[Gpu],
        contexts: Sequence[Sequence[Context]],
        form: Form,
        output: Tensor,
        options: Options,
        graphs_longest: int,
    ) -> None:
        self._form, self._tokens = form, Tokens(form)
        streams = [Streams(gpu, options) for gpu in gpus]

        def make(gpu: int, number: int, spin: bool) -> PackedSlot:
            context = contexts[gpu][number]
            return PackedSlot(
                streams[gpu], context, number, form, output, self._tokens, spin=spin, graphs_longest=graphs_longest
            )

        super().__init__(streams, options, make)

    def facts(self) -> dict[str, Any]:
        """Return what every runner does, and how batches lie in memory."""
        form = type(self._form).__name__.lower()
        return {**super().facts(), "batches": form, "graphs": sum(slot.graphs for slot in self._slots)}

    def stage(self, inputs: Mapping[str, Array], lengths: Array | None = None) -> None:
        """Take samples without their padding into host memory.

        Raises:
            DataError: names, types, shapes or lengths are not the engine's.
        """
        self._tokens.stage(inputs, lengths)
        for slot in self._slots:
            slot.staged()

    def wait(self, slot: int) -> Ragged:
        """Wait for the slot's batch and return each sample's rows; the slot's next batch overwrites them."""
        return self._slots[slot].wait()


def open_runner(folder: Path, card: Mapping[str, Any], settings: Any) -> TensorRtRunner | PackedRunner:
    """Load the plan of an engine folder onto every GPU that the settings name.

    Raises:
        BackendUnavailableError: no GPU, or none of the number that is asked for.
        ConfigError: engine, batch and samples do not fit into the GPU's memory, or samples of different lengths are
            to start from the device.
        EngineBuildError: TensorRT refuses the plan.
    """
    from nvkit.engine.tensorrt.contexts import open_contexts, open_gpus

    options = Options(
        max_batch=card["max_batch"] if card["fixed_batch"] else settings.batch_size,
        copy_streams=settings.gpu_copy_streams,
        inference_streams=settings.gpu_inference_streams,
        use_graphs=settings.use_graphs,
        start_from_device=settings.start_from_device,
        run_infer_on_copy_streams=settings.run_infer_on_copy_streams,
        fixed_batch=card["fixed_batch"],
        timing=settings.batch_timing,
    )
    form = form_of(card)
    if form is not None and options.start_from_device:
        raise ConfigError(
            "start_from_device is set, but the CPU puts batches of samples of different lengths together.",
            "Leave start_from_device out.",
        )
    gpus = open_gpus(settings.devices)
    contexts = [open_contexts(gpu, folder, card, options.copy_streams) for gpu in gpus]
    inputs, output = tensors_of(card)
    if form is None:
        return TensorRtRunner(gpus, contexts, inputs, output, options)
    longest = min(form.longest, settings.graphs_max_seqlen or form.longest)
    return PackedRunner(gpus, contexts, form, output, options, longest)
