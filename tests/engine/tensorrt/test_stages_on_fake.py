"""The stages run and report on simulated GPUs: what is told of the GPUs, in tables, figures and files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from fake_nvml import FAKE_NVML
from small import SMALL

import nvkit
import nvkit.engine
from nvkit.engine.null import NullBackend
from nvkit.runs import RunFolder
from nvkit.stages.report import ReportResult
from nvkit.stages.run import RunResult

TESTS = Path(__file__).parents[2]
REGISTER = """\
import nvkit.engine
nvkit.engine._WHERE["tensorrt"] = ("engine.tensorrt.fake_backend", "FakeBackend")
"""
OPTIONS = {"copy_streams": 2, "inference_streams": 1, "start_from_device": True, "timing": True}
SHORT = {"backend": "tensorrt", "min_duration": 1500, "batch_size": 8, "telemetry_hz": 20}


class PlanlessBackend(NullBackend):
    """Stands for TensorRT in the process that is not measured: its engines are empty."""

    name = "tensorrt"


def stages_on_fake(
    monkeypatch: pytest.MonkeyPatch, site: Path, outputs: Path, scenario: str, **values: Any
) -> tuple[RunFolder, RunResult, ReportResult]:
    site.mkdir()
    (site / "sitecustomize.py").write_text(REGISTER)
    (site / "pynvml.py").write_text(FAKE_NVML)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, [site, TESTS.parent, TESTS])))
    asked = {"gpus": 1, "fail_at": {}, "options": OPTIONS, "input": ["input_tensor:0", "float32", [3, 224, 224]]}
    monkeypatch.setenv("FAKE_GPU", json.dumps(asked))
    monkeypatch.setitem(nvkit.engine._WHERE, "tensorrt", (__name__, "PlanlessBackend"))
    settings = {**SMALL, **SHORT, **values}
    config = nvkit.configure("cpu", scenario=scenario, mode="performance", quick=True, overrides=settings)
    run = nvkit.open_run(config, outputs)
    return run, nvkit.stages.run(config, run), nvkit.stages.report(config, run)


def test_the_run_and_its_report_tell_what_the_gpus_did(
    outputs: Path, small_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, result, report = stages_on_fake(
        monkeypatch, tmp_path / "site", outputs, "Offline,Server", server_target_qps=200
    )
    offline, _ = result.tests
    folder = run.path / offline.logs
    child = json.loads((folder / "child.json").read_text())
    assert offline.telemetry is not None
    assert offline.telemetry.gpus == (0,)
    assert (offline.telemetry.begin, offline.telemetry.seconds) == (child["begin"], child["end"] - child["begin"])
    assert offline.telemetry.joules_per_sample == pytest.approx(
        700 * offline.telemetry.seconds / offline.summary.counts["samples"]
    )
    lines = [json.loads(line) for line in (folder / "telemetry.jsonl").read_text().splitlines()]
    assert min(line["time"] for line in lines) < child["end"]
    assert {line["gpu"] for line in lines} == {0, 1}

    for shown in (result, report):
        tables = {table.title: table for table in shown.tables()}
        during = tables["GPUs during the tests"]
        assert [row[0] for row in during.rows] == ["Offline (PerformanceOnly)", "Server (PerformanceOnly)"]
        assert "Offline (PerformanceOnly): GPU 0 was slowed by its power cap of 700 W for 100%" in str(during)
        assert "not an MLPerf power measurement" in str(during)
        times = tables["Where the GPU's time went"]
        assert [row[0] for row in times.rows] == ["Offline", "Server"]
        timing = offline.runner["timing"]
        values = dict(zip(times.headings, times.rows[0], strict=True))
        assert values["batches"] == timing["batches"] == child["batches"]
        assert values["network ms"] == timing["compute"] / timing["batches"] > 0
        assert sum(v for k, v in values.items() if k.endswith(" %")) == pytest.approx(100, abs=0.3)
        used = tables["How the GPUs were used"]
        first = dict(zip(used.headings, used.rows[0], strict=True))
        assert (first["gpus"], first["copy streams"], first["start from device"]) == ("0", 2, True)
    wanted = {"Offline-gpus", "Server-gpus", "gpu-time"}
    assert set(result.figures()) == wanted
    assert wanted < set(report.figures())
    for name in wanted:
        assert {(run.path / "plots" / f"{name}.{kind}").is_file() for kind in ("png", "svg")} == {True}
    again = nvkit.stages.run(run.config, run)
    assert again.reused
    assert [(t.telemetry, t.runner) for t in again.tests] == [(t.telemetry, t.runner) for t in result.tests]
    assert again.tables() == result.tables()


def test_telemetry_and_timing_can_be_off(
    outputs: Path, small_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OPTIONS, "timing", False)
    run, result, report = stages_on_fake(
        monkeypatch, tmp_path / "site", outputs, "Offline", telemetry_hz=0, min_duration=300
    )
    assert not list(run.path.glob("loadgen/*/*/telemetry.jsonl"))
    assert result.tests[0].telemetry is None
    assert result.figures() == {}
    titles = [table.title for table in report.tables()]
    assert "How the GPUs were used" in titles
    assert not {"GPUs during the tests", "Where the GPU's time went"} & set(titles)
