"""Setup: what this machine is, which data set and which model the run is of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nvkit.benchmarks.base import DataSet, Model, benchmark
from nvkit.config import QUICK_NOTE, RunConfig
from nvkit.config.detect import detect
from nvkit.engine import backend
from nvkit.errors import BackendUnavailableError
from nvkit.runs import RunFolder, StageResult
from nvkit.system import System, describe
from nvkit.tables import Table


class SetupResult(StageResult):
    """The machine, the data set and the model.

    Attributes:
        system: The machine and its software.
        data: The data set.
        model: The fp32 network.
        about_profile: What is to be known of this machine and the profile: guesses, other GPUs.
        settings: Scenario to the table of its values: rows of setting, value, layer, file, key, overrode.
    """

    system: System
    data: DataSet
    model: Model
    about_profile: tuple[str, ...]
    settings: dict[str, list[list[Any]]]

    def usable(self) -> bool:
        """Whether the data set and the model are still there."""
        files = [self.model.path, *([self.model.ranges] if self.model.ranges else [])]
        return self.data.root.is_dir() and all(path.is_file() for path in files)

    def tables(self) -> list[Any]:
        """Return the machine, data and model, then each scenario's values with their origins."""
        kind = "generated" if self.data.generated else "real"
        what = Table(
            ["what", "which"],
            [
                ["data set", f"{kind}, {len(self.data.files)} entries"],
                ["calibration set", f"{len(self.data.calibration)} entries"],
                ["data digest", self.data.digest[:16]],
                ["model", self.model.description],
                ["model SHA-256", self.model.digest[:16]],
            ],
            title="Data and model",
            notes=self.notes,
        )
        headings = ["setting", "value", "layer", "file", "key", "overrode"]
        values = [
            Table(headings, rows, title=f"{name}: every value and its origin") for name, rows in self.settings.items()
        ]
        return [replace(self.system.table(), notes=self.about_profile), what, *values]


def profile_notes(config: RunConfig, system: System) -> tuple[str, ...]:
    """Return what a reader must know where the profile is not, or not surely, this machine's own."""
    if config.device.kind != "gpu":
        return ()
    found = detect(system.gpus, no_gpu_reason=system.no_gpu_reason)
    other = f"The profile is {config.profile}; nvkit would choose {found.profile} for this machine ({found.how})."
    return (*([other] if found.profile != config.profile else []), *found.notes)


def setup(config: RunConfig, run: RunFolder, *, fresh: bool = False) -> SetupResult:
    """Find the data set and the model (or generate and build them) and record the machine.

    Raises:
        BackendUnavailableError: the profile's backend cannot run here.
        DataError, ModelError, ChecksumError: the user's files are not as they must be.
    """

    def work() -> SetupResult:
        settings = config.shared
        if missing := backend(settings.backend).unavailable():
            raise BackendUnavailableError(f"Profile {config.profile} runs on {settings.backend}: {missing}")
        bench = benchmark(config.package)
        data = bench.dataset(settings, run.store)
        model = bench.model(settings, run.store)
        notes = [*([QUICK_NOTE] if config.quick else []), *model.notes, *data.notes]
        return SetupResult(
            system=(system := describe()),
            about_profile=profile_notes(config, system),
            data=data,
            model=model,
            settings={name: [list(row) for row in config.table(name).rows] for name in config.scenarios},
            notes=tuple(dict.fromkeys(notes)),
        )

    return run.stage(SetupResult, "setup", {"config": config.digest}, work, fresh=fresh)
