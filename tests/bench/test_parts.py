"""The parts on tiny work: that they measure what they say, not how fast anything is."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import nvkit
from nvkit.bench import lengths, notebooks, offline, preprocess, server
from nvkit.bench.children import performance_test, server_figure
from nvkit.bench.small_network import small_engine, small_network
from nvkit.benchmarks.base import SampleSet
from nvkit.config import Settings
from nvkit.notebooks import STAGES
from nvkit.store import Store


def test_a_null_server_test_is_a_real_one(tmp_path: Path) -> None:
    settings = Settings(
        backend="null",
        batch_size=64,
        min_duration=300,
        min_query_count=500,
        server_target_qps=3000,
        server_target_latency_ns=2_000_000_000,
        performance_sample_count=4,
        warmup_duration=0,
    )
    np.save(tmp_path / "x.npy", np.zeros((4, 1), np.float32))
    engine = small_engine(Store(tmp_path), settings)
    log = performance_test("Server", settings, engine.path, SampleSet({"x": tmp_path / "x.npy"}, 4, "x"))
    valid, rate = server_figure(log)
    assert valid
    assert 1000 < rate < 6000
    assert log.sample_count >= 500


def test_the_server_part_searches_over_real_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Settings] = []

    class Log:
        def __init__(self, rate: float) -> None:
            self.values = {
                "result_validity": "VALID" if rate <= 350_000 else "INVALID",
                "result_completed_samples_per_sec": rate - 1,
            }

        def require(self, key: str) -> Any:
            return self.values[key]

    def fake(scenario: str, settings: Settings, engine: Path, samples: SampleSet) -> Any:
        assert scenario == "Server"
        assert json.loads((engine / "engine.json").read_text(encoding="utf-8"))["backend"] == "null"
        assert samples.load([1023])["nothing"].shape == (1, 1)
        seen.append(settings)
        assert settings.server_target_qps is not None
        return Log(settings.server_target_qps)

    monkeypatch.setattr(server, "performance_test", fake)
    text = str(server.measure(Store(tmp_path), 1))
    assert "at least 300,000  yes" in text
    assert all(s.server_target_latency_ns == 15_000_000 and s.min_duration == 3000 for s in seen)
    assert any(s.server_target_qps == 300_000 for s in seen)


def test_the_offline_part_runs_both_sides_on_the_same_work(small_run: nvkit.RunFolder) -> None:
    from conftest import SMALL

    config = nvkit.configure("cpu", scenario="Offline", mode="performance", quick=True, overrides=SMALL)
    text = str(offline.compare(config, small_run.store, 1, 0.05))
    assert "samples/s" in text
    assert "batch 8" in text
    assert "0.125 of the true width, synthetic weights, generated data" in text


def test_the_lengths_part_differs_in_lengths_alone(text_run: nvkit.RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Settings, Path, SampleSet, str]] = []

    def fake(scenario: str, settings: Settings, engine: Path, samples: SampleSet, package: str) -> Any:
        tokens = samples.lengths_of(range(samples.count))
        assert tokens is not None
        seen.append((settings, engine, replace(samples, lengths=None), package))
        # As fast as if only tokens cost.
        return SimpleNamespace(require=lambda key: {"result_samples_per_second": 1e6 / tokens.mean()}[key])

    monkeypatch.setattr(lengths, "performance_test", fake)
    shown = lengths.compare(text_run.config, text_run.store, 2)
    assert len(seen) == 4
    assert all(part == seen[0] for part in seen)
    samples = nvkit.stages.preprocess(text_run.config, text_run).samples
    assert seen[0][0].min_query_count == samples.count
    assert seen[0][3] == "bert"
    (row,) = shown.rows
    assert row[4] == pytest.approx(384 / samples.lengths_of(range(samples.count)).mean(), abs=1e-3)  # type: ignore[union-attr]


def test_a_bare_loop_that_fails_is_an_error_with_its_last_line(tmp_path: Path) -> None:
    from nvkit.bench.bare import BareSpec
    from nvkit.errors import HarnessError

    spec = BareSpec(str(tmp_path / "none.onnx"), str(tmp_path / "none.npy"), 1, 1, 1, 1, 1, 0.0)
    with pytest.raises(HarnessError, match=r"none\.npy"):
        offline._bare(spec)


def test_the_plain_loop_does_what_the_preprocessing_does(
    small_run: nvkit.RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[Any] = []
    original = np.empty
    monkeypatch.setattr(preprocess.np, "empty", lambda *given: rows.append(original(*given)) or rows[-1])
    config = small_run.config
    data = nvkit.stages.setup(config, small_run).data
    samples = nvkit.stages.preprocess(config, small_run).samples
    assert preprocess.plain_loop([data.root / name for name in data.files]) > 0
    (array,) = samples.open().values()
    assert np.abs(rows[0] - array).max() < 1e-3
    monkeypatch.undo()
    text = str(preprocess.compare(config.shared, small_run.store, 1))
    assert f"{len(data.files)} generated JPEG files" in text


def test_notebook_overhead_is_the_wall_time_less_the_stages_own(monkeypatch: pytest.MonkeyPatch) -> None:
    executed: list[str] = []

    def execute(source: Path, out: Path, parameters: Mapping[str, Any], *, cwd: Path, echo: bool) -> None:
        stage = next(name for name, notebook in STAGES if notebook == source.name)
        executed.append(stage)
        assert parameters["run_dir"] == str(cwd)
        assert not (cwd / "stages" / f"{stage}.json").exists()
        time.sleep(0.03)
        (cwd / "stages" / f"{stage}.json").write_text(json.dumps({"seconds": 0.01}), encoding="utf-8")

    monkeypatch.setattr(notebooks, "execute", execute)
    shown = notebooks.measure(Store(Path()), 2)
    assert executed == 2 * [stage for stage, _ in STAGES]
    assert all(0.02 <= row[2] < 1 for row in shown.rows)
    assert all(row[7] is True for row in shown.rows)


def test_the_small_network_is_small_and_fits_resnet50(tmp_path: Path) -> None:
    import onnxruntime

    path = small_network(Store(tmp_path))
    assert 16_000 < path.stat().st_size < 18_000
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (classes,) = session.run(["ArgMax:0"], {"input_tensor:0": np.ones((3, 3, 224, 224), np.float32)})
    assert classes.dtype == np.int64
    assert classes.shape == (3,)
