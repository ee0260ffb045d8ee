"""Results of the stages when NVIDIA's own code does the work: which commands ran, and what they left behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nvkit.results.summary import TestSummary, departures_tables, results_table
from nvkit.runs import StageResult
from nvkit.stages.run import RunResult
from nvkit.store import file_digest
from nvkit.system import System
from nvkit.tables import Table


@dataclass(frozen=True)
class Step:
    """One command that ran to its end.

    Attributes:
        what: What it does.
        line: The shell line.
        seconds: How long it took.
        scenario: LoadGen's name of the scenario, or empty for all.
        mode: Of a test: performance, accuracy, submission or an audit test; else empty.
    """

    what: str
    line: str
    seconds: float
    scenario: str = ""
    mode: str = ""


class StepsResult(StageResult):
    """Commands of NVIDIA's code.

    Attributes:
        steps: In the order in which they ran.
        why_not: Why there was nothing to run; empty if there was.
        summaries: Tests that the commands ran (audit tests).
    """

    steps: tuple[Step, ...] = ()
    why_not: str = ""
    summaries: tuple[TestSummary, ...] = ()

    def tables(self) -> list[Any]:
        """Return one row for each command, and the results of tests."""
        if self.why_not:
            return [Table([self.stage or "step"], [[self.why_not]], notes=self.notes)]
        rows = [[step.what, step.scenario, round(step.seconds, 1), step.line] for step in self.steps]
        tables = [Table(["step", "scenario", "seconds", "command"], rows, "Commands of NVIDIA's code", self.notes)]
        if self.summaries:
            tables += [results_table(self.summaries), *departures_tables(self.summaries)]
        return tables


@dataclass(frozen=True)
class Release:
    """The checkout that runs.

    Attributes:
        root: Its closed/NVIDIA folder.
        round: The release.
        commit: Of its git repository, or empty.
        digest: Over its code and configuration as they lie there.
        system: What the release calls this machine, e.g. "KnownSystem.L4x1".
    """

    root: Path
    round: str
    commit: str
    digest: str
    system: str


class NvidiaSetupResult(StepsResult):
    """The machine, and the checkout of NVIDIA's code.

    Attributes:
        system: The machine and its software.
        release: The checkout.
        written: Files that nvkit wrote into it, relative to its root, to the digest of their content.
        left_out: A sentence for each value that NVIDIA's command line does not get.
        settings: Scenario to the table of its values: rows of setting, value, layer, file, key, overrode.
    """

    system: System
    release: Release
    written: dict[str, str]
    left_out: tuple[str, ...]
    settings: dict[str, list[list[Any]]]

    def usable(self) -> bool:
        """Whether what nvkit wrote into the checkout is as it was written."""
        paths = {self.release.root / name: digest for name, digest in self.written.items()}
        return all(path.is_file() and file_digest(path) == digest for path, digest in paths.items())

    def tables(self) -> list[Any]:
        """Return the machine, the checkout, the commands, then each scenario's values with their origins."""
        rows = [
            ["release", self.release.round],
            ["commit", self.release.commit or "not a git repository"],
            ["digest of code and configuration", self.release.digest[:16]],
            ["this machine is", self.release.system],
            ["written by nvkit", ", ".join(self.written) or "nothing"],
        ]
        headings = ["setting", "value", "layer", "file", "key", "overrode"]
        values = [
            Table(headings, rows, title=f"{name}: every value and its origin") for name, rows in self.settings.items()
        ]
        return [
            self.system.table(),
            Table(["what", "which"], rows, "NVIDIA's code", self.left_out),
            *super().tables(),
            *values,
        ]


@dataclass(frozen=True)
class Plan:
    """A TensorRT engine that NVIDIA's code wrote.

    Attributes:
        path: The file.
        scenario: The scenario that it was built for.
        megabytes: Size.
        changed_ns: Time of its last change, ns since the epoch.
    """

    path: Path
    scenario: str
    megabytes: float
    changed_ns: int


class NvidiaBuildResult(StepsResult):
    """The engines.

    Attributes:
        plans: In the order in which they were built.
    """

    plans: tuple[Plan, ...]

    def usable(self) -> bool:
        """Whether the engines are still those that were built: NVIDIA's code reuses the name for other settings."""
        return all(p.path.is_file() and p.path.stat().st_mtime_ns == p.changed_ns for p in self.plans)

    def tables(self) -> list[Any]:
        """Return the engines, then the commands."""
        rows = [[plan.path.name, plan.scenario, round(plan.megabytes, 1)] for plan in self.plans]
        return [Table(["engine", "scenario", "MB"], rows, "Engines"), *super().tables()]


class NvidiaRunResult(RunResult):
    """All tests of the run.

    Attributes:
        framework: What ran the model, as the harness says it, e.g. "TensorRT 8.6.0".
    """

    framework: str
