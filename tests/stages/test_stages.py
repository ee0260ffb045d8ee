from __future__ import annotations

import json
import shutil
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
from small import SMALL

import nvkit
from nvkit import stages
from nvkit.benchmarks.base import Model
from nvkit.benchmarks.resnet50 import ResNet50
from nvkit.errors import BackendUnavailableError, ConfigError, EngineBuildError
from nvkit.quantize.ranges import Ranges
from nvkit.runs import RunFolder


def _read_only(run: RunFolder) -> RunFolder:
    return RunFolder(run.path, run.config, read_only=True)


def test_a_finished_run_holds_everything(small_run: RunFolder) -> None:
    path = small_run.path
    assert {p.stem for p in (path / "stages").iterdir()} >= {
        "setup",
        "preprocess",
        "calibrate",
        "build",
        "run",
        "report",
    }
    for scenario in ("Offline", "SingleStream"):
        for mode in ("performance", "accuracy"):
            assert (path / "loadgen" / scenario / mode / "mlperf_log_detail.txt").stat().st_size > 0
        line = (path / "loadgen" / scenario / "accuracy" / "accuracy.txt").read_text()
        assert line.startswith("accuracy=")
    names = {p.name for p in (path / "plots").iterdir()}
    assert {"latency-percentiles.png", "latency-percentiles.svg", "Offline-progress.png"} <= names


def test_every_stage_is_recognised_as_finished(small_run: RunFolder) -> None:
    for name in ("setup", "preprocess", "calibrate", "build", "run", "report"):
        assert getattr(stages, name)(small_run.config, _read_only(small_run)).reused


def test_results_carry_their_brands(small_run: RunFolder) -> None:
    report = stages.report(small_run.config, _read_only(small_run))
    text = "\n".join(map(str, report.tables()))
    for brand in ("quick run, not an official result", "synthetic weights", "generated data"):
        assert brand in text
        assert any(brand in note for note in report.notes)
    assert "departs from the round" in text


def test_a_run_without_gpus_says_nothing_of_them(small_run: RunFolder) -> None:
    result = stages.run(small_run.config, _read_only(small_run))
    titles = [table.title for table in (*result.tables(), *stages.report(small_run.config, small_run).tables())]
    assert not [title for title in titles if "GPU" in title]
    assert result.figures() == {}
    assert {(test.telemetry, *test.runner) for test in result.tests} == {(None,)}
    assert not list(small_run.path.glob("loadgen/*/*/telemetry.jsonl"))


def test_accuracy_does_not_depend_on_the_scenario(small_run: RunFolder) -> None:
    report = stages.report(small_run.config, _read_only(small_run))
    scores = [
        s.accuracy["good"] if "good" in s.accuracy else s.accuracy["value"] for s in report.summaries if s.accuracy
    ]
    assert len(scores) == 2
    assert scores[0] == scores[1]


def test_loadgens_percentiles_are_confirmed(small_run: RunFolder) -> None:
    report = stages.report(small_run.config, _read_only(small_run))
    rows = {row[0]: row[2:] for row in report.checks().rows}
    assert set(rows) == {"Offline", "SingleStream"}
    assert all(found > 5 and found == equal for found, equal in rows.values())
    summary = next(s for s in report.summaries if s.checks)
    wrong = replace(summary, checks=(replace(summary.checks[0], ours=-1), *summary.checks[1:]))
    tests = (report.tests[0].model_copy(update={"summary": wrong}),)
    assert "recomputed -1" in str(report.model_copy(update={"tests": tests}).checks())


def test_the_quantised_network_is_int8_and_was_compared(small_run: RunFolder) -> None:
    result = stages.calibrate(small_run.config, _read_only(small_run))
    assert result.quantized_layers["Conv"] == 53
    assert set(result.accuracy) == {"fp32", "int8"}
    assert set(result.ranges) == {"entropy", "max", "percentile"}
    assert set(result.figures()) == {"calibration-ranges"}
    folder = next(iter(result.ranges.values())).parent
    assert (folder / "calibration-entropy.cache").read_text().startswith("TRT-")


def test_ranges_can_come_from_nvidias_cache(small_run: RunFolder) -> None:
    before = stages.calibrate(small_run.config, _read_only(small_run))
    cache = before.ranges["max"].parent / "calibration-max.cache"
    config = nvkit.configure(
        "cpu", scenario="Offline", quick=True, overrides={**SMALL, "calibration_cache": str(cache)}
    )
    result = stages.calibrate(config, nvkit.open_run(config, small_run.path.parent.parent))
    assert result.method == "cache"
    assert result.quantized_layers == before.quantized_layers


def test_ranges_can_come_with_the_weights(
    small_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = stages.calibrate(small_run.config, _read_only(small_run))
    replace(Ranges.load(before.ranges["max"]), method="trained").save(tmp_path / "weights.json")
    model = ResNet50.model

    def with_ranges(self: ResNet50, *given: object) -> Model:
        return replace(model(self, *given), ranges=tmp_path / "weights.json")

    monkeypatch.setattr(ResNet50, "model", with_ranges)
    config = nvkit.configure("cpu", scenario="Offline", quick=True, overrides={**SMALL, "calibration_samples": 7})
    run = nvkit.open_run(config, small_run.path.parent.parent)
    result = stages.calibrate(config, run)
    assert (result.method, set(result.ranges)) == ("trained", {"trained"})
    assert result.quantized_layers == before.quantized_layers
    assert stages.preprocess(config, run).calibration is None
    (tmp_path / "weights.json").unlink()
    assert not stages.setup(config, run).usable()


def test_fp32_needs_no_calibration(small_run: RunFolder) -> None:
    config = nvkit.configure("cpu", scenario="Offline", quick=True, overrides={**SMALL, "precision": "fp32"})
    run = nvkit.open_run(config, small_run.path.parent.parent)
    result = stages.calibrate(config, run)
    assert result.why_not == "The fp32 engine needs no ranges."
    assert stages.preprocess(config, run).calibration is None
    engine = stages.build(config, run).engines["Offline"]
    assert engine.precision == "fp32"
    assert set(stages.build(config, run).agreement.values()) == {1.0}


def test_an_engine_that_computes_something_else_fails_its_self_check(
    small_run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = iter([[1, 2, 3, 4] * 8, [9] * 32])

    def fake(*_: object) -> object:
        import numpy as np

        return np.array(next(outputs))

    monkeypatch.setattr(import_module("nvkit.stages.build"), "run_samples", fake)
    with pytest.raises(EngineBuildError, match=r"int8 engine .* for 0%"):
        stages.build(small_run.config, small_run, fresh=True)
    monkeypatch.undo()
    stages.report(small_run.config, small_run)  # finish the run again for the other tests


def test_deleted_artefacts_are_made_again(tmp_path: Path, small_run: RunFolder) -> None:
    outputs = tmp_path / "outputs"
    shutil.copytree(small_run.path.parent.parent / "store", outputs / "store")
    config = nvkit.configure("cpu", scenario="Offline", quick=True, overrides=SMALL)
    run = nvkit.open_run(config, outputs)
    first = stages.preprocess(config, run)
    shutil.rmtree(outputs / "store" / "preprocessed")
    second = stages.preprocess(config, run)
    assert not second.reused
    assert second.samples.count == first.samples.count


def test_a_run_continues_with_the_unfinished_test(small_run: RunFolder, tmp_path: Path) -> None:
    run = small_run
    done = json.loads(run.stage_file("run-Offline-performance").read_text())["finished"]
    run.stage_file("run").unlink()
    run.stage_file("run-SingleStream-accuracy").unlink()
    result = stages.run(run.config, run)
    reused = {f"{t.summary.scenario} {t.summary.mode}": t.reused for t in result.tests}
    assert reused == {
        "Offline PerformanceOnly": True,
        "Offline AccuracyOnly": True,
        "SingleStream PerformanceOnly": True,
        "SingleStream AccuracyOnly": False,
    }
    assert json.loads(run.stage_file("run-Offline-performance").read_text())["finished"] == done
    assert (run.path / "loadgen" / "SingleStream" / "accuracy.earlier-1").is_dir()


def test_an_audit_config_stops_the_run_before_anything(
    small_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("audit.config").write_text("x")
    with pytest.raises(ConfigError, match=r"audit\.config"):
        stages.run(small_run.config, small_run)


def test_a_backend_that_is_not_here_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nvkit.engine.onnxruntime import OnnxRuntimeBackend

    monkeypatch.setattr(OnnxRuntimeBackend, "unavailable", lambda self: "install something.")
    config = nvkit.configure("cpu", scenario="Offline", quick=True, overrides=SMALL)
    with pytest.raises(BackendUnavailableError, match=r"Profile cpu runs on onnxruntime: install something\."):
        stages.setup(config, nvkit.open_run(config, tmp_path))


def test_the_null_backend_runs_without_calibration(small_run: RunFolder) -> None:
    values = {**SMALL, "backend": "null", "server_target_qps": 2000}
    config = nvkit.configure("cpu", scenario="Server", mode="performance", quick=True, overrides=values)
    run = nvkit.open_run(config, small_run.path.parent.parent)
    report = stages.report(config, run)
    assert stages.build(config, run).agreement == {}
    assert report.summaries[0].metric is not None
    assert report.summaries[0].metric.value > 1000
