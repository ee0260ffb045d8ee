"""The whole path - LoadGen, SUT, runner - on the simulated GPU: order, completeness and failures in mid-test."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nvkit.benchmarks.base import SampleSet
from nvkit.config import Settings
from nvkit.errors import HarnessError
from nvkit.harness import TestSpec, run_test
from nvkit.results.loadgen_log import read_detail
from nvkit.results.raw_log import read_accuracy

COUNT = 300
TESTS = Path(__file__).parents[2]
REGISTER = """\
import nvkit.engine
nvkit.engine._WHERE["null"] = ("engine.tensorrt.fake_backend", "FakeBackend")
"""
WAYS = {
    "graphs": {"copy_streams": 3, "inference_streams": 2, "use_graphs": True, "start_from_device": True},
    "plain": {"copy_streams": 2, "inference_streams": 1},
    "one stream": {"copy_streams": 2, "run_infer_on_copy_streams": True, "use_graphs": True},
}
Drive = Callable[..., dict[str, Any]]


@pytest.fixture
def drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Drive:
    """Run one LoadGen test in a child whose backend is the simulated GPU."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(REGISTER)
    nvkit = str(TESTS.parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), nvkit, str(TESTS)]))
    data = np.zeros((COUNT, 3, 4, 4), np.int8)
    data.reshape(COUNT, -1)[:, :4] = np.arange(COUNT, dtype=np.int32).view(np.int8).reshape(COUNT, 4)
    np.save(tmp_path / "input.npy", data)
    samples = SampleSet({"input": tmp_path / "input.npy"}, COUNT, "digest")

    def run(scenario: str, mode: str, way: str, *, gpus: int = 1, fail_at: Any = None, **values: Any) -> dict[str, Any]:
        asked = {"gpus": gpus, "fail_at": fail_at or {}, "options": WAYS[way]}
        monkeypatch.setenv("FAKE_GPU", json.dumps(asked))
        small = {"backend": "null", "batch_size": 8, "warmup_duration": 0.1, "performance_sample_count": 200}
        settings = Settings.model_validate({**small, "min_duration": 800, "min_query_count": 64, **values})
        return run_test(TestSpec("resnet50", scenario, mode, settings, tmp_path, samples), tmp_path / "logs")

    return run


@pytest.mark.parametrize(
    ("scenario", "way"),
    [
        ("Offline", "graphs"),
        ("Server", "graphs"),
        ("Server", "plain"),
        ("SingleStream", "one stream"),
        ("MultiStream", "plain"),
    ],
)
def test_no_sample_is_lost_doubled_or_answered_for_another(
    drive: Drive, tmp_path: Path, scenario: str, way: str
) -> None:
    drive(scenario, "accuracy", way, gpus=2 if scenario == "Offline" else 1)
    found = read_accuracy(tmp_path / "logs")
    # The simulated network answers index + 1, and responses are without the background class.
    assert {i: int.from_bytes(data, "little", signed=True) for i, data in found.items()} == {i: i for i in range(COUNT)}


def test_a_performance_test_on_two_gpus_leaves_nothing_out(drive: Drive, tmp_path: Path) -> None:
    said = drive("Offline", "performance", "graphs", gpus=2, offline_expected_qps=1000)
    detail = read_detail(tmp_path / "logs")
    assert detail.errors == ()
    assert said["completed"] == detail.require("effective_min_sample_count")
    assert said["slots"] == 6


@pytest.mark.parametrize(
    ("scenario", "fault"),
    [
        *(("Server", fault) for fault in ("copy", "gather", "run", "record")),
        ("Offline", "run"),
        ("SingleStream", "run"),
    ],
)
def test_a_failing_gpu_ends_the_test_with_the_batch_named(
    drive: Drive, tmp_path: Path, scenario: str, fault: str
) -> None:
    started = time.monotonic()
    with pytest.raises(HarnessError, match=rf"Batch \d+ .*slot \d of GPU 0 .*injected failure of {fault}"):
        drive(scenario, "performance", "plain", fail_at={fault: 200}, warmup_duration=0.0, min_duration=30_000)
    assert time.monotonic() - started < 25  # nothing waits for the end of the test
    assert not (tmp_path / "logs").exists()
    assert "not a result" in (tmp_path / "logs.partial" / "PARTIAL.txt").read_text()


@pytest.mark.parametrize(
    ("scenario", "way", "form"),
    [
        ("Offline", "plain", "packed"),
        ("Server", "graphs", "packed"),
        ("Server", "plain", "padded"),
        ("SingleStream", "one stream", "packed"),
    ],
)
def test_samples_of_different_lengths_get_their_own_logits(
    drive: Drive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scenario: str, way: str, form: str
) -> None:
    count, longest = 120, 24
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, longest + 1, count).astype(np.int32)
    mask = (np.arange(longest) < lengths[:, None]).astype(np.int32)
    ids = rng.integers(1, 999, mask.shape, dtype=np.int32) * mask
    arrays = {"input_ids": ids, "input_mask": mask, "segment_ids": np.zeros_like(ids)}
    for name, array in {**arrays, "lengths": lengths}.items():
        np.save(tmp_path / f"{name}.npy", array)
    asked = {"gpus": 1, "fail_at": {}, "options": {**WAYS[way], "start_from_device": False}}
    monkeypatch.setenv("FAKE_GPU", json.dumps({**asked, "form": form, "longest": longest}))
    samples = SampleSet(
        {name: tmp_path / f"{name}.npy" for name in arrays}, count, "digest", lengths=tmp_path / "lengths.npy"
    )
    small = {"backend": "null", "batch_size": 8, "warmup_duration": 0.1, "performance_sample_count": 100}
    settings = Settings.model_validate({**small, "min_duration": 500, "min_query_count": 64})
    run_test(TestSpec("bert", scenario, "accuracy", settings, tmp_path, samples), tmp_path / "logs")
    found = read_accuracy(tmp_path / "logs")
    assert set(found) == set(range(count))
    for index, payload in found.items():
        length = int(lengths[index])
        expected = np.stack([ids[index, :length], np.arange(length) + length], axis=1)
        assert np.array_equal(np.frombuffer(payload, "<f4").reshape(-1, 2), expected)
