"""What the GPUs did during the tests of a run: tables and figures. Tests without GPUs have none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from nvkit.results.summary import TestSummary
from nvkit.tables import Table
from nvkit.telemetry import Telemetry, read, table

#: Keys of a runner's `timing`, sums of ms, in the order of a batch's way, with what they are called.
PARTS = {"copy_in": "copy in", "wait": "wait", "compute": "network", "copy_out": "copy out"}
_MEANING = (
    "Means of a batch, by CUDA events: copy in is the gather or copy of its samples, wait that for the network's "
    "stream. Batches overlap: some are copied or wait while the network computes others."
)


class GpuTest(Protocol):
    """What is read of a test; `nvkit.stages.run.TestResult` is one."""

    @property
    def summary(self) -> TestSummary:
        """What its logs say."""

    @property
    def logs(self) -> str:
        """Their folder, relative to the run folder."""

    @property
    def telemetry(self) -> Telemetry | None:
        """What the GPUs did."""

    @property
    def runner(self) -> Mapping[str, Any]:
        """What the runner says of itself; empty without GPUs."""


def gpu_tables(tests: Sequence[GpuTest]) -> list[Table]:
    """Return what the GPUs did, where their time went, and the runner's options; nothing for tests without GPUs."""
    told = [(_name(test), test.telemetry) for test in tests if test.telemetry]
    used = [test for test in tests if test.runner]
    times = {test.summary.scenario: test.runner["timing"] for test in used if test.summary.metric}
    tables = [table(told)] if told else []
    if any(times.values()):
        tables.append(times_table(times))
    if used:
        tables.append(_options(used))
    return tables


def gpu_figures(folder: Path, tests: Sequence[GpuTest], brand: str) -> dict[str, Any]:
    """Return file name to Figure for the performance tests.

    Args:
        folder: The run folder.
        tests: Its tests.
        brand: What a reader must know about the run.

    Raises:
        LogError: what was recorded of a test is damaged.
    """
    from nvkit.results import gpu_plots as draw

    found: dict[str, Any] = {}
    times = {}
    for test in tests:
        scenario = test.summary.scenario
        if not test.summary.metric:
            continue
        if test.telemetry and (samples := read(folder / test.logs)):
            title = f"{scenario}: GPUs during the test"
            found[f"{scenario}-gpus"] = draw.gpus_over_time(samples, test.telemetry, brand, title)
        if test.runner and test.runner["timing"]:
            times[scenario] = test.runner["timing"]
    if times:
        found["gpu-time"] = draw.batch_times(times, brand)
    return found


def _name(test: GpuTest) -> str:
    return f"{test.summary.scenario} ({test.summary.mode})"


def times_table(times: Mapping[str, Mapping[str, float] | None]) -> Table:
    """Return the parts of a batch's time, a row for each scenario.

    Args:
        times: Scenario to the runner's `timing`; None where it was not measured, which is then said.
    """
    rows: list[list[Any]] = []
    for scenario, timing in times.items():
        if timing:
            batches = timing["batches"]
            total = sum(timing[part] for part in PARTS)
            row = [scenario, batches, round(timing["samples"] / batches, 1), total / batches]
            for part in PARTS:
                row += [timing[part] / batches, round(100 * timing[part] / total, 1)]
            rows.append(row)
    notes = [_MEANING]
    if rest := [scenario for scenario, timing in times.items() if not timing]:
        notes.append(
            f"Not measured, because all of a batch is one stream's work or batch_timing is off: {', '.join(rest)}."
        )
    parts = [heading for name in PARTS.values() for heading in (f"{name} ms", f"{name} %")]
    return Table(["scenario", "batches", "mean batch", "ms a batch", *parts], rows, "Where the GPU's time went", notes)


def _options(tests: Sequence[GpuTest]) -> Table:
    names = list(dict.fromkeys(key for test in tests for key in test.runner if key != "timing"))
    rows = [[_name(test), *(_shown(test.runner.get(name)) for name in names)] for test in tests]
    return Table(["test", *(name.replace("_", " ") for name in names)], rows, "How the GPUs were used")


def _shown(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
