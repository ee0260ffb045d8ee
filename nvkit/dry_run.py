"""What a run would do, without doing any of it: the stages and, for NVIDIA's code, every command."""

from __future__ import annotations

import shlex
import time
from datetime import datetime
from pathlib import Path

import nvkit
from nvkit.config import RunConfig
from nvkit.errors import ConfigError, UnfinishedStageError
from nvkit.notebooks import STAGES
from nvkit.runs import RunFolder, StageResult, find_runs, outputs_folder
from nvkit.store import duration
from nvkit.tables import Table

_FROM_STORE = ("setup", "preprocess", "calibrate", "build")


def dry_run(config: RunConfig, run_mode: str = "", outputs: str | Path = "", *, fresh: bool = False) -> list[Table]:
    """Return what `nvkit run` would do for a configuration. Nothing is written and nothing is run.

    Args:
        config: The configuration.
        run_mode: For NVIDIA's code: one run mode by itself; empty for all that a run does.
        outputs: Folder of runs/ and store/; the clone's own if empty.
        fresh: As of `nvkit run`: a new run folder.

    Raises:
        ConfigError: a run mode, a checkout or an option that is wrong.
    """
    tables = [] if run_mode else [_stages(config, Path(outputs) if str(outputs) else outputs_folder(), fresh)]
    if config.implementation == "nvidia-original":
        tables.append(_commands(config, run_mode))
    elif run_mode:
        raise ConfigError(
            f"Run mode {run_mode} belongs to NVIDIA's code.",
            "Give --implementation nvidia-original too, or leave it out.",
        )
    return tables


def _stages(config: RunConfig, outputs: Path, fresh: bool) -> Table:
    """Return one row for each stage: what would become of it."""
    found = find_runs(outputs, f"{config.profile}-{config.benchmark}-{config.digest[:8]}")
    run = RunFolder(found[-1].resolve(), config, read_only=True) if found else None
    again = run is not None and (fresh or run.complete)
    rows = []
    for stage, notebook in STAGES:
        result = _finished(run, stage) if run else None
        if result is None:
            state = "to do"
        elif not again:
            state = f"finished {_ago(result)} ago, reused"
        elif stage in _FROM_STORE and config.implementation == "nvkit":
            state = "again, with what is in the store"
        else:
            state = "again"
        rows.append([stage, notebook, state])
    where = f"run folder: {run.path}" if run and not again else f"run folder: a new one in {outputs / 'runs'}"
    title = f"{config.title} on {config.profile}, round {config.round}: {', '.join(config.scenarios)} ({config.mode})"
    return Table(["stage", "notebook", "state"], rows, title, [f"digest of the settings: {config.digest[:8]}", where])


def _finished(run: RunFolder, stage: str) -> StageResult | None:
    try:
        result: StageResult = getattr(nvkit.stages, stage)(run.config, run)
    except UnfinishedStageError:
        return None
    return result


def _ago(result: StageResult) -> str:
    return duration(max(0.0, time.time() - datetime.fromisoformat(result.finished).timestamp()))


def _commands(config: RunConfig, run_mode: str) -> Table:
    """Return one row for each command of NVIDIA's code, as a shell takes it, and what is not passed on."""
    from nvkit.interop.nvidia import commands, left_out
    from nvkit.interop.nvidia.machine import checkout_of
    from nvkit.interop.nvidia.stages import run_modes

    checkout = checkout_of(config)
    rows = []
    for name in [run_mode] if run_mode else run_modes(config):
        for command in commands(config, name, checkout):
            variables = [f"{key}={shlex.quote(value)}" for key, value in command.env.items()]
            line = " ".join([f"cd {shlex.quote(str(command.cwd))} &&", *variables, command.line])
            rows.append([name, command.what, line])
    return Table(["run mode", "what", "command"], rows, "Commands of NVIDIA's code", left_out(config, checkout))
