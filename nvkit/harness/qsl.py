"""The query sample library: LoadGen's load requests to samples staged in the runner."""

from __future__ import annotations

from typing import Any

from nvkit.benchmarks.base import SampleSet
from nvkit.engine.base import Array, Runner


class QuerySampleLibrary:
    """Stages the samples that LoadGen names, in its order, and remembers where each one is.

    Attributes:
        row_of: QSL index to row of the staged samples; -1 if it is not staged.
        lengths: Length of each sample, by QSL index; None where all have one length.
    """

    def __init__(self, samples: SampleSet, runner: Runner, performance_count: int) -> None:
        self._samples = samples
        self._runner = runner
        self._performance_count = min(performance_count, samples.count)
        self.row_of = [-1] * samples.count
        self.lengths: Array | None = samples.lengths_of(range(samples.count))

    def load(self, indices: list[int]) -> None:
        """Stage the samples of these QSL indices; those staged before are given up.

        Issued in this order, as in Offline and MultiStream, samples lie side by side and a batch needs no copy.
        """
        self._runner.stage(self._samples.load(indices), self._samples.lengths_of(indices))
        for row, index in enumerate(indices):
            self.row_of[index] = row

    def unload(self, indices: list[int]) -> None:
        """Forget the rows of these QSL indices."""
        for index in indices:
            self.row_of[index] = -1

    def construct(self) -> Any:
        """Return LoadGen's handle of this library."""
        import mlperf_loadgen as lg

        return lg.ConstructQSL(self._samples.count, self._performance_count, self.load, self.unload)
