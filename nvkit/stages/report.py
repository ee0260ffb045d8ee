"""Report: the results, how far they can be trusted, and how they compare with published ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nvkit.config import RunConfig, parameters_folder
from nvkit.record.capture import capture
from nvkit.results.gpu import gpu_figures, gpu_tables
from nvkit.results.loadgen_log import read_detail
from nvkit.results.published import FILE_NAME, Comparison, comparison_table, load, nearest
from nvkit.results.raw_log import TRACE_FILE, read_trace
from nvkit.results.summary import TestSummary, departures_tables, results_table
from nvkit.runs import RunFolder, StageResult
from nvkit.stages.run import RunResult, TestResult, run
from nvkit.stages.setup import setup
from nvkit.system import System
from nvkit.tables import Table


class ReportResult(StageResult):
    """The whole reproduction in one result.

    Attributes:
        tests: As of the run stage.
        comparisons: Each official figure beside the nearest published one.
        target: Accuracy that the closed division asks for.
        reference: Accuracy of the fp32 reference on the real data set.
    """

    tests: tuple[TestResult, ...]
    comparisons: tuple[Comparison, ...]
    target: float
    reference: float

    @property
    def summaries(self) -> list[TestSummary]:
        """The tests' summaries."""
        return [test.summary for test in self.tests]

    def problems(self) -> list[str]:
        """Return why the results do not count: INVALID tests and accuracy below the target."""
        invalid = [f"{s.scenario} ({s.mode}) is INVALID." for s in self.summaries if not s.verdict.valid]
        missed = [
            f"{s.scenario}: {s.accuracy['metric']} {s.accuracy['value']:.6g} is below the target {self.target:.6g}."
            for s in self.summaries
            if s.accuracy and s.accuracy["value"] < self.target
        ]
        return invalid + missed

    def tables(self) -> list[Any]:
        """Return results, accuracy, comparison, what the GPUs did, and departures from the rules."""
        tables = [results_table(self.summaries)]
        if scores := [s for s in self.summaries if s.accuracy]:
            tables.append(self._accuracy(scores))
        if self.comparisons:
            tables.append(comparison_table(self.comparisons))
        return [*tables, *gpu_tables(self.tests), *departures_tables(self.summaries)]

    def checks(self) -> Table:
        """Return for each test how many of LoadGen's figures the raw latencies confirm, then those that differ."""
        measured = [summary for summary in self.summaries if summary.metric]
        rows: list[list[Any]] = []
        for summary in measured:
            equal = sum(check.equal for check in summary.checks)
            rows.append([summary.scenario, summary.counts.get("queries"), len(summary.checks), equal])
        notes = [
            f"{summary.scenario}: LoadGen's {check.name} is {check.loadgen:,}, recomputed {check.ours:,}."
            for summary in measured
            for check in summary.differing
        ]
        if untraced := [summary.scenario for summary in measured if not summary.checks]:
            notes.append(
                f"Not recomputed, because LoadGen's trace was off, as it is in long tests: {', '.join(untraced)}."
            )
        headings = ["scenario", "queries", "figures recomputed", "equal to LoadGen's"]
        return Table(headings, rows, "LoadGen's latencies, percentiles and counts, from the raw data", notes)

    def figures(self) -> dict[str, Any]:
        """Return the plots of all tests that have a trace, and of the GPUs."""
        return plots(self.folder, self.tests, " · ".join(self.notes))

    def _accuracy(self, scores: Sequence[TestSummary]) -> Table:
        rows = []
        for summary in scores:
            score: Any = summary.accuracy
            reached = score["value"] >= self.target
            rows.append([summary.scenario, score["metric"], score["value"], self.target, reached, score["count"]])
        headings = ["scenario", "metric", "accuracy", "target", "reached", "samples"]
        basis = (
            f"The target is the closed division's, for the reference weights ({self.reference}) on the real data set."
        )
        return Table(headings, rows, "Accuracy", [basis, *self.notes])


def report(config: RunConfig, run_folder: RunFolder, *, fresh: bool = False) -> ReportResult:
    """Compare the results with published ones and write the plots into the run folder as PNG and SVG.

    Raises:
        LogError: the raw logs of a finished test are gone or damaged.
    """
    first, results = setup(config, run_folder), run(config, run_folder)
    return report_on(config, run_folder, first.system, results, fresh=fresh)


def report_on(
    config: RunConfig,
    run_folder: RunFolder,
    system: System,
    results: RunResult,
    *,
    framework: str = "",
    fresh: bool = False,
) -> ReportResult:
    """Report on finished tests, whichever implementation ran them.

    Args:
        config: The configuration.
        run_folder: Where the report and the plots go.
        system: The machine that the tests ran on.
        results: The tests.
        framework: What ran the model; the backend of the settings if empty.
        fresh: Do it again even if it is finished.
    """

    def work() -> ReportResult:
        from nvkit.results.plot_style import save

        brand = " · ".join(results.notes)
        for name, figure in plots(run_folder.path, results.tests, brand).items():
            save(figure, run_folder.path / "plots", name)
        capture(config, run_folder, system, framework)
        return ReportResult(
            tests=results.tests,
            comparisons=tuple(comparisons(config, system, results.tests, framework)),
            target=config.rules.accuracy_target,
            reference=config.rules.reference_accuracy,
            notes=results.notes,
        )

    return run_folder.stage(
        ReportResult, "report", {"run": results.key, "finished": results.finished}, work, fresh=fresh
    )


def comparisons(
    config: RunConfig,
    system: System,
    tests: Sequence[TestResult],
    framework: str = "",
    parameters: Path | None = None,
) -> list[Comparison]:
    """Return the nearest published result to each measured one.

    Args:
        config: The configuration.
        system: The machine that the tests ran on.
        tests: The tests.
        framework: What ran the model; the backend of the settings if empty.
        parameters: The folder of the published results, if not the clone's own.
    """
    published = load((parameters or parameters_folder()) / FILE_NAME)
    gpus = system.gpus if config.device.kind == "gpu" else ()
    found = []
    for test in tests:
        summary, metric = test.summary, test.summary.metric
        if metric is None:
            continue
        comparison = nearest(
            published,
            config.benchmark,
            summary.scenario,
            config.round,
            gpus[0].name if gpus else None,
            ours=metric,
            accelerators=len(test.runner.get("gpus", ())) or len(gpus),
            framework=framework or config.scenarios[summary.scenario].backend,
            loadgen_version=summary.loadgen_version,
            notes=summary.notes,
        )
        if comparison:
            found.append(comparison)
    return found


def plots(folder: Path, tests: Sequence[TestResult], brand: str) -> dict[str, Any]:
    """Return file name to Figure for the tests of a run folder; tests without a trace have those of the GPUs only.

    Offline has one query, so its latencies only say when the samples were done: it gets progress and throughput.
    """
    from nvkit.results import plots as draw

    limit: int | None = None
    share: float | None = None
    raws = {}
    for test in tests:
        if test.summary.metric and _has_trace(folder / test.logs):
            raws[test.summary.scenario] = raw = read_trace(folder / test.logs)
            if test.summary.mode == "SubmissionRun":
                raws[test.summary.scenario] = raw.last(test.summary.counts["samples"])
            if test.summary.scenario == "Server":
                detail = read_detail(folder / test.logs)
                limit = int(detail.require("effective_target_latency_ns"))
                share = float(detail.require("effective_target_latency_percentile"))
    found: dict[str, Any] = {}
    timed = {scenario: raw for scenario, raw in raws.items() if scenario != "Offline"}
    if timed:
        series = {s: raw.query_latency_ns if s == "MultiStream" else raw.latency_ns for s, raw in timed.items()}
        found["latency-percentiles"] = draw.latency_percentiles(series, limit, share, brand)
    for scenario, raw in raws.items():
        own_limit = limit if scenario == "Server" else None
        if scenario in timed:
            name = f"{scenario}-latency-distribution"
            values = raw.query_latency_ns if scenario == "MultiStream" else raw.latency_ns
            found[name] = draw.latency_distribution(values, own_limit, brand, f"{scenario}: latency distribution")
            name = f"{scenario}-latency-over-time"
            found[name] = draw.latency_over_time(raw, own_limit, brand, f"{scenario}: latency over time")
        else:
            found[f"{scenario}-progress"] = draw.latency_over_time(raw, None, brand)
        name = f"{scenario}-throughput-over-time"
        found[name] = draw.throughput_over_time(raw, brand, f"{scenario}: throughput over time")
    return found | gpu_figures(folder, tests, brand)


def _has_trace(logs: Path) -> bool:
    trace = logs / TRACE_FILE
    return trace.is_file() and trace.stat().st_size > 0
