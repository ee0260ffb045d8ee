"""Starts the measured child, shows its progress, and makes a finished folder or an error of whatever happens."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from nvkit.benchmarks.base import SampleSet
from nvkit.config.settings import Settings, not_applicable
from nvkit.errors import ConfigError, HarnessError, disk_errors
from nvkit.harness.predict import Prediction, expectation_text
from nvkit.harness.settings import EXPECTATIONS
from nvkit.progress import tqdm
from nvkit.store import write_json, write_text
from nvkit.system import python_path
from nvkit.telemetry import recorded

AUDIT_FILE = "audit.config"
"""Name of a compliance test's overrides beside its logs; the child gives LoadGen this path and no other."""
_PARTIAL = "PARTIAL.txt"


@dataclass(frozen=True)
class TestSpec:
    """One LoadGen test.

    Attributes:
        package: Folder below nvkit/benchmarks/, for encoding responses.
        scenario: LoadGen's name of the scenario.
        mode: "performance", "accuracy" or "submission".
        settings: Resolved values.
        engine: Folder of the engine.
        samples: Preprocessed samples.
        audit: What LoadGen reads as its audit.config: overrides of a compliance test. Empty for every other test.
    """

    __test__ = False  # the name is the field's term, not a pytest class

    package: str
    scenario: str
    mode: str
    settings: Settings
    engine: Path
    samples: SampleSet
    audit: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return what the child reads."""
        return {
            "package": self.package,
            "scenario": self.scenario,
            "mode": self.mode,
            "settings": self.settings.model_dump(mode="json"),
            "engine": str(self.engine),
            "samples": {**asdict(self.samples), "arrays": {n: str(p) for n, p in self.samples.arrays.items()}},
        }


def refuse_audit_config(folder: Path) -> None:
    """Refuse to measure where an audit.config lies: LoadGen's own rule is to let it override every setting.

    Raises:
        ConfigError: there is one in `folder`.
    """
    if (folder / AUDIT_FILE).exists():
        raise ConfigError(
            f"An {AUDIT_FILE} lies in {folder}; LoadGen would let it override the settings of the test.",
            "Move or delete it. Compliance tests get theirs from nvkit, never from the working directory.",
        )


def set_aside(folder: Path) -> None:
    """Rename logs of an earlier test of the same name: evidence is never overwritten."""
    number = 1
    while folder.exists():
        older = folder.with_name(f"{folder.name}.earlier-{number}")
        number += 1
        if not older.exists():
            os.replace(folder, older)


def run_test(spec: TestSpec, folder: Path, started: Callable[[int], None] | None = None) -> dict[str, Any]:
    """Run one test in a child process; its logs are in `folder` when this returns.

    While it runs, and if it fails, they are in `<folder>.partial` beside a note that says so. Of a backend that runs on
    GPUs, what these did is in `telemetry.jsonl` beside the logs (`nvkit.telemetry`).

    Args:
        spec: The test.
        folder: Where LoadGen's logs go; must not exist.
        started: Called with the process id of the child.

    Returns:
        What the child says of itself: samples completed, when the first query was issued and the last completed
        (seconds since the epoch), the runner's facts, ...

    Raises:
        HarnessError: the child failed, was killed, or left no complete log.
        DiskFullError: no space for the logs.
    """
    with unfinished(folder) as partial:
        write_json(partial / "spec.json", spec.to_json())
        if spec.audit:
            write_text(partial / AUDIT_FILE, spec.audit)
        with (
            recorded(partial, _telemetry_hz(spec)),
            (partial / "console.txt").open("wb") as console,
            _child(partial, console) as child,
        ):
            try:
                if started:
                    started(child.pid)
                _show_progress(child, spec)
                code = child.wait()
            except BaseException:
                child.send_signal(signal.SIGINT)
                child.wait()
                raise
        if code != 0:
            raise _failure(code, partial)
        report: dict[str, Any] = json.loads((partial / "child.json").read_text(encoding="utf-8"))
        _require_complete_log(partial)
    return report


@contextmanager
def unfinished(folder: Path) -> Iterator[Path]:
    """Yield `<folder>.partial`, which says that its test has not finished; it becomes `folder` if the block ends well.

    Raises:
        DiskFullError: no space for what the block writes.
    """
    partial = folder.with_name(folder.name + ".partial")
    with disk_errors(folder):
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir(parents=True)
        write_text(partial / _PARTIAL, "This test has not finished; what lies here is not a result.\n")
        yield partial
        (partial / _PARTIAL).unlink()
        os.replace(partial, folder)


def _telemetry_hz(spec: TestSpec) -> float:
    settings = spec.settings
    no_gpu = not_applicable("telemetry_hz", settings.backend, spec.package, spec.scenario, "nvkit")
    return 0.0 if no_gpu else settings.telemetry_hz


def _child(folder: Path, console: IO[bytes]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "nvkit.harness", str((folder / "spec.json").resolve())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=console,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": python_path()},
        text=True,
    )


def _show_progress(child: subprocess.Popen[str], spec: TestSpec) -> None:
    by_samples = spec.mode == "accuracy" or spec.scenario == "Offline"
    total = spec.samples.count if by_samples else spec.settings.min_duration // 1000
    name = f"{spec.scenario} {spec.mode}"
    assert child.stdout is not None
    form = None if by_samples else "{l_bar}{bar}| {n_fmt}/{total_fmt} s{postfix}"
    with tqdm(total=max(1, total), desc=name, unit="sample", bar_format=form) as bar:
        for line in child.stdout:
            try:
                said = json.loads(line)
            except json.JSONDecodeError:
                continue  # something a library printed
            if said.get("phase") == "predicted":
                _tell_prediction(bar, spec, said)
            elif said.get("phase") == "testing":
                if by_samples:
                    bar.total = said["expected"]
                position = said["completed"] if by_samples else int(said["seconds"])
                bar.set_description(name, refresh=False)
                bar.set_postfix_str("" if by_samples else f"{said['completed']} samples", refresh=False)
                bar.update(min(position, bar.total) - bar.n)
                bar.refresh()  # also when time is up and LoadGen still waits for its least number of queries
            else:
                bar.set_description(f"{name}: {said.get('phase', '')}")


def _tell_prediction(bar: Any, spec: TestSpec, said: dict[str, Any]) -> None:
    """Print what the child found in the warm-up; an expectation that was set was told before the test."""
    (key,) = EXPECTATIONS[spec.scenario]
    if getattr(spec.settings, key) is None:
        expected = expectation_text(spec.scenario, said["expectation"])
        prediction = Prediction(said["queries"], said["samples"], said["seconds"])
        bar.write(f"{spec.scenario} {spec.mode}: the warm-up suggests {expected}; {prediction}")


def _failure(code: int, partial: Path) -> HarnessError:
    try:
        said = json.loads((partial / "error.json").read_text(encoding="utf-8"))
        return HarnessError(f"The test failed: {said['what']}", said["fix"] or f"See {partial / 'console.txt'}.")
    except (FileNotFoundError, json.JSONDecodeError):
        pass
    again = "The same command continues with this test; what was finished before is kept."
    if code < 0:
        name = signal.Signals(-code).name
        why = " The kernel does this when memory runs out (see dmesg)." if -code == signal.SIGKILL else ""
        return HarnessError(
            f"The measured child was killed by {name} in mid-test; its logs are partial ({partial}).{why}", again
        )
    tail = (partial / "console.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
    return HarnessError(f"The measured child ended with exit code {code}: {' '.join(tail)}", f"See {partial}. {again}")


def _require_complete_log(folder: Path) -> None:
    summary, detail = folder / "mlperf_log_summary.txt", folder / "mlperf_log_detail.txt"
    if not (summary.exists() and detail.exists() and detail.stat().st_size and summary.stat().st_size):
        raise HarnessError(
            f"LoadGen left no complete log in {folder}.", "Is the disk full or the folder not writable? Then run again."
        )
