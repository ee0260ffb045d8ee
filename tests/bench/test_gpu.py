"""Part "gpu" without a GPU: what is run bare, on a simulated GPU, and what the figures are held against."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from engine.tensorrt.fake_gpu import FakeContext, FakeGpu

import nvkit
from nvkit.bench import bare_gpu, gpu
from nvkit.bench import bench as bench_parts
from nvkit.bench.bare_gpu import BareGpuSpec, batches, measure_on
from nvkit.benchmarks.base import SampleSet
from nvkit.errors import ConfigError, HarnessError

LENGTHS = np.array([7, 3, 9, 5, 1, 8, 2, 6], np.int32)


def spec(folder: Path, **values: Any) -> BareGpuSpec:
    known = {"resident": 8, "batch": 4, "streams": 1, "seconds": 0.05, "sorted": False, "lengths": None}
    return BareGpuSpec(**{"engine": str(folder), "arrays": {}, **known, **values})


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bare_gpu, "_WARM_UP_S", 0.01)
    monkeypatch.setattr(bare_gpu, "_BATCHES", 4)


def test_samples_of_one_length_make_a_batch_for_each_stream(tmp_path: Path) -> None:
    assert batches(spec(tmp_path, batch=5, streams=2)) == [[0, 1, 2, 3, 4], [5, 6, 7, 0, 1]]


def test_samples_of_different_lengths_are_batched_as_the_harness_does(tmp_path: Path) -> None:
    np.save(tmp_path / "lengths.npy", LENGTHS)
    made = {
        order: batches(spec(tmp_path, lengths=str(tmp_path / "lengths.npy"), sorted=order)) for order in (True, False)
    }
    for each in made.values():
        assert sorted(row for batch in each for row in batch) == sorted(2 * list(range(8)))  # each sample equally often
    spread = {order: max(np.ptp(LENGTHS[batch]) for batch in each) for order, each in made.items()}
    assert spread[True] <= 2 < spread[False]


def test_the_bare_engine_computes_the_harness_s_samples(tmp_path: Path) -> None:
    fake = FakeGpu()
    samples = np.arange(8, dtype=np.int32).view(np.int8).reshape(8, 4)
    np.save(tmp_path / "x.npy", samples)
    card = {
        "inputs": [{"name": "input", "dtype": "int8", "shape": [4]}],
        "outputs": [{"name": "output", "dtype": "int32", "shape": []}],
    }
    seen: list[list[int]] = []

    class Context(FakeContext):
        def enqueue(self, stream: Any) -> None:
            source = self._gpu.at(self._addresses["input"], 4 * self._size)
            seen.append(source.view(np.int32).tolist())
            super().enqueue(stream)

    wanted = spec(tmp_path, arrays={"input": str(tmp_path / "x.npy")}, streams=2)
    said = measure_on(fake, [Context(fake, 4), Context(fake, 4)], card, wanted)  # type: ignore[arg-type]
    assert seen[::2] == [[0, 1, 2, 3], [4, 5, 6, 7]]  # each once before it is captured and once while
    assert said["samples_per_second"] == pytest.approx(4 * fake.calls["launch"] / 0.06, rel=0.8)
    assert said["latencies_ms"] == {}
    single = spec(tmp_path, arrays={"input": str(tmp_path / "x.npy")}, batch=1)
    said = measure_on(fake, [Context(fake, 4)], card, single)  # type: ignore[arg-type]
    assert 0 < said["latencies_ms"][50] <= said["latencies_ms"][99]
    fake.close()


def test_batches_of_different_lengths_are_packed_on_the_device(tmp_path: Path) -> None:
    fake = FakeGpu()
    np.save(tmp_path / "lengths.npy", LENGTHS)
    ids = np.zeros((8, 9), np.int32)
    for row, length in enumerate(LENGTHS):
        ids[row, :length] = 100 * (row + 1) + np.arange(length)
    np.save(tmp_path / "ids.npy", ids)
    names = ["ids", "cu_seqlens", "max_seqlen"]
    card = {
        "lengths": {"packed": True, "longest": 9},
        "inputs": [{"name": name, "dtype": "int32", "shape": []} for name in names],
        "outputs": [{"name": "logits", "dtype": "float16", "shape": [2, 1, 1]}],
    }
    runs: list[tuple[list[int], list[int], int]] = []

    class Context:
        def __init__(self) -> None:
            self.at: dict[str, int] = {}

        def bind(self, name: str, address: int) -> None:
            self.at[name] = address

        def set_shapes(self, shapes: dict[str, tuple[int, ...]]) -> None:
            self.shapes = shapes

        def enqueue(self, stream: Any) -> None:
            def values(name: str) -> list[int]:
                return fake.at(self.at[name], 4 * self.shapes[name][0]).view(np.int32).tolist()

            runs.append((values("ids"), values("cu_seqlens"), self.shapes["max_seqlen"][0]))
            assert len(fake.at(self.at["logits"], 2 * 2 * self.shapes["ids"][0]))

    wanted = spec(
        tmp_path, arrays={"ids": str(tmp_path / "ids.npy")}, lengths=str(tmp_path / "lengths.npy"), sorted=True
    )
    said = measure_on(fake, [Context()], card, wanted)  # type: ignore[list-item]
    assert fake.calls["launch"] % 4 == 0  # every batch equally often
    assert said["samples_per_second"] > 0
    assert len(runs) == 8
    for tokens, ends, longest in runs:
        lengths = np.diff(ends)
        assert longest == lengths.max()
        for begin, length in zip(ends[:-1], lengths, strict=True):
            row = tokens[begin] // 100 - 1
            assert LENGTHS[row] == length
            assert tokens[begin : begin + length] == ids[row, :length].tolist()
    fake.close()


class Log:
    """What LoadGen says of a test."""

    def __init__(self, **values: Any) -> None:
        self._values = values

    def require(self, key: str) -> Any:
        return self._values[key]


def run_once(benchmark: str, monkeypatch: pytest.MonkeyPatch, name: str, folder: Path, **samples: Any) -> str:
    config = nvkit.configure("h200_sxm", benchmark, "Offline,Server", mode="performance")
    specs: list[BareGpuSpec] = []

    def bare(spec: BareGpuSpec) -> dict[str, Any]:
        specs.append(spec)
        return {"samples_per_second": 1500.0, "latencies_ms": {}}

    monkeypatch.setattr(gpu, "_bare", bare)
    monkeypatch.setattr(gpu, "run_test", lambda spec, folder: {"runner": {"timing": None}, "package": spec})
    logs = {
        "result_samples_per_second": 1480.0,
        "result_completed_samples_per_sec": 1310.0,
        "result_validity": "VALID",
    }
    monkeypatch.setattr(gpu, "read_detail", lambda folder: Log(**logs))
    monkeypatch.setattr(gpu, "describe", lambda: SimpleNamespace(gpus=[SimpleNamespace(name=name)]))
    engines: Any = {scenario: SimpleNamespace(path=folder) for scenario in config.scenarios}
    bench = gpu.GpuBench(config, engines, SampleSet({"x": folder / "x.npy"}, 64, "x", **samples))
    for scenario in config.scenarios:
        bench.once(scenario)
    assert [spec.sorted for spec in specs] == [True, False]
    assert all(spec.lengths == (str(folder / "l.npy") if samples else None) for spec in specs)
    assert all(spec.resident == 64 for spec in specs)
    return "\n".join(map(str, bench.tables()))


def test_figures_are_held_against_the_bars_of_their_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = run_once("retinanet", monkeypatch, "NVIDIA H200", tmp_path)
    assert "RetinaNet (ResNeXt-50, 800x800) on OpenImages on NVIDIA H200" in text
    assert "at least 0.98 x" in text
    assert "at least 1,400" in text
    assert "at least 1,300" in text
    assert "without padding" not in text
    text = run_once("bert-99.9", monkeypatch, "NVIDIA H200", tmp_path, lengths=tmp_path / "l.npy")
    assert re.search(r"at least 3,000 +no", text)
    assert "Server, valid" not in text  # no figure is asked for
    assert "without padding, of nearly one length in Offline" in text
    assert "Offline over the bare engine" in run_once("retinanet", monkeypatch, "NVIDIA L4", tmp_path)


def test_one_query_in_flight_is_held_against_a_bare_batch_of_its_samples(tmp_path: Path) -> None:
    values = {"batch_size": 16, "gpu_copy_streams": 1, "gpu_inference_streams": 1}
    config = nvkit.configure("h200_sxm", "retinanet", "SingleStream,MultiStream", mode="performance", overrides=values)
    bench = gpu.GpuBench(config, {}, SampleSet({"x": tmp_path / "x.npy"}, 64, "x"))
    batches = {name: bench._peer(name, settings, tmp_path).batch for name, settings in config.scenarios.items()}
    assert batches == {"SingleStream": 1, "MultiStream": 8}
    fewer = {"batch_size": 16, "multi_stream_samples_per_query": 4}
    narrow = nvkit.configure("h200_sxm", "retinanet", "MultiStream", mode="performance", overrides=fewer)
    assert bench._peer("MultiStream", narrow.scenarios["MultiStream"], tmp_path).batch == 4
    small = nvkit.configure("h200_sxm", "retinanet", "MultiStream", mode="performance", overrides={"batch_size": 2})
    assert bench._peer("MultiStream", small.scenarios["MultiStream"], tmp_path).batch == 2


def test_single_scenarios_can_be_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    class StoppedError(Exception):
        pass

    def build(config: Any, run: Any) -> Any:
        seen.append(list(config.scenarios))
        raise StoppedError

    monkeypatch.setattr(nvkit.runs, "outputs_folder", lambda: tmp_path)
    monkeypatch.setattr(nvkit.stages, "build", build)
    with pytest.raises(StoppedError):
        next(bench_parts(only="gpu", profile="h200_sxm", scenario="Server,SingleStream"))
    assert seen == [["Server", "SingleStream"]]
    with pytest.raises(ConfigError, match="belong to part gpu"):
        bench_parts(only="server", scenario="Server")


def test_a_bare_engine_that_fails_is_an_error_with_its_last_line(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"engine\.json"):
        gpu._bare(spec(tmp_path))
