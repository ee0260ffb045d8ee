"""Samples of different lengths on the simulated GPU: packed and padded batches, graphs, failures."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from engine.tensorrt.fake_backend import length_runner
from engine.tensorrt.fake_gpu import FakeGpu, FakeLengthContext

from nvkit.engine.base import Ragged
from nvkit.engine.tensorrt.flight import Options
from nvkit.engine.tensorrt.packed import Extent, Packed, Padded
from nvkit.engine.tensorrt.runner import PackedRunner
from nvkit.errors import ConfigError, DataError, HarnessError

LONGEST = 40
FORMS = ["packed", "padded"]
COUNT = 60
RNG = np.random.default_rng(3)
LENGTHS = RNG.integers(1, LONGEST + 1, COUNT).astype(np.int32)
MASK = (np.arange(LONGEST) < LENGTHS[:, None]).astype(np.int32)
SAMPLES = {
    "input_ids": RNG.integers(1, 999, MASK.shape, dtype=np.int32) * MASK,
    "input_mask": MASK,
    "segment_ids": RNG.integers(0, 2, MASK.shape, dtype=np.int32) * MASK,
}


def runner_on(form: str, *gpus: FakeGpu, graphs_longest: int = LONGEST, **options: Any) -> PackedRunner:
    chosen = Options(**{"max_batch": 8, "copy_streams": 2, **options})
    return length_runner(list(gpus), form, LONGEST, chosen, graphs_longest)


def right(found: Ragged, rows: list[int]) -> bool:
    """Tell whether each sample has the simulated network's answer, in the order of the rows."""
    assert found.values.dtype == np.float32
    assert found.lengths.tolist() == LENGTHS[rows].tolist()
    for row, logits in zip(rows, found.rows(), strict=True):
        own = slice(0, LENGTHS[row])
        ids = SAMPLES["input_ids"][row, own] + 1000 * SAMPLES["segment_ids"][row, own]
        expected = np.stack([ids, np.arange(LENGTHS[row]) + LENGTHS[row]], axis=1)
        if not np.array_equal(logits, expected):
            return False
    return True


WAYS = [
    {"use_graphs": graphs, "run_infer_on_copy_streams": one, "inference_streams": streams, "timing": timed}
    for graphs, one, streams, timed in itertools.product((False, True), (False, True), (1, 2), (False, True))
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(f"{value}" for value in way.values()))
def test_every_way_to_run_answers_each_sample_with_its_own_result(form: str, way: dict[str, Any]) -> None:
    gpu = FakeGpu()
    runner = runner_on(form, gpu, **way)
    runner.stage(SAMPLES, LENGTHS)
    captured = gpu.calls["launch"]
    rng = np.random.default_rng(0)
    flying: dict[int, list[int]] = {}
    for number in range(40):
        slot = number % runner.slots
        if slot in flying:
            assert right(runner.wait(slot), flying.pop(slot))
        rows = rng.integers(0, COUNT, rng.integers(1, 9)).tolist()
        runner.submit(slot, rows)
        flying[slot] = rows
    for slot, rows in flying.items():
        assert right(runner.wait(slot), rows)
    assert gpu.violations == []
    assert gpu.calls["launch"] - captured == (40 if way["use_graphs"] else 0)
    facts = runner.facts()
    assert facts["batches"] == form
    assert (facts["graphs"] > 0) == way["use_graphs"]
    assert (facts["timing"] is not None) == (way["timing"] and not way["run_infer_on_copy_streams"])
    runner.close()
    assert gpu.closed


@pytest.mark.parametrize("form", FORMS)
def test_slots_of_two_gpus_work_side_by_side_from_their_own_threads(form: str) -> None:
    gpus = FakeGpu(0), FakeGpu(1)
    runner = runner_on(form, *gpus, inference_streams=2)
    runner.stage(SAMPLES, LENGTHS)
    wrong: list[Any] = []

    def work(slot: int) -> None:
        rng = np.random.default_rng(slot)
        for _ in range(15):
            rows = rng.integers(0, COUNT, 5).tolist()
            runner.submit(slot, rows)
            if not right(runner.wait(slot), rows):
                wrong.append((slot, rows))

    threads = [threading.Thread(target=work, args=(slot,)) for slot in range(runner.slots)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert [gpu.calls["enqueue"] for gpu in gpus] == [30, 30]
    assert gpus[0].violations == gpus[1].violations == []


def test_a_batch_that_no_graph_has_room_for_runs_without_one() -> None:
    gpu = FakeGpu()
    runner = runner_on("packed", gpu, use_graphs=True, copy_streams=1, max_batch=1, graphs_longest=20)
    runner.stage(SAMPLES, LENGTHS)
    assert runner.facts()["graphs"] == 5
    for row in range(COUNT):
        runner.submit(0, [row])
        assert right(runner.wait(0), [row])
    assert gpu.calls["launch"] == int((LENGTHS <= 20).sum())


def test_a_sample_alone_is_one_launch() -> None:
    gpu = FakeGpu()
    runner = runner_on("packed", gpu, use_graphs=True, copy_streams=1, max_batch=1)
    runner.stage(SAMPLES, LENGTHS)
    before = sum(gpu.calls.values())
    runner.submit(0, [4])
    assert sum(gpu.calls.values()) - before == 2  # launch and record
    assert right(runner.wait(0), [4])


def test_shapes_are_only_told_when_they_change() -> None:
    gpu = FakeGpu()
    runner = runner_on("packed", gpu, copy_streams=1)
    runner.stage(SAMPLES, LENGTHS)
    context = runner._slots[0]._context
    assert isinstance(context, FakeLengthContext)
    for rows in ([0, 1], [1, 0], [2, 3, 4]):
        runner.submit(0, rows)
        runner.wait(0)
    assert context.shaped == 2


def test_samples_are_staged_again_in_other_numbers() -> None:
    runner = runner_on("packed", FakeGpu(), use_graphs=True)
    for chosen in ([5, 9], list(range(30)), [7]):
        runner.stage({name: array[chosen] for name, array in SAMPLES.items()}, LENGTHS[chosen])
        last = len(chosen) - 1
        runner.submit(0, [last, 0])
        assert right(runner.wait(0), [chosen[last], chosen[0]])


def test_graphs_are_bounded_and_cover_what_they_are_for() -> None:
    packed, padded = Packed(("input_ids",), 384), Padded(("input_ids",), 384)
    assert packed.graphs(1, 384, 256) == [Extent(n, 1, n) for n in range(4, 385, 4)]
    for form, most in itertools.product((packed, padded), (8, 64, 256)):
        for largest, longest in ((1, 384), (8, 384), (16, 200), (24, 240), (128, 384)):
            extents = form.graphs(largest, longest, most)
            assert len(extents) <= max(most, len(bin(largest)))
            assert extents == sorted(extents)
            assert all(extent.samples <= largest and extent.longest <= 384 for extent in extents)
            whole = Extent(largest * longest, largest, longest)
            assert any(extent.covers(whole) for extent in extents)
    singles = [extent for extent in packed.graphs(8, 384, 256) if extent.samples == 1]
    assert singles == packed.graphs(1, 384, 128)


@pytest.fixture
def failing() -> Iterator[list[FakeGpu]]:
    gpus: list[FakeGpu] = []
    yield gpus
    for gpu in gpus:
        gpu.close()


@pytest.mark.parametrize(
    ("what", "graphs"), [*((what, False) for what in ("copy", "enqueue", "record", "run")), ("launch", True)]
)
def test_a_failure_in_mid_run_names_the_batch(failing: list[FakeGpu], what: str, graphs: bool) -> None:
    gpu = FakeGpu(fail_at={what: 5})
    failing.append(gpu)
    runner = runner_on("packed", gpu, use_graphs=False)
    if graphs:
        runner = runner_on("packed", gpu, use_graphs=True, max_batch=2)
    runner.stage(SAMPLES, LENGTHS)

    def work() -> None:
        for number in range(12):
            runner.submit(0, [number, 0])
            assert right(runner.wait(0), [number, 0])

    with pytest.raises(
        HarnessError, match=rf"Batch \d+ \(2 samples\) on slot 0 of GPU 0 did not (start|finish).*{what}"
    ):
        work()


def test_what_does_not_fit_is_refused_before_the_test() -> None:
    with pytest.raises(ConfigError, match=r"2 slots of 8 samples.*smaller --batch-size"):
        runner_on("packed", FakeGpu(memory=4000))


@pytest.mark.parametrize(
    ("inputs", "lengths", "says"),
    [
        (SAMPLES, None, "come without lengths"),
        ({"input_ids": SAMPLES["input_ids"]}, LENGTHS, "lack the engine's input 'segment_ids'"),
        ({**SAMPLES, "segment_ids": SAMPLES["segment_ids"].astype(np.int64)}, LENGTHS, "samples are int64"),
        ({**SAMPLES, "segment_ids": SAMPLES["segment_ids"][:3]}, LENGTHS, r"takes int32 \[60, length\]"),
        (SAMPLES, np.where(np.arange(COUNT) == 3, 0, LENGTHS), "have 0 to 39 tokens"),
        (SAMPLES, np.where(np.arange(COUNT) == 3, 41, LENGTHS), "1 to 41 tokens.*takes 1 to 40"),
    ],
)
def test_samples_of_another_form_are_refused(inputs: dict[str, Any], lengths: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        runner_on("packed", FakeGpu()).stage(inputs, lengths)
