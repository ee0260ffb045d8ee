"""One LoadGen test by NVIDIA's harness, its logs in the run folder like those of nvkit's own."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from nvkit.benchmarks.base import Accuracy
from nvkit.config import RunConfig
from nvkit.errors import HarnessError
from nvkit.harness import set_aside, unfinished
from nvkit.harness.predict import predict
from nvkit.harness.settings import EXPECTATIONS
from nvkit.interop.nvidia.accuracy import read_score
from nvkit.interop.nvidia.commands import Command
from nvkit.interop.nvidia.execute import execute
from nvkit.interop.nvidia.logs import collect, state
from nvkit.power import applied, plan
from nvkit.results.loadgen_log import DetailLog, read_detail
from nvkit.results.summary import TestSummary, summarise
from nvkit.runs import RunFolder
from nvkit.stages.run import Expectation, TestResult
from nvkit.store import write_json

_METADATA = "metadata.json"


def run_test(
    config: RunConfig, run: RunFolder, command: Command, key: str, notes: tuple[str, ...], *, fresh: bool
) -> TestResult:
    """Run one test, unless it is finished.

    Args:
        config: The configuration.
        run: The run folder.
        command: Of the test.
        key: Of the build stage.
        notes: What a reader must know.
        fresh: Run it again even if it is finished.

    Raises:
        HarnessError: the test failed, was killed, left no logs of its own, or was not scored.
    """
    assert command.scenario is not None
    assert command.mode is not None
    scenario, mode, logs = command.scenario, command.mode, logs_of(command)
    folder = run.path / logs

    def work() -> TestResult:
        allowed = config.scenarios[scenario].apply_power
        with applied(plan(config, scenario), apply=allowed, outputs=run.store.root.parent) as power:
            run_command(command, folder, config.rules.metric)
        if power.plan.steps:
            write_json(folder / "power.json", power.to_json())
        detail = read_detail(folder)
        values = _expectation(config, scenario, detail)
        settings = config.scenarios[scenario].model_copy(update={name: e.value for name, e in values.items()})
        return TestResult(
            summary=summary_of(config, folder, scenario, notes),
            expectations=values,
            predicted=predict(settings, scenario, mode, _samples(detail)),
            logs=logs,
            notes=(*notes, *power.notes),
        )

    identity = {"build": key, "scenario": scenario, "mode": mode}
    result = run.stage(TestResult, f"run-{scenario}-{mode}", identity, work, fresh=fresh)
    print(result.headline(), flush=True)
    return result


def logs_of(command: Command) -> str:
    """Return where the logs of a test go, relative to the run folder."""
    return f"loadgen/{command.scenario}/{command.mode}"


def run_command(command: Command, folder: Path, metric: str) -> float:
    """Run the command of one test; its logs are in `folder` when this returns.

    While it runs, and if it fails, what there is lies in `<folder>.partial` beside a note that says so.

    Args:
        command: One with a scenario, a mode and a log folder.
        folder: Where the logs go; what lies there from before is set aside.
        metric: Name of the accuracy metric in the round's rules.

    Returns:
        Seconds that it took.

    Raises:
        HarnessError: it failed, was killed, left no complete logs of this test, or was not scored.
        DiskFullError: no space for the logs.
    """
    assert command.log_dir is not None
    assert command.scenario is not None
    assert command.mode is not None
    with unfinished(folder) as partial:
        write_json(partial / "command.json", {"line": command.line, "env": dict(command.env)})
        before = state(command.log_dir)
        seconds = execute(command, partial / "console.txt", HarnessError)
        detail = collect(command.log_dir, before, command.scenario, command.mode, partial)
        _score(partial, detail, metric)
        set_aside(folder)
    return seconds


def summary_of(config: RunConfig, folder: Path, scenario: str, notes: tuple[str, ...]) -> TestSummary:
    """Summarise the logs of a test as those of nvkit's own harness."""
    accuracy = _score(folder, read_detail(folder), config.rules.metric)
    return summarise(
        folder,
        config.round,
        notes,
        rules=config.official[scenario],
        accuracy=asdict(accuracy) | {"target": config.rules.accuracy_target} if accuracy else None,
    )


def framework(folder: Path) -> str:
    """Return what ran the model of a test, as the harness wrote it down, or an empty string."""
    try:
        said = json.loads((folder / _METADATA).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    version = said.get("tensorrt_version") if isinstance(said, dict) else None
    return f"TensorRT {version}" if version else ""


def _score(folder: Path, detail: DetailLog, metric: str) -> Accuracy | None:
    """Read the score of an accuracy test; the releases score no other."""
    return read_score(folder, metric, _samples(detail)) if detail.mode == "AccuracyOnly" else None


def _samples(detail: DetailLog) -> int:
    return int(detail.require("qsl_reported_total_count"))


def _expectation(config: RunConfig, scenario: str, detail: DetailLog) -> dict[str, Expectation]:
    """Return what LoadGen sized the test by, from its log: NVIDIA's configuration fills in what nvkit does not set."""
    (name,) = EXPECTATIONS[scenario]
    rate = float(detail.require("effective_target_qps"))
    value = round(1e9 / rate) if name.endswith("_ns") else rate
    chain = config.origins[scenario].get(name)
    origin = f"{chain[-1].layer}: {chain[-1].where}" if chain else "NVIDIA's configuration"
    return {name: Expectation(value, origin)}
