"""Reads a run folder as plain values, whoever wrote it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nvkit.errors import InputError

PROVENANCE, ENVELOPE = "provenance.json", "seal.dsse.json"
SEALS = (PROVENANCE, ENVELOPE)
"""The files that stand for all others, and so not for themselves."""
IGNORED = (".ipynb_checkpoints",)
"""Folders that JupyterLab makes when somebody opens a notebook; no part of a record."""
LOADGEN_LOG = "mlperf_log_"
_ORDER = ("setup", "preprocess", "calibrate", "build", "run-", "run", "report")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: there is no such file, or it is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"There is no {path}.", "Give the folder of a finished run.") from None
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}.", "Restore it from a copy of the record.") from None


def read_stages(run: Path) -> dict[str, dict[str, Any]]:
    """Return the stored results of the stages as they stand in the files, in the order in which stages follow."""
    found = {path.stem: read_json(path) for path in (run / "stages").glob("*.json")}
    return {name: found[name] for name in sorted(found, key=_rank)}


def files(run: Path) -> list[str]:
    """Return the names of all files of a record but the seals, relative to the folder, sorted.

    Links count as files: a record holds what it says, not something elsewhere.
    """
    names = []
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run)
        if (path.is_file() or path.is_symlink()) and not set(IGNORED) & set(name.parts):
            names.append(name.as_posix())
    return [name for name in names if name not in SEALS]


def _rank(stage: str) -> tuple[int, str]:
    kind = "run-" if stage.startswith("run-") else stage
    return (_ORDER.index(kind) if kind in _ORDER else len(_ORDER), stage)
