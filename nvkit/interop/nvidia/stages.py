"""The stages of a reproduction, done by NVIDIA's own code: the same names, run folder, logs and report as nvkit's.

`nvkit.stages` comes here for a configuration with implementation "nvidia-original".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from nvkit.config import QUICK_NOTE, RunConfig
from nvkit.errors import EngineBuildError, ExecutionError
from nvkit.interop.nvidia.checkout import Checkout
from nvkit.interop.nvidia.commands import Command, commands
from nvkit.interop.nvidia.execute import execute
from nvkit.interop.nvidia.harness import framework, logs_of, run_command, run_test, summary_of
from nvkit.interop.nvidia.logs import changed, state
from nvkit.interop.nvidia.machine import cache_digest, checkout_of, code_digest, commit, identify
from nvkit.interop.nvidia.options import left_out
from nvkit.interop.nvidia.results import (
    NvidiaBuildResult,
    NvidiaRunResult,
    NvidiaSetupResult,
    Plan,
    Release,
    Step,
    StepsResult,
)
from nvkit.results.summary import TestSummary
from nvkit.runs import RunFolder, StageResult
from nvkit.stages.report import ReportResult, report_on
from nvkit.system import describe

_CALIBRATED = ("retinanet",)
"""Benchmarks whose calibration the releases do on the machine; for the others they ship the cache."""
STAGES_OF = {
    "download_model": "setup",
    "preprocess_data": "preprocess",
    "build_engine": "build",
    "run_harness": "run",
}
"""Run mode of NVIDIA's code to the stage that does it; the others are done on request only."""


def run_modes(config: RunConfig) -> list[str]:
    """Return the run modes of NVIDIA's code that a whole run does, in order."""
    calibrate = [] if _no_calibration(config) else ["calibrate"]
    return ["download_model", "preprocess_data", *calibrate, "build_engine", "run_harness"]


def setup(config: RunConfig, run: RunFolder, *, fresh: bool = False) -> NvidiaSetupResult:
    """Open the checkout, make this machine known to it, get the model, and record the machine.

    Raises:
        ConfigError: no checkout, another release's, or an option that it does not know.
        SetupError: the release cannot be told what this machine is.
        ExecutionError: a command failed.
    """
    checkout = checkout_of(config)
    digest = code_digest(checkout)

    def work() -> NvidiaSetupResult:
        model = commands(config, "download_model", checkout)
        for later in ("build_engine", "run_harness"):
            commands(
                config, later, checkout
            )  # an option that the release does not know is refused before anything runs
        system = describe()
        known, written = identify(config, checkout, system, _console(run, "setup"))
        notes = [*([QUICK_NOTE] if config.quick else []), _brand(checkout)]
        if written:
            notes.append(f"NVIDIA's code did not know this machine; nvkit described it from profile {config.profile}")
        return NvidiaSetupResult(
            system=system,
            release=Release(checkout.root, checkout.round, commit(checkout), digest, known),
            written=written,
            left_out=tuple(left_out(config, checkout)),
            settings={name: [list(row) for row in config.table(name).rows] for name in config.scenarios},
            steps=_perform(model, run, "setup"),
            notes=tuple(notes),
        )

    return run.stage(NvidiaSetupResult, "setup", {"config": config.digest, "code": digest}, work, fresh=fresh)


def preprocess(config: RunConfig, run: RunFolder, *, fresh: bool = False) -> StepsResult:
    """Preprocess the data set with NVIDIA's code.

    Raises:
        ExecutionError: the command failed.
    """
    before = setup(config, run)

    def work() -> StepsResult:
        steps = commands(config, "preprocess_data", checkout_of(config))
        return StepsResult(steps=_perform(steps, run, "preprocess"), notes=before.notes)

    return run.stage(StepsResult, "preprocess", {"setup": before.key}, work, fresh=fresh)


def calibrate(config: RunConfig, run: RunFolder, *, fresh: bool = False) -> StepsResult:
    """Calibrate where the releases do it on the machine; elsewhere they ship their cache.

    Raises:
        EngineBuildError: the command failed.
    """
    before = preprocess(config, run)

    def work() -> StepsResult:
        if why_not := _no_calibration(config):
            return StepsResult(why_not=why_not, notes=before.notes)
        steps = commands(config, "calibrate", checkout_of(config))
        return StepsResult(steps=_perform(steps, run, "calibrate", EngineBuildError), notes=before.notes)

    return run.stage(StepsResult, "calibrate", {"preprocess": before.key}, work, fresh=fresh)


def build(config: RunConfig, run: RunFolder, *, fresh: bool = False) -> NvidiaBuildResult:
    """Build the engines with NVIDIA's code.

    Raises:
        EngineBuildError: the command failed, or ended without writing an engine.
    """
    before = calibrate(config, run)

    def work() -> NvidiaBuildResult:
        checkout = checkout_of(config)
        engines = checkout.root / "build" / "engines"
        steps: list[Step] = []
        plans: list[Plan] = []
        for command in commands(config, "build_engine", checkout):
            earlier = state(engines, "*.plan")
            steps += _perform([command], run, "build", EngineBuildError)
            made = changed(engines, earlier, "*.plan")
            if not made:
                raise EngineBuildError(
                    f"{command.what} ended, but it wrote no engine below {engines}.",
                    f"{_console(run, 'build')} has what it said.",
                )
            for path in made:
                facts = path.stat()
                plans.append(Plan(path, command.scenario or "", facts.st_size / 1e6, facts.st_mtime_ns))
        return NvidiaBuildResult(steps=tuple(steps), plans=tuple(plans), notes=before.notes)

    # A calibration changes the cache in the checkout, and the cache is part of an engine.
    key = {"calibrate": before.key, "caches": cache_digest(checkout_of(config))}
    return run.stage(NvidiaBuildResult, "build", key, work, fresh=fresh)


def run(config: RunConfig, run: RunFolder, *, fresh: bool = False) -> NvidiaRunResult:
    """Run the tests that are not finished yet (all with `fresh`) with NVIDIA's harness.

    Raises:
        HarnessError: a test failed, was killed, or left no logs of its own; tests finished before are kept.
    """
    before = build(config, run)

    def work() -> NvidiaRunResult:
        tests = tuple(
            run_test(config, run, command, before.key, before.notes, fresh=fresh)
            for command in commands(config, "run_harness", checkout_of(config))
        )
        return NvidiaRunResult(
            tests=tests,
            target=config.rules.accuracy_target,
            framework=next((said for test in tests if (said := framework(run.path / test.logs))), ""),
            notes=before.notes,
        )

    return run.stage(NvidiaRunResult, "run", {"build": before.key}, work, fresh=fresh)


def report(config: RunConfig, run_folder: RunFolder, *, fresh: bool = False) -> ReportResult:
    """Compare the results with published ones, as for nvkit's own harness."""
    first, results = setup(config, run_folder), run(config, run_folder)
    return report_on(config, run_folder, first.system, results, framework=results.framework, fresh=fresh)


def on_request(config: RunConfig, run: RunFolder, run_mode: str, *, audit: str | None = None) -> StageResult:
    """Do one run mode of NVIDIA's code by itself, now: prebuild, build, calibrate, an audit test, or a stage again.

    Args:
        config: The configuration.
        run: The run folder.
        run_mode: One of `nvkit.interop.nvidia.RUN_MODES`.
        audit: With run_harness, the audit test to run instead, e.g. "TEST01".

    Raises:
        ConfigError: no such run mode or audit test.
        ExecutionError: a command failed.
    """
    if run_mode in STAGES_OF and not audit:
        stage: Callable[..., StageResult] = globals()[STAGES_OF[run_mode]]
        return stage(config, run, fresh=True)

    def work() -> StepsResult:
        checkout = checkout_of(config)
        steps: list[Step] = []
        summaries: list[TestSummary] = []
        for command in commands(config, run_mode, checkout, audit=audit):
            if command.log_dir and command.scenario and command.mode:
                folder = run.path / logs_of(command)
                seconds = run_command(command, folder, config.rules.metric)
                steps.append(Step(command.what, command.line, seconds, command.scenario, command.mode))
                summaries.append(summary_of(config, folder, command.scenario, (_brand(checkout),)))
            else:
                steps += _perform([command], run, run_mode)
        return StepsResult(steps=tuple(steps), summaries=tuple(summaries), notes=(_brand(checkout),))

    name = "-".join(["nvidia", run_mode, *([audit] if audit else [])])
    return run.stage(StepsResult, name, {"config": config.digest}, work, fresh=True)


def _no_calibration(config: RunConfig) -> str:
    """Say why a run does not calibrate, or return an empty string."""
    if config.shared.precision != "int8":
        return f"{config.shared.precision} engines need no calibration."
    return "" if config.benchmark in _CALIBRATED else "The release's own calibration cache is used."


def _brand(checkout: Checkout) -> str:
    return f"run by NVIDIA's own code, release {checkout.round}"


def _console(run: RunFolder, stage: str) -> Path:
    return run.path / "console" / f"{stage}.txt"


def _perform(
    wanted: Iterable[Command], run: RunFolder, stage: str, failure: type[ExecutionError] = ExecutionError
) -> tuple[Step, ...]:
    """Run commands one after the other; the output of all is in console/<stage>.txt of the run folder."""
    done = []
    for command in wanted:
        seconds = execute(command, _console(run, stage), failure)
        done.append(Step(command.what, command.line, seconds, command.scenario or "", command.mode or ""))
    return tuple(done)
