"""A whole reproduction: every stage's notebook, through papermill, into one run folder."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import nvkit
from nvkit.benchmarks.base import benchmark
from nvkit.config import PATHS, RunConfig
from nvkit.errors import NotebookError, UnfinishedStageError, disk_errors
from nvkit.harness import refuse_audit_config
from nvkit.notebooks import STAGES, execute, notebooks_folder
from nvkit.record.keys import default_key
from nvkit.record.seal import seal
from nvkit.runs import RunFolder, StageResult, open_run
from nvkit.stages.report import ReportResult

CONSOLE = "console.txt"
"""What a run said on the terminal, in its folder; what its cells printed is in the notebooks."""


def reproduce(
    names: Mapping[str, Any], overrides: Mapping[str, Any], outputs: str = "", *, fresh: bool = False
) -> tuple[ReportResult, Path]:
    """Execute the notebooks of all stages, continuing the newest unfinished run of the same configuration.

    Args:
        names: Arguments of `nvkit.configure`, all but the overrides.
        overrides: Setting to value.
        outputs: Folder of runs/ and store/; the clone's own if empty.
        fresh: Begin a new run folder even if one is unfinished.

    The finished run is sealed, and signed if there is a key (`nvkit keygen`).

    Returns:
        The report and the run folder.

    Raises:
        NvkitError: whatever a stage raised; a killed kernel is a NotebookError.
    """
    refuse_audit_config(Path.cwd())
    paths = {key: str(Path(value).resolve()) for key, value in overrides.items() if key in PATHS}
    values = {**overrides, **paths}  # the notebooks run in another working directory
    config = nvkit.configure(**names, overrides=values)
    _require(config)
    run = open_run(config, outputs)
    if fresh or run.complete:
        run = open_run(config, outputs, new=True)
    console = run.path / CONSOLE
    _say(f"{config.title}, profile {config.profile}, round {config.round}: {', '.join(config.scenarios)}", console)
    _say(f"run folder {run.path}", console)
    names = {**names, "profile": config.profile}  # auto has found it; a notebook must not find another one
    parameters = {**names, "overrides": values, "outputs": str(run.path.parent.parent), "run_dir": str(run.path)}
    for number, (stage, notebook) in enumerate(STAGES, start=1):
        label = f"[{number}/{len(STAGES)}] "
        executed = run.path / notebook
        done = _finished(run, stage) if executed.exists() else None
        if not done:
            _say(f"{label}{stage}: {notebook}", console)
            execute(notebooks_folder() / notebook, executed, parameters, cwd=run.path)
            done = _finished(run, stage)
            if done is None:
                raise NotebookError(
                    f"{notebook} finished, but its result is not of this nvkit: its source was changed during the run.",
                    "Give the same command again.",
                )
            done = done.model_copy(update={"reused": False})
        _say(f"{label}{done.headline()}", console)
    report = nvkit.stages.report(config, run)
    _say(str(seal(run.path, default_key())))
    return report, run.path


def _require(config: RunConfig) -> None:
    """Refuse what cannot be run at all before there is a run folder of it."""
    if config.implementation == "nvidia-original":
        from nvkit.interop.nvidia.machine import checkout_of

        checkout_of(config)
    else:
        benchmark(config.package)


def _finished(run: RunFolder, stage: str) -> StageResult | None:
    try:
        result: StageResult = getattr(nvkit.stages, stage)(run.config, RunFolder(run.path, run.config, read_only=True))
    except UnfinishedStageError:
        return None
    return result


def _say(text: str, console: Path | None = None) -> None:
    """Print a line on stderr, and into the run folder's copy of it, with the time."""
    print(text, file=sys.stderr, flush=True)
    if console:
        with disk_errors(console), console.open("a", encoding="utf-8") as stream:
            print(f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ} {text}", file=stream)
