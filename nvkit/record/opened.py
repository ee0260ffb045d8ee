"""A record opened for checking: what it says, read when it is asked for, and nothing of it believed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from nvkit.config import RunConfig, resolve
from nvkit.notebooks import STAGES
from nvkit.places import Places
from nvkit.record.capture import DIFF
from nvkit.record.code import tree_of
from nvkit.record.provenance import digests
from nvkit.record.reading import PROVENANCE, read_json, read_stages
from nvkit.record.stored_run import StoredRun
from nvkit.runs import StageResult, own_code_digest
from nvkit.stages.run import TestResult

KINDS = ("setup", "preprocess", "calibrate", "build", "run", "report")


class Record:
    """A run folder.

    Args:
        root: The folder.
        work: An empty folder for what is made to compare with.
        store: The store of artefacts, where there is one on this machine.
    """

    def __init__(self, root: Path, work: Path, store: Path) -> None:
        self.root, self.work = root, work
        self.places = Places({"RUN": root, "STORE": store, "OUTPUTS": store.parent})

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """What provenance.json says."""
        found: dict[str, Any] = read_json(self.root / PROVENANCE)
        return found

    @property
    def build_definition(self) -> dict[str, Any]:
        """The part of the statement that says what was done from what."""
        found: dict[str, Any] = self.provenance["predicate"]["buildDefinition"]
        return found

    @property
    def name(self) -> str:
        """Name of the run folder where it was made."""
        return str(self.provenance["predicate"]["runDetails"]["metadata"]["invocationId"])

    @cached_property
    def digests(self) -> dict[str, str]:
        """SHA-256 of every file as it is now."""
        return digests(self.root)

    @cached_property
    def config(self) -> dict[str, Any]:
        """What config.json says."""
        found: dict[str, Any] = read_json(self.root / "config.json")
        return found

    @cached_property
    def code(self) -> dict[str, Any]:
        """What the record says of the nvkit that made it."""
        found: dict[str, Any] = read_json(self.root / "record" / "code.json")
        return found

    @cached_property
    def packages(self) -> dict[str, dict[str, Any]]:
        """Installed distributions."""
        found: dict[str, dict[str, Any]] = read_json(self.root / "record" / "packages.json")
        return found

    @cached_property
    def stages(self) -> dict[str, dict[str, Any]]:
        """Stored results as they stand in the files."""
        return read_stages(self.root)

    @cached_property
    def results(self) -> Mapping[str, Any]:
        """Stage to its result, of its own class; tests are under run-<scenario>-<mode>."""
        kinds = _kinds(self.config["implementation"])
        kinds |= {name: TestResult for name in self.stages if name.startswith("run-")}
        return {
            name: kinds[name].model_validate({**stored, "folder": self.root})
            for name, stored in self.stages.items()
            if name in kinds
        }

    @property
    def tests(self) -> tuple[TestResult, ...]:
        """The LoadGen tests of the run stage."""
        found: tuple[TestResult, ...] = self.results["run"].tests
        return found

    @cached_property
    def notebooks(self) -> dict[str, dict[str, Any]]:
        """Executed notebooks by name; none if the stages were done without."""
        paths = [self.root / name for _, name in STAGES]
        return {path.name: read_json(path) for path in paths if path.is_file()}

    @cached_property
    def tree(self) -> tuple[Path | None, str]:
        """The tree of the nvkit that made the record, and where it is from or why there is none."""
        folder = self.work / "tree"
        folder.mkdir()
        return tree_of(self.code, self.root / "record" / DIFF, folder)

    @property
    def same_code(self) -> bool:
        """Whether the record was made by the same code as this nvkit."""
        return bool(self.code["code"] == own_code_digest())

    @cached_property
    def user_values(self) -> dict[str, Any]:
        """The settings that the user gave."""
        return StoredRun(self.root, self.config, self.stages, {}, {}).user_values()

    @cached_property
    def here(self) -> RunConfig:
        """The record's parameters resolved with this nvkit's own rules of the round: the auditor's, not the run's."""
        return self.resolved(None)

    def resolved(self, parameters: Path | None) -> RunConfig:
        """Return the record's parameters resolved with a folder of parameters, or with this nvkit's own."""
        said = self.config
        return resolve(
            said["profile"],
            said["benchmark"],
            ",".join(said["scenarios"]),
            mode=said["mode"],
            round=said["round"],
            quick=said["quick"],
            overrides=self.user_values,
            implementation=said["implementation"],
            power=said["power"],
            parameters=parameters,
        )


def _kinds(implementation: str) -> dict[str, type[StageResult]]:
    from nvkit import stages

    if implementation == "nvidia-original":
        from nvkit.interop.nvidia import results as nvidia

        own: tuple[type[StageResult], ...] = (
            nvidia.NvidiaSetupResult,
            nvidia.StepsResult,
            nvidia.StepsResult,
            nvidia.NvidiaBuildResult,
            nvidia.NvidiaRunResult,
            stages.ReportResult,
        )
    else:
        own = (
            stages.SetupResult,
            stages.PreprocessResult,
            stages.CalibrateResult,
            stages.BuildResult,
            stages.RunResult,
            stages.ReportResult,
        )
    return dict(zip(KINDS, own, strict=True))
