"""The Benchmark seam: everything that the rest of nvkit may know about a benchmark."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from nvkit.engine.base import Ragged
from nvkit.errors import ConfigError
from nvkit.store import Store

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class TensorSpec:
    """A network input or output.

    Attributes:
        name: As in the ONNX file.
        dtype: As in the ONNX file, numpy's name.
        shape: Shape of one sample, without the batch axis; of the longest one where lengths differ.
        scale: What one step stands for where samples of this input are preprocessed to int8.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    scale: float = 1.0


@dataclass(frozen=True)
class DataSet:
    """A data set on disk, in the layout of the real one.

    Attributes:
        root: Folder of the files.
        generated: Whether nvkit generated it.
        files: What samples are made from: file names relative to `root`, or ids of entries in a file. Where each
            makes one sample, the position in this tuple is the QSL index.
        labels: Ground truth, one for each of `files`; empty where it lies in files of the data set.
        calibration: Those of the calibration set.
        digest: SHA-256 over all that a score depends on.
        notes: What a reader of a result must know about this data set.
    """

    root: Path
    generated: bool
    files: tuple[str, ...]
    labels: tuple[int, ...]
    calibration: tuple[str, ...]
    digest: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Model:
    """An fp32 ONNX network.

    Attributes:
        path: The .onnx file.
        digest: SHA-256 of its bytes.
        synthetic: Whether its weights are seeded and not trained.
        description: One line: which file or construction this is.
        inputs: Inputs in the order of the sample arrays.
        output: The output that a response is encoded from.
        notes: What a reader of a result must know about this model.
        background: Leading classes of the output that no response names.
        variable: Whether axis 1 of every input and of the output is the length of a sample, and may be cut to it.
        ranges: JSON file of activation ranges (`nvkit.quantize.Ranges`) that came with the weights, or None where
            calibration observes them.
    """

    path: Path
    digest: str
    synthetic: bool
    description: str
    inputs: tuple[TensorSpec, ...]
    output: TensorSpec
    notes: tuple[str, ...] = ()
    background: int = 0
    variable: bool = False
    ranges: Path | None = None


@dataclass(frozen=True)
class SampleSet:
    """Preprocessed samples on disk, read by memory map.

    Attributes:
        arrays: Input name to the path of an .npy file of shape [samples, *sample shape].
        count: Number of samples.
        digest: Digest of the store key that these samples were made under.
        skipped: Names of source files that could not be read and were left out, with the user's leave.
        lengths: An .npy file of the length of each sample, int32 [samples], where lengths differ; else None.
    """

    arrays: Mapping[str, Path]
    count: int
    digest: str
    skipped: tuple[str, ...] = ()
    lengths: Path | None = None

    def open(self) -> dict[str, Array]:
        """Map every input's array, read-only, without loading it."""
        return {name: np.load(path, mmap_mode="r") for name, path in self.arrays.items()}

    def load(self, indices: Sequence[int]) -> dict[str, Array]:
        """Read the samples of these QSL indices, in this order, into contiguous arrays."""
        wanted = np.asarray(indices, dtype=np.int64)
        return {name: np.ascontiguousarray(array[wanted]) for name, array in self.open().items()}

    def lengths_of(self, indices: Sequence[int]) -> Array | None:
        """Return the lengths of the samples of these QSL indices, or None where all have one length."""
        if self.lengths is None:
            return None
        return np.asarray(np.load(self.lengths)[np.asarray(indices, dtype=np.int64)])


@dataclass(frozen=True)
class Accuracy:
    """A score in the metric and the unit that the rules use.

    Attributes:
        metric: Name in the rules, e.g. "acc".
        value: The score, e.g. percent of images right.
        count: Samples scored.
        line: The line that MLCommons' accuracy script prints for it.
        details: Further figures, e.g. {"good": 38038}.
    """

    metric: str
    value: float
    count: int
    line: str
    details: Mapping[str, float] = field(default_factory=dict)


class Benchmark(Protocol):
    """What to run: model, data, preprocessing, responses, score.

    `settings` are the resolved values of the configuration (attributes named as in parameters/).
    """

    name: str

    def dataset(self, settings: Any, store: Store) -> DataSet:
        """Find the user's data set (`settings.data_dir`) or generate one in the store."""

    def model(self, settings: Any, store: Store) -> Model:
        """Find, download or build the fp32 network."""

    def preprocess(self, settings: Any, store: Store, data: DataSet, *, calibration: bool = False) -> SampleSet:
        """Preprocess all samples (or the calibration set) into the store, resuming what was interrupted."""

    def without(self, data: DataSet, skipped: Iterable[str]) -> DataSet:
        """Return the data set without the files that preprocessing skipped: what `score` must be given."""

    def encode(self, outputs: Array | Ragged, indices: Sequence[int]) -> Array | Ragged:
        """Turn the network's output for a batch into responses; on the hot path.

        Args:
            outputs: What the runner returned.
            indices: QSL index of each sample.

        Returns:
            Rows of equal size, row i holding the bytes of sample i's response, or the rows of each sample.
        """

    def agree(self, expected: Array | Ragged, found: Array | Ragged) -> Array:
        """Tell of each sample whether two responses say the same, as bool [samples].

        Of two engines, one less precise, most samples must agree; see the self-check of the build stage.
        """

    def score(self, responses: Mapping[int, bytes], data: DataSet, *, part: bool = False) -> Accuracy:
        """Score the responses of an accuracy run, given by QSL index.

        Args:
            responses: QSL index to response.
            data: The data set, without skipped files.
            part: The responses are those of some samples on purpose, and others are not missing.
        """


@runtime_checkable
class ReferenceScored(Protocol):
    """A benchmark whose accuracy log MLCommons' own accuracy script can score.

    Attributes:
        response_dtype: Type of a response's elements, as MLCommons' scripts name it: byte, float32, int32 or int64.
    """

    response_dtype: str

    def reference_command(self, log: Path, data: DataSet, work: Path) -> tuple[str, list[str]]:
        """Return the script (its path in mlcommons/inference) and its arguments for an accuracy log.

        Args:
            log: The accuracy log.
            data: What `score` is given: the data set without skipped files.
            work: An empty folder for files that the script reads, e.g. the ground truth.
        """


def benchmark(package: str) -> Benchmark:
    """Return the benchmark of a folder below nvkit/benchmarks/.

    Raises:
        ConfigError: nvkit's own harness does not have it.
    """
    try:
        module = import_module(f"nvkit.benchmarks.{package}")
    except ModuleNotFoundError as error:
        if error.name != f"nvkit.benchmarks.{package}":
            raise
        raise ConfigError(
            f"nvkit's own harness does not have {package}.",
            "Run it with NVIDIA's code: --implementation nvidia-original --nvidia-code PATH. `nvkit list benchmarks` "
            "says which ones it has.",
        ) from None
    found: Benchmark = module.BENCHMARK
    return found
