"""What every run records of where its results come from; written by the report stage, without being asked.

record/system.json       the machine in MLPerf's schema of a system description
record/machine.json      clocks and power state of CPU and GPUs, and the environment variables that change speed
record/packages.json     every installed distribution with the digest of its RECORD
record/code.json         nvkit's commit, what is changed since, digests of code, notebooks and parameters
record/uncommitted.diff  that change; applied to the commit it gives the code that ran
record/artefacts.json    digests of model, data list, calibration set, ranges, engines
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from nvkit.config import RunConfig
from nvkit.record.artefacts import artefacts
from nvkit.record.code import code_state
from nvkit.record.machine_state import cpu_state, gpu_state
from nvkit.record.mlperf_system import system_description
from nvkit.record.packages import packages
from nvkit.record.reading import read_stages
from nvkit.runs import RunFolder
from nvkit.store import write_json, write_text
from nvkit.system import System

FOLDER = "record"
DIFF = "uncommitted.diff"
VARIABLES = (
    "OMP_NUM_THREADS",
    "OMP_PROC_BIND",
    "OMP_PLACES",
    "OMP_WAIT_POLICY",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "KMP_AFFINITY",
    "KMP_BLOCKTIME",
    "CUDA_DEVICE_ORDER",
    "CUDA_DEVICE_MAX_CONNECTIONS",
    "CUDA_LAUNCH_BLOCKING",
    "CUDA_MODULE_LOADING",
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_TF32_OVERRIDE",
    "MALLOC_ARENA_MAX",
)
"""The only environment variables that are recorded: they change how fast the libraries compute, and hold no secret."""


def capture(config: RunConfig, run: RunFolder, system: System, framework: str = "") -> None:
    """Write `record/` into a run folder.

    Args:
        config: The configuration.
        run: The run folder, its stages up to the run stage finished.
        system: The machine, as the setup stage found it.
        framework: What ran the model; the backend of the settings if empty.
    """
    folder = run.path / FOLDER
    code, diff = code_state()
    description = system_description(system, framework or config.shared.backend, run.path)
    state: dict[str, Any] = {"cpu": cpu_state(), "gpus": gpu_state()}
    state["environment"] = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    write_json(folder / "system.json", description)
    write_json(folder / "machine.json", state)
    write_json(folder / "packages.json", packages())
    write_json(folder / "code.json", code)
    write_json(folder / "artefacts.json", artefacts(read_stages(run.path), run.places))
    if diff:
        write_text(folder / DIFF, diff)
    else:
        Path(folder / DIFF).unlink(missing_ok=True)
