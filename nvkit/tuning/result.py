"""What `nvkit tune` found, as tables and plots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nvkit.harness.predict import shown_expectation
from nvkit.results.percentiles import percentile_label
from nvkit.runs import StageResult
from nvkit.tables import Table
from nvkit.tuning.measured import Measured, ServerSearch


class TuneResult(StageResult):
    """What was found for each scenario.

    Attributes:
        found: In the order of scenarios.
        reused: Whether all of it was measured before this call.
        known: Scenarios that were measured before this call.
    """

    found: tuple[Measured, ...]
    known: tuple[str, ...]

    def headline(self) -> str:
        """Say in one line how it ended."""
        if not self.reused:
            return f"tune: finished in {self.seconds:.1f} s"
        ages = ", ".join(f"{measured.scenario} {measured.age} ago" for measured in self.found)
        return f"tune: reused, measured {ages}"

    def tables(self) -> list[Any]:
        """Return what was found, then the tests of the Server search."""
        rows: list[list[Any]] = []
        for measured in self.found:
            value, unit = shown_expectation(measured.scenario, measured.value)
            figure, _ = shown_expectation(measured.scenario, measured.figure)
            origin = f"reused, measured {measured.age} ago" if measured.scenario in self.known else "measured now"
            held = f"VALID for {measured.server.held_ms / 1000:g} s" if measured.server else "an estimate"
            setting = f"{measured.setting} {measured.value:.10g}"
            row = [measured.scenario, value, figure, unit, setting, held]
            rows.append([*row, len(measured.probes), origin, measured.run])
        names = ("scenario", "target", "measured", "unit", "as a setting", "held", "tests", "origin", "run folder")
        later = "Runs on this machine with the same engine and settings use these; a finished test keeps its own."
        tables = [Table(names, rows, "Targets", [*self.notes, later])]
        return [*tables, *(_probes_table(m, m.server) for m in self.found if m.server)]

    def figures(self) -> dict[str, Any]:
        """Return the plot of each Server search."""
        from nvkit.results.plots import RatedTest, rate_search

        brand = " · ".join(self.notes)
        return {
            f"{m.scenario}-rate-search": rate_search(
                [RatedTest(p.target, p.latency_ns, p.valid, p.full_length) for p in m.probes if p.latency_ns],
                m.server.limit_ns,
                m.server.percentile,
                m.value,
                brand,
            )
            for m in self.found
            if m.server
        }


def _probes_table(measured: Measured, search: ServerSearch) -> Table:
    label = percentile_label(search.percentile)
    rows = [
        [
            p.name,
            p.target,
            p.figure,
            None if p.latency_ns is None else p.latency_ns / 1e6,
            "VALID" if p.valid else "INVALID",
            round(p.seconds, 1),
            p.logs,
        ]
        for p in measured.probes
    ]
    notes = [*measured.notes, f"The limit is {search.limit_ns / 1e6:g} ms."]
    if search.unlimited:
        notes.append("No rate was invalid: LoadGen's schedule of a higher one would not fit into memory.")
    headings = ["test", "queries/s", "completed/s", f"{label} ms", "validity", "s", "logs"]
    return Table(headings, rows, f"{measured.scenario}: search for the highest valid rate", notes)


def save_plots(result: TuneResult, folder: Path) -> None:
    """Save the plots of what was measured now, and those that this run folder lacks."""
    wanted = [m.scenario for m in result.found if m.server]
    if all((folder / f"{name}-rate-search.svg").exists() and name in result.known for name in wanted):
        return
    from nvkit.results.plot_style import save

    for name, figure in result.figures().items():
        save(figure, folder, name)
