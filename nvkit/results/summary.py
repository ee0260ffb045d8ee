"""What is kept of one LoadGen test, and the table of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nvkit.errors import LogError
from nvkit.results.loadgen_log import DetailLog, read_detail, read_trace
from nvkit.results.metric import Metric, official
from nvkit.results.percentiles import LOADGEN_PERCENTILES, CheckRow, check_against, percentile_label, percentiles
from nvkit.results.raw_log import TRACE_FILE
from nvkit.results.validity import Reason, Verdict, against_round, verdict
from nvkit.tables import Table


@dataclass(frozen=True)
class TestSummary:
    """One LoadGen test.

    Attributes:
        scenario: LoadGen's name.
        mode: LoadGen's name of the mode.
        round: The round whose metric and rules apply.
        metric: The official figure, or None for an accuracy run.
        verdict: Whether the test counts.
        departures: What departs from the round's rules; a quick run has some and is VALID all the same.
        percentiles_ns: "min", "p50", ... "max" to latency in ns, of queries in MultiStream; empty for an
            accuracy run.
        counts: "queries", "samples", in Server "overlatency queries".
        duration_s: From the first query to the last completion, or None if LoadGen did not log it.
        loadgen_version: As logged.
        errors: LoadGen's error messages.
        warnings: LoadGen's warning messages.
        checks: LoadGen's figures beside those recomputed from the trace; empty without a trace.
        notes: What every output must say of this run, e.g. "synthetic weights".
        accuracy: Metric, value, target and so on of the accuracy run, or None.
    """

    __test__ = False  # not a test case, whatever its name says to pytest

    scenario: str
    mode: str
    round: str
    metric: Metric | None
    verdict: Verdict
    departures: tuple[Reason, ...]
    percentiles_ns: Mapping[str, int]
    counts: Mapping[str, int]
    duration_s: float | None
    loadgen_version: str
    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    checks: tuple[CheckRow, ...]
    notes: tuple[str, ...]
    accuracy: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary of plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TestSummary:
        """Return the summary that `to_json` was called on.

        Raises:
            LogError: the dictionary is not one of `to_json`.
        """
        try:
            fields = dict(value)
            for name in ("errors", "warnings", "notes"):
                fields[name] = tuple(fields[name])
            reasons = tuple(Reason(**reason) for reason in fields["verdict"]["reasons"])
            fields["metric"] = Metric(**fields["metric"]) if fields["metric"] else None
            fields["verdict"] = Verdict(fields["verdict"]["valid"], reasons)
            fields["departures"] = tuple(Reason(**reason) for reason in fields["departures"])
            fields["checks"] = tuple(CheckRow(**row) for row in fields["checks"])
            return cls(**fields)
        except (KeyError, TypeError, ValueError) as error:
            raise LogError(
                f"A stored test summary is not readable: {type(error).__name__} {error}.", "Run the run stage again."
            ) from error

    @property
    def differing(self) -> tuple[CheckRow, ...]:
        """Figures of LoadGen that the trace does not confirm."""
        return tuple(row for row in self.checks if not row.equal)


def summarise(
    folder: Path,
    round: str,
    notes: Sequence[str] = (),
    *,
    rules: Mapping[str, Any] | None = None,
    accuracy: Mapping[str, Any] | None = None,
    audit: bool = False,
) -> TestSummary:
    """Summarise the LoadGen test in a folder, from its detail log and, where there is one, its trace.

    Args:
        folder: Folder of one test.
        round: E.g. "v4.1".
        notes: What every output must say of this run.
        rules: The round's rules, as `nvkit.results.validity.against_round` takes them.
        accuracy: Score of an accuracy run.
        audit: The test is a compliance test with an audit.config.

    Raises:
        ConfigError: `round` is not the name of a round.
        LogError: a log is missing, incomplete or not one.
    """
    detail = read_detail(folder)
    metric, latencies, checks = None, {}, []
    if detail.has_result:
        metric, latencies = official(detail, round), _logged_percentiles(detail)
        trace = folder / TRACE_FILE
        if trace.is_file() and trace.stat().st_size:  # LoadGen leaves an empty file when tracing is off
            raw = read_trace(trace)
            checks = check_against(detail, raw)
            if detail.mode == "SubmissionRun":
                raw = raw.last(detail.sample_count)
            measured = raw.query_latency_ns if detail.scenario == "MultiStream" else raw.latency_ns
            if len(measured) >= 100_000:  # ten above it
                latencies[percentile_label(0.9999)] = percentiles(measured, (0.9999,))[0.9999]
    return TestSummary(
        scenario=detail.scenario,
        mode=detail.mode,
        round=round,
        metric=metric,
        verdict=verdict(detail, audit=audit),
        departures=against_round(detail, rules or {}),
        percentiles_ns=latencies,
        counts=_counts(detail),
        duration_s=detail.duration_s,
        loadgen_version=detail.loadgen_version,
        errors=detail.errors,
        warnings=detail.warnings,
        checks=tuple(checks),
        notes=tuple(notes),
        accuracy=accuracy,
    )


def results_table(tests: Sequence[TestSummary]) -> Table:
    """Return a row for each scenario; the accuracy run of a scenario stands in the row of its performance run."""
    scores = {test.scenario: test.accuracy for test in tests if test.accuracy}
    measured = [test for test in tests if test.metric]
    alone = [test for test in tests if not test.metric and test.scenario not in {m.scenario for m in measured}]
    headings = ("scenario", "result", "unit", "what", "validity", "p50 ms", "p90 ms", "p99 ms", "samples", "accuracy")
    rows = []
    for test in [*measured, *alone]:
        value, unit = test.metric.shown if test.metric else (None, "")
        times = [test.percentiles_ns.get(name) for name in ("p50", "p90", "p99")]
        validity = "VALID" if test.verdict.valid else "INVALID"
        latencies = [None if ns is None else ns / 1e6 for ns in times]
        score = _score(test.accuracy or scores.get(test.scenario))
        what = test.metric.label if test.metric else ""
        rows.append((test.scenario, value, unit, what, validity, *latencies, test.counts.get("samples"), score))
    notes = dict.fromkeys(note for test in tests for note in test.notes)
    problems = [f"{test.scenario} ({test.mode}): {reason}" for test in tests for reason in test.verdict.reasons]
    unconfirmed = [
        f"{test.scenario}: LoadGen's {row.name} is {row.loadgen:,}, the trace gives {row.ours:,}."
        for test in tests
        for row in test.differing
    ]
    return Table(headings, rows, "Results", (*notes, *problems, *unconfirmed))


def departures_tables(tests: Sequence[TestSummary]) -> list[Table]:
    """Return the table of what departs from the round's rules, or nothing if nothing does."""
    rows = [[test.scenario, test.mode, reason.what, reason.change] for test in tests for reason in test.departures]
    headings = ["scenario", "mode", "departs from the round", "to follow it"]
    return [Table(headings, rows, "Not as the round's rules ask")] if rows else []


def _logged_percentiles(detail: DetailLog) -> dict[str, int]:
    multi = detail.scenario == "MultiStream"
    extreme = "result_{}_query_latency_ns" if multi else "result_{}_latency_ns"
    form = "result_{:.2f}_percentile_per_query_latency_ns" if multi else "result_{:.2f}_percentile_latency_ns"
    inner = {percentile_label(p): int(detail.require(form.format(100 * p))) for p in LOADGEN_PERCENTILES}
    low, high = (int(detail.require(extreme.format(end))) for end in ("min", "max"))
    return {"min": low, **inner, "max": high}


def _counts(detail: DetailLog) -> dict[str, int]:
    if not detail.has_result:
        return {"samples": len({index for indices in detail.all("loaded_qsl_set") for index in indices})}
    counts = {"queries": int(detail.require("result_query_count")), "samples": detail.sample_count}
    if (over := detail.get("result_overlatency_query_count")) is not None:
        counts["overlatency queries"] = int(over)
    return counts


def _score(accuracy: Mapping[str, Any] | None) -> str:
    if not accuracy:
        return ""
    return f"{accuracy.get('metric', '')} {float(accuracy['value']):.6g}".strip()
