"""Run: every LoadGen test of the configuration, each in a child process; finished ones are not run again."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from nvkit.benchmarks.base import Accuracy, benchmark
from nvkit.config import RunConfig
from nvkit.engine import backend
from nvkit.errors import BackendUnavailableError
from nvkit.harness import TestSpec, refuse_audit_config, run_test, set_aside
from nvkit.harness.predict import Prediction
from nvkit.power import applied, plan
from nvkit.results.gpu import gpu_figures, gpu_tables
from nvkit.results.raw_log import read_accuracy
from nvkit.results.summary import TestSummary, departures_tables, results_table, summarise
from nvkit.results.user_conf import user_conf
from nvkit.runs import RunFolder, StageResult
from nvkit.stages.build import BuildResult, build
from nvkit.stages.preprocess import PreprocessResult, preprocess
from nvkit.stages.setup import SetupResult, setup
from nvkit.store import write_json, write_text
from nvkit.tables import Table
from nvkit.telemetry import Telemetry, judge, read
from nvkit.tuning.plan import planned_test, show_plan
from nvkit.tuning.targets import Target, target_for

_TESTS = {"both": ("performance", "accuracy")}


@dataclass(frozen=True)
class Expectation:
    """What LoadGen sized a test by.

    Attributes:
        value: In the unit of the setting: samples/s, queries/s or ns.
        origin: Who says so: the user, nvkit tune, a file, the warm-up.
    """

    value: float
    origin: str


class TestResult(StageResult):
    """One LoadGen test.

    Attributes:
        summary: What its logs say.
        expectations: Setting to the expected rate or latency that LoadGen sized the test by.
        predicted: What the test was to take, said after the warm-up.
        logs: Their folder, relative to the run folder.
        telemetry: What the GPUs did meanwhile; None without GPUs, or if nothing was recorded.
        runner: What the runner says of itself: GPUs, options in use, sums of GPU time; empty without GPUs.
    """

    __test__ = False  # the name is the field's term, not a pytest class

    summary: TestSummary
    expectations: dict[str, Expectation]
    predicted: Prediction
    logs: str
    telemetry: Telemetry | None = None
    runner: dict[str, Any] = Field(default_factory=dict)


class RunResult(StageResult):
    """All tests of the run.

    Attributes:
        tests: In the order of scenarios, performance before accuracy.
        target: Accuracy that the closed division asks for.
    """

    tests: tuple[TestResult, ...]
    target: float

    def tables(self) -> list[Any]:
        """Return the results, what the GPUs did, what the tests were sized by, and departures from the rules."""
        summaries = [test.summary for test in self.tests]
        gpus = gpu_tables(self.tests)
        return [results_table(summaries), *gpus, self._expected(), *departures_tables(summaries)]

    def figures(self) -> dict[str, Any]:
        """Return what the GPUs did over each performance test, and where their time went; empty without GPUs."""
        return gpu_figures(self.folder, self.tests, " · ".join(self.notes))

    def _expected(self) -> Table:
        rows: list[list[Any]] = []
        for test in self.tests:
            for setting, expected in test.expectations.items():
                summary, foreseen = test.summary, test.predicted
                sizes = [foreseen.samples, summary.counts.get("samples"), round(foreseen.seconds, 1)]
                took = None if summary.duration_s is None else round(summary.duration_s, 1)
                rows.append([summary.scenario, summary.mode, setting, expected.value, expected.origin, *sizes, took])
        headings = ["scenario", "mode", "setting", "value", "origin", "samples expected", "samples", "s expected", "s"]
        return Table(headings, rows, "What the tests were sized by")


def run(config: RunConfig, run: RunFolder, *, fresh: bool = False) -> RunResult:
    """Run the tests that are not finished yet (all with `fresh`).

    Raises:
        BackendUnavailableError: the engines are for another machine.
        ConfigError: an audit.config lies in the working directory, or a GPU is not in the power mode's state.
        HarnessError: a test failed or was killed; tests finished before are kept.
    """
    refuse_audit_config(Path.cwd())
    for name, settings in config.scenarios.items():
        if reason := backend(settings.backend).cannot_run(settings):
            raise BackendUnavailableError(f"{name} cannot run on this machine.", reason)
    first, samples, engines = setup(config, run), preprocess(config, run), build(config, run)
    modes = _TESTS.get(config.mode, (config.mode,))
    wanted = [(scenario, mode) for scenario in config.scenarios for mode in modes]

    def work() -> RunResult:
        count = samples.samples.count
        planned = []
        targets = {
            scenario: target_for(config, scenario, run.store, engines.engines[scenario].digest, samples.samples.digest)
            for scenario in config.scenarios
        }
        for scenario, mode in wanted:
            if fresh or not run.finished(TestResult, *_identity(engines, scenario, mode)):
                planned.append(planned_test(config.scenarios[scenario], scenario, mode, targets[scenario], count))
        if planned:
            show_plan(planned)
        tests = tuple(
            _one_test(config, run, first, samples, engines, scenario, mode, targets[scenario], fresh=fresh)
            for scenario, mode in wanted
        )
        return RunResult(tests=tests, target=config.rules.accuracy_target, notes=engines.notes)

    return run.stage(RunResult, "run", {"build": engines.key}, work, fresh=fresh)


def _identity(engines: BuildResult, scenario: str, mode: str) -> tuple[str, dict[str, str]]:
    """Return the name and the key of a test's stage.

    The target is not part of the key: a finished test stands, whatever 'nvkit tune' finds later.
    """
    return f"run-{scenario}-{mode}", {"build": engines.key, "scenario": scenario, "mode": mode}


def _one_test(
    config: RunConfig,
    run: RunFolder,
    first: SetupResult,
    samples: PreprocessResult,
    engines: BuildResult,
    scenario: str,
    mode: str,
    target: Target,
    *,
    fresh: bool,
) -> TestResult:
    logs = f"loadgen/{scenario}/{mode}"
    folder = run.path / logs

    def work() -> TestResult:
        settings = target.put_into(config.scenarios[scenario])
        spec = TestSpec(config.package, scenario, mode, settings, engines.engines[scenario].path, samples.samples)
        set_aside(folder)
        with applied(plan(config, scenario), apply=settings.apply_power, outputs=run.store.root.parent) as power:
            child = run_test(spec, folder)
        if power.plan.steps:
            write_json(folder / "power.json", power.to_json())
        accuracy = None if mode == "performance" else _score(config, first, samples, folder)
        used = settings.model_copy(update=child["expectations"])
        write_text(folder / "user.conf", user_conf(config, scenario, used, mode=mode, samples=samples.samples.count))
        summary = summarise(
            folder,
            config.round,
            engines.notes,
            rules=config.official[scenario],
            accuracy=asdict(accuracy) | {"target": config.rules.accuracy_target} if accuracy else None,
        )
        return TestResult(
            summary=summary,
            expectations={
                key: Expectation(float(value), target.origin) for key, value in child["expectations"].items()
            },
            predicted=Prediction(**child["predicted"]),
            logs=logs,
            telemetry=judge(read(folder), child["begin"], child["end"], child["completed"]),
            runner=child["runner"],
            notes=(*engines.notes, *power.notes, *_answered_last(child["deferred"])),
        )

    result = run.stage(TestResult, *_identity(engines, scenario, mode), work, fresh=fresh)
    print(result.headline(), flush=True)
    return result


def _answered_last(deferred: int) -> list[str]:
    return [f"soft_drop: {deferred:,} samples were answered after the last query"] if deferred else []


def _score(config: RunConfig, first: SetupResult, samples: PreprocessResult, folder: Path) -> Accuracy:
    """Score the accuracy log, and write the line of MLCommons' accuracy script beside it."""
    bench = benchmark(config.package)
    accuracy = bench.score(read_accuracy(folder), bench.without(first.data, samples.samples.skipped))
    write_text(folder / "accuracy.txt", accuracy.line + "\n")
    return accuracy
