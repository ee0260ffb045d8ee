"""Two runs side by side: results, percentiles, and everything else in which they differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nvkit.record.differences import Difference, compared_facts, differences
from nvkit.record.stored_run import StoredRun, open_stored
from nvkit.results.metric import Metric
from nvkit.results.raw_log import TRACE_FILE, RawLatencies, read_trace
from nvkit.stages.run import TestResult
from nvkit.tables import Table

TOLERANCE = 0.02
"""MLPerf's auditors call results that differ by more than this materially different."""
_FEW = 30


@dataclass(frozen=True)
class Pair:
    """One scenario of both runs.

    Attributes:
        scenario: LoadGen's name.
        a: The official figure of the first run.
        b: The same of the second.
    """

    scenario: str
    a: Metric
    b: Metric

    @property
    def change(self) -> float:
        """The second figure over the first, minus one."""
        return self.b.value / self.a.value - 1

    @property
    def faster(self) -> float:
        """The speed of the second over that of the first, minus one."""
        return self.change if self.a.higher_is_better else self.a.value / self.b.value - 1

    @property
    def within(self) -> bool:
        """Whether the two are equal by MLPerf's convention."""
        return self.a.name == self.b.name and abs(self.change) <= TOLERANCE


@dataclass(frozen=True)
class Diff:
    """Two runs.

    Attributes:
        a: The first run.
        b: The second.
        differences: What they do not share besides results.
    """

    a: StoredRun
    b: StoredRun
    differences: tuple[Difference, ...]

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """The scenarios that both measured."""
        left, right = self.a.measured(), self.b.measured()
        found = ((name, left[name].summary.metric, right[name].summary.metric) for name in left if name in right)
        return tuple(Pair(name, a, b) for name, a, b in found if a and b)

    @property
    def equal(self) -> bool:
        """Whether every scenario was measured by both, with results that are equal by MLPerf's convention."""
        return set(self.a.measured()) == set(self.b.measured()) and all(pair.within for pair in self.pairs)

    def tables(self) -> list[Table]:
        """Return results, percentiles, and each kind of difference."""
        return [self._results(), self._percentiles(), *self._differences()]

    def figures(self) -> dict[str, Any]:
        """Return file name to Figure; scenarios without LoadGen's trace in both runs have no plot of latencies."""
        from nvkit.record.diff_plots import progress_of_both, speed_of_b
        from nvkit.results.plots import latency_percentiles

        brand = " · ".join(self._notes())
        found: dict[str, Any] = {}
        if self.pairs:
            found["diff-results"] = speed_of_b({pair.scenario: pair.faster for pair in self.pairs}, TOLERANCE, brand)
        for pair in self.pairs:
            traces = {label: _trace(run, pair.scenario) for label, run in (("A", self.a), ("B", self.b))}
            raws = {label: raw for label, raw in traces.items() if raw}
            if len(raws) < len(traces):
                continue
            if pair.scenario == "Offline":
                found["diff-Offline-progress"] = progress_of_both(raws, brand, "Offline: progress of A and B")
                continue
            multi = pair.scenario == "MultiStream"
            series = {label: raw.query_latency_ns if multi else raw.latency_ns for label, raw in raws.items()}
            title = f"{pair.scenario}: latency percentiles"
            found[f"diff-{pair.scenario}-latency-percentiles"] = latency_percentiles(series, brand=brand, title=title)
        return found

    def headline(self) -> str:
        """Say in one line whether the results are equal."""
        if not self.pairs:
            return "The two runs measured no scenario in common."
        outside = [pair for pair in self.pairs if not pair.within]
        if not outside:
            return f"All results are within {TOLERANCE:.0%}."
        return f"{len(outside)} of {len(self.pairs)} results differ by more than {TOLERANCE:.0%}: " + ", ".join(
            f"{pair.scenario} {pair.change:+.1%}" for pair in outside
        )

    def __str__(self) -> str:
        return "\n\n".join([self.headline(), *map(str, self.tables())])

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        body = "".join(table._repr_html_() for table in self.tables())
        return {"text/plain": str(self), "text/html": f"<p><b>{self.headline()}</b></p>{body}"}

    def _notes(self) -> list[str]:
        shared = [note for note in self.a.notes if note in self.b.notes]
        own = [f"{label}: {note}" for label, run in (("A", self.a), ("B", self.b)) for note in run.notes]
        return [*shared, *(note for note in own if note.split(": ", 1)[1] not in shared)]

    def _results(self) -> Table:
        rows: list[list[Any]] = []
        for pair in self.pairs:
            (a, unit), (b, _) = pair.a.shown, pair.b.shown
            within = "yes" if pair.within else "no" if pair.a.name == pair.b.name else "another figure"
            rows.append([pair.scenario, pair.a.label, unit, a, b, f"{pair.change:+.2%}", within])
        left, right = self.a.tests, self.b.tests
        for test in [key for key in left if key in right]:
            scores = [run[test].summary.accuracy for run in (left, right)]
            if scores[0] and scores[1]:
                (a, b), name = (float(score["value"]) for score in scores if score), scores[0]["metric"]
                same = "equal" if a == b else f"{b - a:+.3f}"
                rows.append([test[0], "accuracy", name, a, b, same, ""])
        alone = [
            f"Only {label} has {' '.join(test)}."
            for label, mine, other in (("A", left, right), ("B", right, left))
            for test in mine
            if test not in other
        ]
        names = [f"A is {self.a.name}", f"B is {self.b.name}"]
        headings = ["scenario", "what", "unit", "A", "B", "change", f"within {TOLERANCE:.0%}"]
        return Table(headings, rows, "Results", [*names, *alone, *self._notes()])

    def _percentiles(self) -> Table:
        rows: list[list[Any]] = []
        for pair in self.pairs:
            left, right = (run.measured()[pair.scenario].summary.percentiles_ns for run in (self.a, self.b))
            for name in [name for name in left if name in right]:
                a, b = left[name] / 1e6, right[name] / 1e6
                rows.append([pair.scenario, name, a, b, f"{b / a - 1:+.1%}" if a else ""])
        return Table(["scenario", "percentile", "A ms", "B ms", "change"], rows, "Latency percentiles")

    def _differences(self) -> list[Table]:
        if not self.differences:
            count = compared_facts(self.a, self.b)
            return [Table(["difference"], [[f"none in {count} parameters and facts of machine and software"]])]
        titles = {
            "parameter": "Parameters that differ",
            "machine": "The machine",
            "version": "Versions",
            "artefact": "Model, data and engines",
            "code": "nvkit itself",
        }
        found = []
        for kind, title in titles.items():
            rows = [[one.name, _short(one.a), _short(one.b)] for one in self.differences if one.kind == kind]
            if rows:
                found.append(Table([kind, "A", "B"], rows, title))
        return found


def diff(a: str | Path, b: str | Path) -> Diff:
    """Compare two run folders.

    Raises:
        InputError: one is not the folder of a finished run.
    """
    return compared(open_stored(a), open_stored(b))


def compared(a: StoredRun, b: StoredRun) -> Diff:
    """Compare two runs that are read already."""
    return Diff(a, b, tuple(differences(a, b)))


def names_of(found: Sequence[Difference]) -> str:
    """Return the differences in one sentence, the first of many."""
    said = [f"{one.name} {_short(one.a)} -> {_short(one.b)}" for one in found[:_FEW]]
    return "; ".join(said) + (f"; and {len(found) - _FEW} more" if len(found) > _FEW else "")


def _trace(run: StoredRun, scenario: str) -> RawLatencies | None:
    test: TestResult = run.measured()[scenario]
    trace = run.path / test.logs / TRACE_FILE
    if not trace.is_file() or not trace.stat().st_size:
        return None
    raw = read_trace(trace)
    return raw.last(test.summary.counts["samples"]) if test.summary.mode == "SubmissionRun" else raw


def _short(value: str, most: int = 90) -> str:
    return value if len(value) <= most else f"{value[: most - 3]}..."
