"""Run: every LoadGen test of the configuration, each in a child process; finished ones are not run again."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nvkit.benchmarks.base import Accuracy, benchmark
from nvkit.config import RunConfig
from nvkit.engine import backend
from nvkit.errors import BackendUnavailableError
from nvkit.harness import TestSpec, refuse_audit_config, run_test
from nvkit.results.raw_log import read_accuracy
from nvkit.results.summary import TestSummary, departures_tables, results_table, summarise
from nvkit.runs import RunFolder, StageResult
from nvkit.stages.build import BuildResult, build
from nvkit.stages.preprocess import PreprocessResult, preprocess
from nvkit.stages.setup import SetupResult, setup
from nvkit.store import write_text

_TESTS = {"both": ("performance", "accuracy")}


class TestResult(StageResult):
    """One LoadGen test.

    Attributes:
        summary: What its logs say.
        expectations: The expected rate or latency that LoadGen sized the test by.
        logs: Their folder, relative to the run folder.
    """

    __test__ = False  # the name is the field's term, not a pytest class

    summary: TestSummary
    expectations: dict[str, float]
    logs: str


class RunResult(StageResult):
    """All tests of the run.

    Attributes:
        tests: In the order of scenarios, performance before accuracy.
        target: Accuracy that the closed division asks for.
    """

    tests: tuple[TestResult, ...]
    target: float

    def tables(self) -> list[Any]:
        """Return the results, and what departs from the round's rules."""
        tables = [results_table([test.summary for test in self.tests])]
        return [*tables, *departures_tables([test.summary for test in self.tests])]


def run(config: RunConfig, run: RunFolder, *, fresh: bool = False) -> RunResult:
    """Run the tests that are not finished yet (all with `fresh`).

    Raises:
        BackendUnavailableError: the engines are for another machine.
        ConfigError: an audit.config lies in the working directory.
        HarnessError: a test failed or was killed; tests finished before are kept.
    """
    refuse_audit_config(Path.cwd())
    for name, settings in config.scenarios.items():
        if reason := backend(settings.backend).cannot_run(settings):
            raise BackendUnavailableError(f"{name} cannot run on this machine.", reason)
    first, samples, engines = setup(config, run), preprocess(config, run), build(config, run)
    modes = _TESTS.get(config.mode, (config.mode,))

    def work() -> RunResult:
        tests = tuple(
            _one_test(config, run, first, samples, engines, scenario, mode, fresh=fresh)
            for scenario in config.scenarios
            for mode in modes
        )
        return RunResult(tests=tests, target=config.rules.accuracy_target, notes=engines.notes)

    return run.stage(RunResult, "run", {"build": engines.key}, work, fresh=fresh)


def _one_test(
    config: RunConfig,
    run: RunFolder,
    first: SetupResult,
    samples: PreprocessResult,
    engines: BuildResult,
    scenario: str,
    mode: str,
    *,
    fresh: bool,
) -> TestResult:
    logs = f"loadgen/{scenario}/{mode}"
    folder = run.path / logs

    def work() -> TestResult:
        spec = TestSpec(
            config.package,
            scenario,
            mode,
            config.scenarios[scenario],
            engines.engines[scenario].path,
            samples.samples,
        )
        _set_aside(folder)
        child = run_test(spec, folder)
        accuracy = None if mode == "performance" else _score(config, first, samples, folder)
        summary = summarise(
            folder,
            config.round,
            engines.notes,
            rules=config.official[scenario],
            accuracy=asdict(accuracy) | {"target": config.rules.accuracy_target} if accuracy else None,
        )
        return TestResult(summary=summary, expectations=child["expectations"], logs=logs, notes=engines.notes)

    key = {"build": engines.key, "scenario": scenario, "mode": mode}
    result = run.stage(TestResult, f"run-{scenario}-{mode}", key, work, fresh=fresh)
    print(result.headline(), flush=True)
    return result


def _set_aside(folder: Path) -> None:
    """Rename logs of an earlier test of the same name: evidence is never overwritten."""
    number = 1
    while folder.exists():
        older = folder.with_name(f"{folder.name}.earlier-{number}")
        number += 1
        if not older.exists():
            os.replace(folder, older)


def _score(config: RunConfig, first: SetupResult, samples: PreprocessResult, folder: Path) -> Accuracy:
    """Score the accuracy log, and write the line of MLCommons' accuracy script beside it."""
    bench = benchmark(config.package)
    accuracy = bench.score(read_accuracy(folder), bench.without(first.data, samples.samples.skipped))
    write_text(folder / "accuracy.txt", accuracy.line + "\n")
    return accuracy
