from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from engine.tensorrt.fake_gpu import FakeContext, FakeGpu

from nvkit.engine.base import infer
from nvkit.engine.tensorrt import flight
from nvkit.engine.tensorrt.flight import Options
from nvkit.engine.tensorrt.runner import TensorRtRunner
from nvkit.engine.tensorrt.slot import graph_sizes
from nvkit.engine.tensorrt.tensors import Tensor
from nvkit.errors import ConfigError, DataError, HarnessError

INPUT = Tensor("input", "int8", (3, 4, 4))
OUTPUT = Tensor("output", "int32", ())
COUNT = 100


def samples(count: int = COUNT) -> dict[str, np.ndarray[Any, Any]]:
    """Sample i begins with the int32 i, so that the simulated network answers i + 1."""
    data = np.zeros((count, *INPUT.shape), np.int8)
    data.reshape(count, -1)[:, :4] = np.arange(count, dtype=np.int32).view(np.int8).reshape(count, 4)
    return {"input": data}


def runner_on(*gpus: FakeGpu, **options: Any) -> TensorRtRunner:
    chosen = Options(**{"max_batch": 8, "copy_streams": 2, **options})
    contexts = [[FakeContext(gpu, INPUT.row_bytes) for _ in range(chosen.copy_streams)] for gpu in gpus]
    return TensorRtRunner(gpus, contexts, [INPUT], OUTPUT, chosen)


WAYS = [
    {"use_graphs": graphs, "start_from_device": device, "run_infer_on_copy_streams": one, "inference_streams": streams}
    for graphs, device, one, streams in itertools.product((False, True), (False, True), (False, True), (1, 2))
]


@pytest.mark.parametrize(
    "way", WAYS, ids=lambda way: "-".join(k for k, v in way.items() if v is True) + str(way["inference_streams"])
)
def test_every_way_to_run_answers_each_sample_with_its_own_result(way: dict[str, Any]) -> None:
    gpu = FakeGpu()
    runner = runner_on(gpu, **way)
    runner.stage(samples())
    rng = np.random.default_rng(0)
    flying: dict[int, list[int]] = {}
    for number in range(60):
        slot = number % runner.slots
        if slot in flying:
            assert runner.wait(slot).tolist() == [row + 1 for row in flying.pop(slot)]
        rows = rng.integers(0, COUNT, rng.integers(1, 9)).tolist() if number % 3 else list(range(number, number + 8))
        runner.submit(slot, rows)
        flying[slot] = rows
    for slot, rows in flying.items():
        assert runner.wait(slot).tolist() == [row + 1 for row in rows]
    assert gpu.violations == []
    assert gpu.calls["launch"] == (0 if not way["use_graphs"] else 60)
    runner.close()
    assert gpu.closed


def test_slots_of_two_gpus_work_side_by_side_from_their_own_threads() -> None:
    gpus = FakeGpu(0), FakeGpu(1)
    runner = runner_on(*gpus, use_graphs=True, start_from_device=True, inference_streams=2)
    assert runner.slots == 4
    runner.stage(samples())
    wrong: list[Any] = []

    def work(slot: int) -> None:
        rng = np.random.default_rng(slot)
        for _ in range(25):
            rows = rng.integers(0, COUNT, 5).tolist()
            runner.submit(slot, rows)
            found = runner.wait(slot).tolist()
            if found != [row + 1 for row in rows]:
                wrong.append((slot, rows, found))

    threads = [threading.Thread(target=work, args=(slot,)) for slot in range(runner.slots)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert [gpu.calls["launch"] for gpu in gpus] == [50, 50]
    assert gpus[0].violations == gpus[1].violations == []


def test_samples_are_staged_again_in_other_numbers() -> None:
    gpu = FakeGpu()
    runner = runner_on(gpu, use_graphs=True, start_from_device=True)
    for count in (10, 100, 50):
        assert infer(runner, samples(count)).tolist() == list(range(1, count + 1))
    before = gpu.used
    runner.stage(samples(100))
    assert gpu.used == before  # room that is there is used again


def test_consecutive_samples_on_the_device_are_read_in_place() -> None:
    gpu = FakeGpu()
    runner = runner_on(gpu, start_from_device=True)
    runner.stage(samples())
    runner.submit(0, range(16, 24))
    assert runner.wait(0).tolist() == list(range(17, 25))
    assert gpu.calls["gather"] == 0
    assert gpu.calls["copy"] == 1  # the outputs
    runner.submit(0, [3, 1, 2])
    assert runner.wait(0).tolist() == [4, 2, 3]
    assert gpu.calls["gather"] == 1


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize(("most", "streams"), [(8, 1), (8, 2), (32768, 1)])
def test_one_batch_in_flight_is_polled_and_a_small_output_comes_back_without_a_copy(
    graphs: bool, most: int, streams: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flight, "_POLL_S", 10.0)
    gpu = FakeGpu(memory=1 << 32)
    runner = runner_on(gpu, max_batch=most, copy_streams=streams, use_graphs=graphs, start_from_device=True)
    runner.stage(samples())
    for rows in ([3, 1, 2], [5] * most):
        runner.submit(0, rows)
        assert runner.wait(0).tolist() == [row + 1 for row in rows]
    alone = streams == 1
    assert (gpu.calls["publish"] > 0) == alone
    assert (gpu.calls["synchronize"] == 0) == alone
    assert (gpu.calls["copy"] == 0) == (alone and most == 8)  # 128 KiB are the copy engine's
    gpu.close()


def test_a_long_batch_is_waited_for_without_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flight, "_POLL_S", 0.0)
    gpu = FakeGpu()
    runner = runner_on(gpu, copy_streams=1)
    runner.stage(samples())
    for row in range(5):
        runner.submit(0, [row, 0])
        assert runner.wait(0).tolist() == [row + 1, 1]
    assert gpu.calls["synchronize"] > 0
    gpu.close()


def test_graphs_cover_every_batch_size_with_little_waste() -> None:
    for largest in (1, 2, 8, 26, 64, 256, 2048):
        sizes = graph_sizes(largest)
        assert sizes[-1] == largest
        assert all(min(s for s in sizes if s >= n) <= max(2 * n, n + largest / 8) for n in range(1, largest + 1))


def test_facts_split_the_time_of_batches() -> None:
    runner = runner_on(FakeGpu(), timing=True, start_from_device=True)
    runner.stage(samples())
    for start in range(0, 40, 8):
        runner.submit(0, [start + 1, start])
        runner.wait(0)
    facts = runner.facts()
    assert (facts["timing"]["batches"], facts["timing"]["samples"]) == (5, 10)
    assert facts["timing"]["compute"] > 0
    assert (facts["gpus"], facts["copy_streams"]) == ([0], 2)
    runner.stage(samples())
    assert runner.facts()["timing"] is None  # a new test begins


@pytest.fixture
def failing() -> Iterator[list[FakeGpu]]:
    gpus: list[FakeGpu] = []
    yield gpus
    for gpu in gpus:
        gpu.close()


@pytest.mark.parametrize(
    ("what", "graphs", "streams"),
    [
        *((what, False, 2) for what in ("copy", "gather", "enqueue", "record", "run")),
        *((what, True, 2) for what in ("launch", "run")),
        *((what, False, 1) for what in ("publish", "run")),
        *((what, True, 1) for what in ("launch", "run")),
    ],
)
def test_a_failure_in_mid_run_names_the_batch(failing: list[FakeGpu], what: str, graphs: bool, streams: int) -> None:
    plain = FakeGpu()
    runner = runner_on(plain, use_graphs=graphs, copy_streams=streams)
    runner.stage(samples())
    already = plain.calls[what]  # what the capture of graphs needs
    plain.close()
    gpu = FakeGpu(fail_at={what: already + 3})
    failing.append(gpu)
    runner = runner_on(gpu, use_graphs=graphs, copy_streams=streams)
    runner.stage(samples())

    def work() -> None:
        for number in range(12):
            runner.submit(0, [number, 0])
            assert runner.wait(0).tolist() == [number + 1, 1]

    says = rf"Batch \d+ \(2 samples\) on slot 0 of GPU 0 did not (start|finish).*{what}"
    with pytest.raises(HarnessError, match=says):
        work()


def test_what_does_not_fit_is_refused_before_the_test() -> None:
    with pytest.raises(ConfigError, match="smaller --batch-size") as raised:
        runner_on(FakeGpu(memory=500))
    assert "2 slots of 8 samples" in str(raised.value)
    runner = runner_on(FakeGpu(memory=4000), start_from_device=True)
    with pytest.raises(ConfigError, match="performance-sample-count"):
        runner.stage(samples())


@pytest.mark.parametrize(
    ("array", "says"),
    [
        ({"other": np.zeros((4, 3, 4, 4), np.int8)}, "lack the engine's input 'input'"),
        ({"input": np.zeros((4, 3, 4, 4), np.float32)}, "takes int8"),
        ({"input": np.zeros((4, 3, 4), np.int8)}, r"takes int8 \[3, 4, 4\]"),
    ],
)
def test_samples_of_another_form_are_refused(array: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        runner_on(FakeGpu()).stage(array)
