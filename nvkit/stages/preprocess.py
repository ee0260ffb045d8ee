"""Preprocess: the files of the data set to the arrays that the network reads."""

from __future__ import annotations

import time
from typing import Any

from nvkit.benchmarks.base import SampleSet, benchmark
from nvkit.config import RunConfig
from nvkit.runs import RunFolder, StageResult
from nvkit.stages.engines import QUANTISED
from nvkit.stages.setup import setup
from nvkit.tables import Table


class PreprocessResult(StageResult):
    """The sample sets.

    Attributes:
        samples: The validation samples; row i is QSL index i.
        calibration: The calibration samples (fp32), None if the engine needs none or the ranges are known.
        samples_per_second: Rate of this call, None if the samples were in the store.
    """

    samples: SampleSet
    calibration: SampleSet | None
    samples_per_second: float | None

    def usable(self) -> bool:
        """Whether the arrays are still there."""
        sets = [self.samples, *([self.calibration] if self.calibration else [])]
        files = [path for samples in sets for path in (*samples.arrays.values(), samples.lengths) if path is not None]
        return all(path.is_file() for path in files)

    def tables(self) -> list[Any]:
        """Return the arrays, and the files that were left out."""
        rows = []
        for name, samples in (("validation", self.samples), ("calibration", self.calibration)):
            for tensor, array in samples.open().items() if samples else ():
                shape = " x ".join(map(str, array.shape))
                rows.append([name, tensor, shape, str(array.dtype), round(array.nbytes / 1e6, 1)])
        rate = f"{self.samples_per_second:.0f} samples/s." if self.samples_per_second else "Found in the store."
        left_out = [f"Left out as unreadable: {', '.join(self.samples.skipped)}"] if self.samples.skipped else []
        notes = [rate, *_lengths(self.samples), *left_out]
        return [Table(["set", "input", "shape", "type", "MB"], rows, "Preprocessed samples", notes)]


def _lengths(samples: SampleSet) -> list[str]:
    """Say how long the samples are, where they differ."""
    lengths = samples.lengths_of(range(samples.count))
    if lengths is None:
        return []
    found = f"lengths of {lengths.min()} to {lengths.max()}, {lengths.mean():.0f} on average"
    return [f"Samples have {found}; the arrays are padded."]


def preprocess(config: RunConfig, run: RunFolder, *, fresh: bool = False) -> PreprocessResult:
    """Preprocess the validation and the calibration set into the store; what was interrupted is resumed.

    Raises:
        DataError: unreadable files, more than the user allows.
    """
    before = setup(config, run)

    def work() -> PreprocessResult:
        settings, bench = config.shared, benchmark(config.package)
        started = time.time()
        samples = bench.preprocess(settings, run.store, before.data)
        seconds = time.time() - started
        calibration = None
        given = settings.calibration_cache is not None or before.model.ranges is not None
        if settings.precision in QUANTISED and not given:
            calibration = bench.preprocess(settings, run.store, before.data, calibration=True)
        written = max(path.stat().st_mtime for path in samples.arrays.values())
        return PreprocessResult(
            samples=samples,
            calibration=calibration,
            samples_per_second=samples.count / seconds if written >= started else None,
            notes=before.notes,
        )

    return run.stage(PreprocessResult, "preprocess", {"setup": before.key}, work, fresh=fresh)
