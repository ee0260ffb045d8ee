"""What every run records without being asked."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from nvml_replay import replay

from nvkit.record.code import code_state, digests, tree_of
from nvkit.record.machine_state import cpu_state, gpu_state
from nvkit.record.mlperf_system import system_description
from nvkit.record.packages import packages
from nvkit.system import describe

_MAY_BE_EMPTY = {  # by the checkers of v3.0 to v5.1, and those that the submission fills in
    *("division", "submitter", "status", "system_type", "system_type_detail", "host_processor_frequency"),
    *("host_processor_caches", "host_processor_interconnect", "accelerator_frequency"),
    *("accelerator_interconnect_topology", "accelerator_on-chip_memories", "hw_notes", "sw_notes"),
}


def test_a_run_records_machine_packages_code_and_artefacts(made: Any) -> None:
    read = {path.stem: json.loads(path.read_text()) for path in (made.run / "record").glob("*.json")}
    assert set(read) == {"system", "machine", "packages", "code", "artefacts", "redaction"}
    assert read["packages"]["mlcommons-loadgen"]["sha256"]
    assert set(read["code"]["notebooks"]) >= {"10_setup.ipynb", "60_report.ipynb"}
    kinds = {row["what"] for row in read["artefacts"]}
    assert {"model", "data set list", "calibration set list", "ranges, entropy", "quantised network", "engine"} <= kinds
    assert all(len(row["sha256"]) == 64 for row in read["artefacts"])
    assert "environment" in read["machine"]
    console = (made.run / "console.txt").read_text()
    assert "[6/6] report: finished" in console
    assert "run folder $RUN" in console


def test_only_listed_variables_are_recorded(made: Any) -> None:
    text = (made.run / "record" / "machine.json").read_text()
    assert "HOME" not in text
    assert "PLANTED_API_TOKEN" not in text


def test_the_system_description_has_all_that_a_checker_asks_for(tmp_path: Path) -> None:
    found = system_description(describe(), "onnxruntime", tmp_path)
    assert len(found) == 35
    assert all(isinstance(value, str) for value in found.values())
    assert not [key for key, value in found.items() if not value and key not in _MAY_BE_EMPTY]
    assert found["framework"].startswith("ONNX Runtime ")
    assert found["accelerators_per_node"] == "0"


def test_a_gpu_is_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replay("l40s_x2", monkeypatch)
    system = describe()
    system = replace(system, packages={**system.packages, "tensorrt-cu12": "10.16.1"})
    found = system_description(system, "tensorrt", tmp_path)
    assert found["accelerators_per_node"] == "2"
    assert found["accelerator_model_name"] == "NVIDIA L40S"
    assert found["system_name"] == "2x NVIDIA L40S"
    assert found["framework"].startswith("TensorRT 10.16.1")
    assert "driver" in found["other_software_stack"]


def test_the_state_of_a_gpu_is_what_the_driver_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    module = replay("l4", monkeypatch)
    module.recorded["gpus"][0] |= {"nvmlDeviceGetClockInfo": 2040, "nvmlDeviceGetMaxPcieLinkWidth": 16}
    module.recorded["gpus"][0] |= {"nvmlDeviceGetPerformanceState": {"NVMLError": 3}, "nvmlDeviceGetUUID": "GPU-1"}
    (gpu,) = gpu_state()
    assert gpu["name"] == "NVIDIA L4"
    assert gpu["sm_clock_mhz"] == 2040
    assert gpu["pcie_width"] == 16
    assert gpu["enforced_power_limit_w"] == 75
    assert "performance_state" not in gpu
    assert "GPU-1" not in str(gpu)


def test_the_processors_governor_is_read(tmp_path: Path) -> None:
    (tmp_path / "cpu0" / "cpufreq").mkdir(parents=True)
    (tmp_path / "cpu0" / "cpufreq" / "scaling_governor").write_text("performance\n")
    assert cpu_state(tmp_path) == {"governor": "performance"}


def test_packages_have_versions_and_digests() -> None:
    found = packages()
    assert list(found) == sorted(found)
    assert len(found["numpy"]["sha256"]) == 64


def _git(root: Path, *words: str) -> None:
    identity = ["-c", "user.name=x", "-c", "user.email=x@x", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(root), *identity, *words], check=True, capture_output=True)


def test_a_commit_and_its_difference_give_the_code_that_ran(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    for name in ("nvkit/a.py", "nvkit/gone.py", "notebooks/10.ipynb", "parameters/x.yaml", "README.md"):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).write_text(f"{name}\n")
    _git(clone, "init", "-q")
    _git(clone, "add", ".")
    _git(clone, "commit", "-qm", "x")
    clean, diff = code_state(clone)
    assert (clean["changed"], diff) == ([], "")
    second = tmp_path / "second"
    _git(tmp_path, "clone", "-q", str(clone), str(second))

    (clone / "nvkit/a.py").write_text("changed\n")
    (clone / "nvkit/gone.py").unlink()
    (clone / "nvkit/new.py").write_text("new\n")
    (clone / "README.md").write_text("not part of a result\n")
    facts, diff = code_state(clone)
    assert facts["changed"] == ["nvkit/a.py", "nvkit/gone.py", "nvkit/new.py"]
    (tmp_path / "uncommitted.diff").write_text(diff)
    (tmp_path / "tree").mkdir()
    tree, where = tree_of(facts, tmp_path / "uncommitted.diff", tmp_path / "tree", second)
    assert tree == tmp_path / "tree"
    assert digests(tree) == {name: facts[name] for name in ("code", "notebooks", "parameters")}
    assert "uncommitted difference" in where

    assert tree_of(facts, tmp_path / "none", tmp_path / "x", clone)[0] == clone
    (tmp_path / "bad.diff").write_text(diff.replace("nvkit/a.py", "nvkit/b.py"))
    (tmp_path / "bad").mkdir()
    assert tree_of(facts, tmp_path / "bad.diff", tmp_path / "bad", second)[0] is None
    other = {**facts, "commit": "0" * 40}
    assert "not in this clone" in tree_of(other, tmp_path / "none", tmp_path / "y", second)[1]


def test_outside_of_a_clone_there_is_no_commit(tmp_path: Path) -> None:
    (tmp_path / "nvkit").mkdir()
    facts, diff = code_state(tmp_path)
    assert (facts["commit"], diff) == (None, "")
