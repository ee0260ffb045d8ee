"""A network that returns the activations that need a range."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nvkit.errors import ModelError, RangesError
from nvkit.quantize.graph import observable, prepare

Batch = Mapping[str, npt.NDArray[Any]]


class ObservedNetwork:
    """An fp32 network in ONNX Runtime whose outputs are every activation that needs a range.

    Args:
        path: The fp32 ONNX file.
        threads: Threads that one call of `activations` uses; calls may run side by side.

    Attributes:
        tensors: Names of these activations, in network order.

    Raises:
        ModelError: the ONNX file is not usable, or has nothing to quantise.
    """

    def __init__(self, path: Path, threads: int) -> None:
        import onnx
        import onnxruntime

        model = prepare(path)
        self.tensors = observable(model)
        if not self.tensors:
            raise ModelError(
                f"{path} has no convolution and no matrix product, so nothing to quantise.",
                "Use precision fp32 for this network.",
            )
        inputs = {value.name for value in model.graph.input}
        self._computed = [name for name in self.tensors if name not in inputs]
        del model.graph.output[:]
        model.graph.output.extend(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in self._computed
        )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._fixed_batch = any(value.shape and isinstance(value.shape[0], int) for value in self._session.get_inputs())

    def parts(self, batch: Batch) -> Iterator[Batch]:
        """Yield the samples of a batch one by one, or the batch as it is for a network of fixed batch size.

        The activations of one sample fit the allocator's pool, those of many do not: an image of ResNet-50 takes
        0.06 s by itself and 0.16 s among five.
        """
        if self._fixed_batch:
            yield batch
            return
        for row in range(len(next(iter(batch.values())))):
            yield {name: array[row : row + 1] for name, array in batch.items()}

    def activations(self, batch: Batch) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        """Run a batch and yield each tensor's name and values.

        Raises:
            RangesError: the samples do not fit the network.
        """
        feeds = {name: np.asarray(array) for name, array in batch.items()}
        try:
            outputs = self._session.run(self._computed, feeds)
        except Exception as error:
            expected = ", ".join(f"{value.name} {value.type} {value.shape}" for value in self._session.get_inputs())
            given = ", ".join(f"{name} {array.dtype} {list(array.shape)}" for name, array in feeds.items())
            raise RangesError(
                f"The calibration samples do not fit the network: it takes {expected}; given {given}.",
                "Preprocess the calibration set in fp32 for this network.",
            ) from error
        yield from ((name, feeds[name]) for name in self.tensors if name in feeds)
        yield from zip(self._computed, outputs, strict=True)
