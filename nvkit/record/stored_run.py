"""A finished run as its folder tells it, on any machine: neither its store nor its data nor its backend is needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nvkit.errors import InputError
from nvkit.record.reading import read_json, read_stages
from nvkit.stages.run import RunResult, TestResult

_WHOLE = "Give the folder of a finished run."


@dataclass(frozen=True)
class StoredRun:
    """A run folder that was read.

    Attributes:
        path: The folder.
        config: What config.json holds.
        stages: Stage to its stored result.
        tests: (scenario, mode) to the test; mode is "performance", "accuracy" or "submission".
        record: Name, without .json, to content of the files of record/; empty for a run that has none.
    """

    path: Path
    config: Mapping[str, Any]
    stages: Mapping[str, Mapping[str, Any]]
    tests: Mapping[tuple[str, str], TestResult]
    record: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.path.name

    @property
    def scenarios(self) -> Mapping[str, Mapping[str, Any]]:
        """Scenario to its settings."""
        found: Mapping[str, Mapping[str, Any]] = self.config["scenarios"]
        return found

    @property
    def system(self) -> Mapping[str, Any]:
        """The machine, fields as of `nvkit.system.System`."""
        found: Mapping[str, Any] = self.stages["setup"]["system"]
        return found

    @property
    def backend(self) -> str:
        """What ran the engine."""
        return str(next(iter(self.scenarios.values()))["backend"])

    @property
    def notes(self) -> tuple[str, ...]:
        """What every output must say of this run."""
        return tuple(self.stages["run"].get("notes", ()))

    def user_values(self) -> dict[str, Any]:
        """Return the settings that the user gave, by flag or notebook parameter."""
        found: dict[str, Any] = {}
        for keys in self.config["origins"].values():
            for key, chain in keys.items():
                if chain and chain[-1]["layer"] == "user":
                    found[key] = chain[-1]["value"]
        return found

    def measured(self) -> dict[str, TestResult]:
        """Return the tests that measured performance, by scenario."""
        return {scenario: test for (scenario, _), test in self.tests.items() if test.summary.metric}


def open_stored(path: str | Path) -> StoredRun:
    """Read a run folder.

    Raises:
        InputError: it is not the folder of a run whose tests are finished.
    """
    folder = Path(path).resolve()
    config, stages = read_json(folder / "config.json"), read_stages(folder)
    for stage in ("setup", "run"):
        if stage not in stages:
            raise InputError(f"{folder.name} has no finished {stage} stage.", _WHOLE)
    try:
        results = RunResult.model_validate(stages["run"])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"{folder.name}, stages/run.json: {where}: {first['msg']}.", _WHOLE) from None
    tests = {(test.summary.scenario, Path(test.logs).name): test for test in results.tests}
    record = {file.stem: read_json(file) for file in sorted((folder / "record").glob("*.json"))}
    return StoredRun(folder, config, stages, tests, record)
