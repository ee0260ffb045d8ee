"""The whole way: notebooks, kernels, children; and what is left when one of them is killed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from small import SMALL

import nvkit
from nvkit.notebooks import STAGES
from nvkit.system import python_path

_FLAGS = [f"--{key.replace('_', '-')}={value}" for key, value in SMALL.items()]


def _start(outputs: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "nvkit", "run", "resnet50", "--quick", f"--outputs={outputs}", *_FLAGS, *arguments],
        env={**os.environ, "PYTHONPATH": python_path()},
        cwd=outputs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _run(outputs: Path, *arguments: str) -> tuple[int, str, str]:
    with _start(outputs, *arguments) as process:
        out, err = process.communicate(timeout=300)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def finished(outputs: Path, small_run: nvkit.RunFolder) -> tuple[Path, str, str]:
    """A whole `nvkit run` of all four scenarios: run folder, stdout, stderr."""
    code, out, err = _run(outputs)
    assert code == 0, err
    return Path(re.search(r"run folder: (.+)", out)[1]), out, err  # type: ignore[index]


def test_it_ends_in_a_table_of_four_scenarios_with_its_brands(finished: tuple[Path, str, str]) -> None:
    _, out, _ = finished
    for scenario in ("Offline", "Server", "SingleStream", "MultiStream"):
        row = next(line for line in out.splitlines() if line.startswith(scenario))
        assert re.search(r"\b(VALID|INVALID)\b", row)
        assert "acc " in row
    for brand in ("quick run, not an official result", "synthetic weights", "generated data"):
        assert brand in out
    assert "60_report.ipynb" in out


def test_it_says_what_it_does(finished: tuple[Path, str, str]) -> None:
    _, _, err = finished
    for number, (stage, _notebook) in enumerate(STAGES, start=1):
        assert f"[{number}/6] {stage}" in err


def test_the_executed_notebooks_read_well(finished: tuple[Path, str, str]) -> None:
    folder, _, _ = finished
    for _, name in STAGES:
        notebook = nbformat.read(folder / name, as_version=4)
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
        assert notebook.cells[0].source.startswith("# ")
        assert not [o for o in outputs if o.output_type == "error"]
        assert not [o for o in outputs if "widget-view" in str(o.get("data", {}))]
        streams = "".join(o.text for o in outputs if o.output_type == "stream")
        assert "%|" not in streams, f"{name} keeps a progress bar"
        assert "Warning" not in streams
        assert any("text/html" in o.get("data", {}) for o in outputs)
    report = nbformat.read(folder / "60_report.ipynb", as_version=4)
    pictures = [o for cell in report.cells for o in cell.get("outputs", ()) if "image/png" in o.get("data", {})]
    assert len(pictures) >= 8


def test_the_same_command_makes_a_new_run_with_the_same_accuracy(
    finished: tuple[Path, str, str], outputs: Path
) -> None:
    folder, _, _ = finished
    code, second, err = _run(outputs)
    assert code == 0, err
    again = Path(re.search(r"run folder: (.+)", second)[1])  # type: ignore[index]
    assert again != folder

    def lines(run: Path) -> list[str]:
        return [(run / "loadgen" / s / "accuracy" / "accuracy.txt").read_text() for s in ("Offline", "Server")]

    assert lines(again) == lines(folder)
    assert "reused" in (again / "stages" / "build.json").read_text()


def test_results_that_must_be_valid_give_exit_code_5(finished: tuple[Path, str, str], outputs: Path) -> None:
    code, _, err = _run(outputs, "--scenario=Offline", "--require-valid")
    assert code == 5
    assert "below the target" in " ".join(err.split())


def test_real_files_go_all_the_way(tmp_path: Path, outputs: Path, small_run: nvkit.RunFolder) -> None:
    """A folder in ImageNet's layout, with a grey-scale and a very wide file, by --data-dir."""
    import cv2
    import numpy as np

    data = tmp_path / "photos"
    data.mkdir()
    rng = np.random.default_rng(0)
    shapes = [(300, 400, 3), (240, 900, 3), (333, 250)] * 6
    for number, shape in enumerate(shapes):
        cv2.imwrite(str(data / f"p{number}.JPEG"), rng.integers(0, 255, shape, np.uint8))
    (data / "val_map.txt").write_text("".join(f"p{n}.JPEG {n % 1000}\n" for n in range(len(shapes))))
    code, out, err = _run(outputs, "--scenario=SingleStream", f"--data-dir={data}", "--calibration-samples=8")
    assert code == 0, err
    assert "SingleStream" in out
    assert "generated data" not in out
    folder = Path(re.search(r"run folder: (.+)", out)[1])  # type: ignore[index]
    assert f"total={len(shapes)}" in (folder / "loadgen/SingleStream/accuracy/accuracy.txt").read_text()


def _wait_for(condition: Callable[[], Any], seconds: float = 90) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds} s in vain for {condition}")


def _measured(driver: subprocess.Popen[str], scenario: str) -> tuple[psutil.Process, psutil.Process] | None:
    """Return kernel and measured child of a run once LoadGen has begun a test of the scenario, else None."""
    assert driver.poll() is None, driver.communicate()
    try:
        tree = psutil.Process(driver.pid).children(recursive=True)
        child = next((p for p in tree if "nvkit.harness" in p.cmdline()), None)
        if child and Path(child.cwd()).parent.name == scenario and Path(child.cwd(), "mlperf_log_detail.txt").exists():
            return child.parent(), child
    except (psutil.NoSuchProcess, FileNotFoundError):
        pass
    return None


_LONG = (
    *("--scenario=Offline,Server", "--mode=performance", "--backend=null"),
    *("--server-target-qps=500", "--offline-expected-qps=1000", "--min-duration=5000"),
)


@pytest.mark.parametrize("victim", ["child", "kernel", "driver", "ctrl-c"])
def test_a_killed_run_is_a_clear_error_and_continues(victim: str, outputs: Path, small_run: nvkit.RunFolder) -> None:
    # Each victim has a configuration, and so a run folder, of its own.
    seed = f"--schedule-rng-seed={['child', 'kernel', 'driver', 'ctrl-c'].index(victim) + 7}"
    arguments = (*_LONG, seed)
    driver = _start(outputs, *arguments)

    kernel, child = _wait_for(lambda: _measured(driver, "Server"))
    run_folder = Path(child.cwd()).parents[2]
    time.sleep(0.5)
    target = {"child": child.pid, "kernel": kernel.pid, "driver": driver.pid, "ctrl-c": driver.pid}[victim]
    os.kill(target, signal.SIGINT if victim == "ctrl-c" else signal.SIGKILL)
    _, err = driver.communicate(timeout=60)
    said = " ".join(err.split())
    if victim == "driver":
        assert driver.returncode == -signal.SIGKILL
    else:
        assert driver.returncode == (130 if victim == "ctrl-c" else 4)
        assert "Traceback" not in err
        wanted = {"child": "killed by SIGKILL in mid-test", "kernel": "kernel of 50_run.ipynb was killed"}
        assert wanted.get(victim, "Interrupted.") in said
    for process in (kernel, child):
        _wait_for(lambda process=process: not process.is_running() or process.status() == "zombie", 30)

    assert not (run_folder / "50_run.ipynb").exists()
    assert not (run_folder / "stages" / "run.json").exists()
    for left in run_folder.glob("*50_run*.ipynb"):
        assert '"application/vnd.nvkit.result+json"' not in left.read_text()
    assert (run_folder / "loadgen" / "Server" / "performance.partial" / "PARTIAL.txt").exists()
    offline = json.loads((run_folder / "stages" / "run-Offline-performance.json").read_text())

    code, out, err = _run(outputs, *arguments)
    assert code == 0, err
    assert str(run_folder) in out
    assert "[1/6] setup: reused" in err
    assert "[4/6] build: reused" in err
    assert "run-Offline-performance: reused" in err
    assert json.loads((run_folder / "stages" / "run-Offline-performance.json").read_text()) == offline
    assert (run_folder / "loadgen" / "Server" / "performance" / "mlperf_log_detail.txt").exists()
    assert not (run_folder / "loadgen" / "Server" / "performance.partial").exists()
