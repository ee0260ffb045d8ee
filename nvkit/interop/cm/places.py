"""Whether a place that the data files name is really there in nvkit."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from nvkit.config import SCENARIOS, ProfileFile, RoundFile, Settings, load, names
from nvkit.config.resolve import MODES, POWER_MODES
from nvkit.interop.cm.data import Place


def missing(place: Place) -> str | None:
    """Say what is not there, or None if the place is real; a place of kind none must give its reason."""
    if place.kind == "setting":
        wanted = [*(place.by_scenario.values() or [place.name]), *([place.also] if place.also else [])]
        gone = [name for name in wanted if name not in Settings.model_fields]
        wrong = [name for name in place.by_scenario if name not in SCENARIOS]
        return f"no setting {', '.join([*gone, *wrong])}" if gone or wrong else None
    checks = {
        "option": lambda: place.name in run_options(),
        "stage": lambda: place.name in stages(),
        "doctor": lambda: place.name in doctor_lines(),
        "pyproject": lambda: place.name in requirements(),
        "profile": lambda: place.name in names(ProfileFile) or place.name == "auto",
        "benchmark": lambda: any(place.name in load(RoundFile, name)[0].benchmarks for name in names(RoundFile)),
        "scenario": lambda: place.name in SCENARIOS,
        "mode": lambda: place.name in MODES,
        "power": lambda: place.name in POWER_MODES,
        "none": lambda: bool(place.name),
    }
    return None if checks[place.kind]() else f"no {place.kind} {place.name}"


def run_options() -> frozenset[str]:
    """Return the parameters of the command `nvkit run`."""
    from nvkit import cli

    return frozenset(inspect.signature(cli.run).parameters)


def stages() -> frozenset[str]:
    """Return the stages of nvkit."""
    from nvkit.notebooks import STAGES

    return frozenset(name for name, _ in STAGES)


def doctor_lines() -> frozenset[str]:
    """Return what `nvkit doctor` looks for."""
    from nvkit.doctor import checkup
    from nvkit.runs import outputs_folder

    return frozenset(check.name for check in checkup(outputs_folder(), None))


def requirements() -> frozenset[str]:
    """Return the packages that the clone's pyproject.toml requires, optional ones too."""
    text = (Path(__file__).resolve().parents[3] / "pyproject.toml").read_text(encoding="utf-8")
    return frozenset(re.findall(r'"([A-Za-z0-9_-]+)[<>=]', text))
