"""The run folder: outputs/runs/<utc>-<profile>-<benchmark>-<digest>/, everything that one run leaves behind.

    config.json              the resolved configuration with its origins
    10_setup.ipynb ...       executed notebooks
    stages/<stage>.json      results of finished stages, each with the digest of all that it depends on
    loadgen/<scenario>/<mode>/   raw LoadGen logs of one test
    plots/                   PNG and SVG
    record/                  the machine, packages, code and artefacts that the results come from (nvkit.record)
    provenance.json          the seal over all of these, and seal.dsse.json with the signatures

A path in a stored result begins with a word for a folder of this machine (nvkit.places). A stage's result is written
last and by one rename, so a run that was killed at any moment continues with the first stage whose result is not
there.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from nvkit.config import PATHS, RunConfig
from nvkit.errors import InputError, UnfinishedStageError, disk_errors
from nvkit.places import Places
from nvkit.store import Store, digest_of, file_digest, write_json
from nvkit.store import duration as in_words

R = TypeVar("R", bound="StageResult")


class StageResult(BaseModel):
    """What a stage hands to the next one and shows to a person.

    Attributes:
        stage: Its name.
        key: Digest of the configuration and of all results that it depends on.
        finished: UTC, ISO 8601.
        seconds: How long it took.
        notes: What a reader must know: generated data, synthetic weights, quick run.
        reused: Whether it was finished before this call (not stored).
        folder: The run folder (not stored).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str = ""
    key: str = ""
    finished: str = ""
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    reused: bool = Field(default=False, exclude=True)
    folder: Path = Field(default=Path(), exclude=True)

    def usable(self) -> bool:
        """Whether the files that a stored result names are still there."""
        return True

    def tables(self) -> list[Any]:
        """Return the tables that show this result."""
        return []

    def figures(self) -> dict[str, Any]:
        """Return file name to matplotlib Figure."""
        return {}

    def headline(self) -> str:
        """Say in one line how the stage ended."""
        if self.reused:
            age = time.time() - datetime.fromisoformat(self.finished).timestamp()
            return f"{self.stage}: reused, finished {in_words(age)} ago in {self.seconds:.1f} s"
        return f"{self.stage}: finished in {self.seconds:.1f} s"

    def __str__(self) -> str:
        return "\n\n".join([self.headline(), *(str(table) for table in self.tables())])

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        body = "".join(table._repr_html_() for table in self.tables())
        return {"text/plain": str(self), "text/html": f"<p><b>{self.headline()}</b></p>{body}"}


class RunFolder:
    """A run on disk.

    Attributes:
        path: The folder.
        config: What the run is of.
        store: The artefacts, shared by all runs of the same outputs folder.
        read_only: Stages that are not finished raise an error instead of being done.
    """

    def __init__(self, path: Path, config: RunConfig, *, read_only: bool = False) -> None:
        self.path = path
        self.config = config
        self.read_only = read_only
        self.store = Store(path.parent.parent / "store")

    @property
    def complete(self) -> bool:
        """Whether the last stage is finished."""
        return (self.path / "stages" / "report.json").exists()

    @cached_property
    def places(self) -> Places:
        """The words for folders in this run's files."""
        own = {key.upper(): getattr(self.config.shared, key) for key in sorted(PATHS)}
        return Places({"RUN": self.path, "STORE": self.store.root, "OUTPUTS": self.store.root.parent, **own})

    def stage_file(self, stage: str) -> Path:
        """Return the path of a stage's result."""
        return self.path / "stages" / f"{stage}.json"

    def finished(self, kind: type[R], stage: str, key: Mapping[str, Any]) -> R | None:
        """Return a finished stage's result if it has this key, else None."""
        try:
            values = json.loads(self.stage_file(stage).read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        if values.get("key") != stage_key(stage, key):
            return None
        result = kind.model_validate({**self.places.show(values), "reused": True, "folder": self.path})
        return result if result.usable() else None

    def stage(
        self, kind: type[R], stage: str, key: Mapping[str, Any], work: Callable[[], R], *, fresh: bool = False
    ) -> R:
        """Return the stage's result: the finished one of this key, or that of `work()`, stored when it is done.

        Raises:
            DiskFullError: no space for the result.
            UnfinishedStageError: the folder is read-only and the stage not finished.
        """
        if not fresh and (found := self.finished(kind, stage, key)):
            return found
        if self.read_only:
            raise UnfinishedStageError(f"Stage {stage} of {self.path.name} is not finished.", "Run it first.")
        with disk_errors(self.path):
            self.stage_file(stage).unlink(missing_ok=True)
            started = time.perf_counter()
            result = work().model_copy(
                update={
                    "stage": stage,
                    "folder": self.path,
                    "key": stage_key(stage, key),
                    "seconds": time.perf_counter() - started,
                    "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
                }
            )
            write_json(self.stage_file(stage), self.places.hide(result.model_dump(mode="json")))
        return result


def outputs_folder() -> Path:
    """Return the outputs/ folder of this clone, or of the current directory."""
    from nvkit.config import parameters_folder

    return parameters_folder().parent / "outputs"


def open_run(config: RunConfig, outputs: str | Path = "", run_dir: str | Path = "", *, new: bool = False) -> RunFolder:
    """Return the newest run folder of this configuration, or a new one.

    Args:
        config: The configuration.
        outputs: Folder of runs/ and store/; the clone's own outputs/ if empty.
        run_dir: Use this folder and no other.
        new: Make a new one even if the newest is unfinished.

    Raises:
        InputError: `run_dir` holds a run of another configuration.
        DiskFullError: no space.
    """
    root = Path(outputs) if str(outputs) else outputs_folder()
    digest = config.digest[:8]
    name = f"{config.profile}-{config.benchmark}-{digest}"
    if str(run_dir):
        path = Path(run_dir)
        if not path.name.endswith(name):
            raise InputError(
                f"{path} is not a run of this configuration ({name}).",
                "Give the folder of this configuration, or none.",
            )
    else:
        found = [] if new else find_runs(root, name)
        path = found[-1] if found else _unused(root / "runs" / f"{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}-{name}")
    run = RunFolder(path.resolve(), config)
    with disk_errors(path):
        (run.path / "stages").mkdir(parents=True, exist_ok=True)
        if not (run.path / "config.json").exists():
            write_json(run.path / "config.json", run.places.hide(config.to_json()))
    return run


def find_runs(outputs: Path, name: str = "") -> list[Path]:
    """Return run folders, oldest first; with `name`, only those of <profile>-<benchmark>-<digest>."""
    pattern = re.compile(r"\d{8}T\d{6}Z(\.\d+)?-(.+)")
    found = ((p, pattern.fullmatch(p.name)) for p in (outputs / "runs").glob("*") if p.is_dir())
    return sorted(path for path, match in found if match and name in ("", match[2]))


def _unused(path: Path) -> Path:
    stamp, rest = path.name.split("-", 1)
    number = 1
    while path.exists():
        number += 1
        path = path.with_name(f"{stamp}.{number}-{rest}")
    return path


@cache
def own_code_digest() -> str:
    """Return the digest of this nvkit's source: a changed kit does not pick up stages of the old one."""
    return code_digest(Path(__file__).parent)


def code_digest(root: Path) -> str:
    """Return the digest of the Python source in a folder."""
    return digest_of([(str(p.relative_to(root)), file_digest(p)) for p in sorted(root.rglob("*.py"))])


def stage_key(stage: str, key: Mapping[str, Any], code: str = "") -> str:
    """Return the key of a stage's result.

    Args:
        stage: Its name.
        key: What it depends on besides nvkit's code.
        code: digest of the code of the nvkit that did it; that of this one if empty.
    """
    return digest_of({"stage": stage, "nvkit": code or own_code_digest(), **key})
