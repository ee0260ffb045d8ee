"""Where things stand in a submission tree, by round: v6.0 moved everything of a scenario below results/."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nvkit.results.metric import round_number

_NEW = (6, 0)
_WITHOUT_MLPERF_CONF = (5, 0)


@dataclass(frozen=True)
class Layout:
    """The tree of one submitter.

    Attributes:
        root: Its folder <division>/<submitter>/.
        round: E.g. "v4.1".
    """

    root: Path
    round: str

    @property
    def new(self) -> bool:
        """Whether it is the layout of v6.0 and later."""
        return round_number(self.round) >= _NEW

    @property
    def needs_mlperf_conf(self) -> bool:
        """Whether measurements need an mlperf.conf; later rounds have it inside of LoadGen."""
        return round_number(self.round) < _WITHOUT_MLPERF_CONF

    @property
    def code(self) -> Path:
        """Folder of the source."""
        return self.root / ("src" if self.new else "code")

    def results(self, system: str, benchmark: str, scenario: str) -> Path:
        """Folder of accuracy/ and performance/run_1/."""
        return self.root / "results" / system / benchmark / scenario

    def compliance(self, system: str, benchmark: str, scenario: str, test: str) -> Path:
        """Folder of one compliance test."""
        if self.new:
            return self.results(system, benchmark, scenario) / test
        return self.root / "compliance" / system / benchmark / scenario / test

    def measurements(self, system: str, benchmark: str, scenario: str) -> Path:
        """Folder of user.conf, README.md and the measurements file."""
        if self.new:
            return self.results(system, benchmark, scenario)
        return self.root / "measurements" / system / benchmark / scenario

    def measurements_file(self, system: str, implementation: str, scenario: str) -> str:
        """Name of the measurements file; the checker finds the code by the implementation in it."""
        return "measurements.json" if self.new else f"{system}_{implementation}_{scenario}.json"
