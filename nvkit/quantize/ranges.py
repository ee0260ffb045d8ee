"""Activation ranges: observed by running a calibration set, kept as JSON with everything that identifies them.

The histograms and the entropy search are nvkit's own (`histogram`, `entropy`): see there what ONNX Runtime's
calibrators cost instead. One pass over the samples serves all three methods.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Lock

from nvkit.errors import RangesError, nearest
from nvkit.progress import tqdm
from nvkit.quantize.entropy import entropy_threshold
from nvkit.quantize.histogram import Histogram
from nvkit.quantize.observed import Batch, ObservedNetwork
from nvkit.store import file_digest, write_json
from nvkit.system import usable_cores

METHODS = ("entropy", "max", "percentile")
_MOST_WORKERS = 8  # each holds the activations of a sample, 68 MB for ResNet-50


@dataclass(frozen=True)
class TensorRange:
    """Range of one activation tensor.

    Attributes:
        amax: Magnitude that int8 represents as its largest; greater ones are clipped to it.
        lower: Smallest value observed, None where only `amax` is known (a calibration cache).
        upper: Largest value observed, or None.
    """

    amax: float
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True)
class Ranges:
    """Activation ranges of a network and what they were made from.

    Attributes:
        tensors: Tensor name to range, in network order.
        method: "entropy", "max", "percentile", "cache" for ranges read from a calibration cache, or "trained" for
            those that came with weights trained for int8.
        percentile: Percent of values not clipped, for that method; else None.
        samples: Number of calibration samples, 0 if unknown.
        model: SHA-256 of the ONNX file.
        calibration: Digest of the calibration set, or of the calibration cache.
        versions: Package name to version, of what observed them.
    """

    tensors: Mapping[str, TensorRange]
    method: str
    percentile: float | None
    samples: int
    model: str
    calibration: str
    versions: Mapping[str, str] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the ranges as JSON, atomically."""
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> Ranges:
        """Read what `save` wrote.

        Raises:
            RangesError: the file is missing, truncated, or not one of ranges.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            data["tensors"] = {name: TensorRange(**entry) for name, entry in data["tensors"].items()}
            return cls(**data)
        except FileNotFoundError as error:
            raise RangesError(f"{path} does not exist.", "Run the calibrate stage first.") from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise RangesError(
                f"{path} is not a file of activation ranges: {error}.", "Run the calibrate stage again."
            ) from error


@dataclass(frozen=True)
class Observation:
    """What one pass over a calibration set saw; each method makes its ranges from it.

    Attributes:
        histograms: Tensor name to histogram of magnitudes, in network order.
        samples: Number of samples that were run.
        model: SHA-256 of the ONNX file.
        calibration: Digest of the calibration set.
    """

    histograms: Mapping[str, Histogram]
    samples: int
    model: str
    calibration: str

    def ranges(self, method: str, percentile: float = 99.99) -> Ranges:
        """Choose each tensor's amax.

        Args:
            method: "entropy" (least information lost, as TensorRT's), "max", or "percentile".
            percentile: Percent of the values of a tensor that are not clipped, for method "percentile".

        Raises:
            RangesError: the method is unknown or the percentile is not in (0, 100].
        """
        if method not in METHODS:
            raise RangesError(f"There is no calibration method '{method}'.", nearest(method, METHODS))
        if method == "percentile" and not 0.0 < percentile <= 100.0:
            raise RangesError(f"Percentile {percentile} is not in (0, 100].", "99.99 is usual.")

        def amax(histogram: Histogram) -> float:
            if method == "entropy":
                return entropy_threshold(histogram.counts, histogram.width, histogram.amax)
            return histogram.percentile(percentile) if method == "percentile" else histogram.amax

        return Ranges(
            tensors={name: TensorRange(amax(seen), seen.lower, seen.upper) for name, seen in self.histograms.items()},
            method=method,
            percentile=percentile if method == "percentile" else None,
            samples=self.samples,
            model=self.model,
            calibration=self.calibration,
            versions=_versions(),
        )


def observe(model: Path, batches: Iterable[Batch], *, total: int, calibration: str = "") -> Observation:
    """Run a calibration set in fp32 and count the magnitudes of every activation that needs a range.

    Samples run side by side, one on each core where the network allows it: while one is counted, another is
    computed. Memory does not grow with the number of samples, and the result does not depend on their order.

    Args:
        model: The fp32 ONNX file.
        batches: Input name to float array, axis 0 is the sample; any batch size.
        total: Number of samples, for the progress bar.
        calibration: Digest of the calibration set, kept in the ranges.

    Raises:
        ModelError: the ONNX file is not usable, or has nothing to quantise.
        RangesError: there are no samples, they do not fit the network, or activations are not finite.
    """
    workers = min(usable_cores(), _MOST_WORKERS)
    network = ObservedNetwork(model, threads=max(1, usable_cores() // workers))
    histograms = {name: (Histogram(), Lock()) for name in network.tensors}

    def count(part: Batch) -> int:
        for name, values in network.activations(part):
            histogram, lock = histograms[name]
            with lock:
                histogram.add(values, name)
        return len(next(iter(part.values())))

    seen = 0
    pending: deque[Future[int]] = deque()
    with tqdm(total=total, desc="calibrate", unit="sample") as bar, ThreadPoolExecutor(workers) as pool:

        def finish_one() -> int:
            size = pending.popleft().result()
            bar.update(size)
            return size

        for batch in batches:
            for part in network.parts(batch):
                pending.append(pool.submit(count, part))
                if len(pending) > workers:
                    seen += finish_one()
        while pending:
            seen += finish_one()
    if not seen:
        raise RangesError("The calibration set is empty.", "Give at least one sample; MLPerf uses 500.")
    return Observation({name: made for name, (made, _) in histograms.items()}, seen, file_digest(model), calibration)


def collect(
    model: Path,
    batches: Iterable[Batch],
    method: str,
    *,
    total: int,
    percentile: float = 99.99,
    calibration: str = "",
) -> Ranges:
    """Observe a calibration set and make ranges by one method: `observe(...).ranges(method)`."""
    return observe(model, batches, total=total, calibration=calibration).ranges(method, percentile)


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in ("nvkit", "onnxruntime"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # a source tree that is not installed
            found[package] = "not installed"
    return found
