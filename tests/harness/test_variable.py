"""Samples of different lengths: order, responses of different sizes, warm-up."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from variable_net import expected, variable_samples

from nvkit.benchmarks.base import SampleSet
from nvkit.config import Settings
from nvkit.engine.base import Array, Ragged
from nvkit.errors import ConfigError
from nvkit.harness.responder import Responder
from nvkit.harness.sut import InlineSut, longest_first, sut_for
from nvkit.harness.warmup import warm_up
from nvkit.results.raw_log import read_accuracy

CHILD = Path(__file__).with_name("variable_child.py")
LENGTHS = np.array([5, 2, 9, 2, 7, 9, 1, 3], np.int32)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[int, int, bytes]]]:
    """Return what is reported: of each response the identity of its object, its sample's id and its bytes."""
    import mlperf_loadgen as lg

    made: list[list[tuple[int, int, bytes]]] = []

    def complete(responses: Sequence[Any]) -> None:
        made.append([(id(r), r.id, ctypes.string_at(r.data, r.size)) for r in responses])

    monkeypatch.setattr(lg, "QuerySamplesComplete", complete)
    monkeypatch.setattr(lg, "QuerySampleResponse", lambda i, data, size: SimpleNamespace(id=i, data=data, size=size))
    return made


def ragged(lengths: Sequence[int], first: int = 0) -> Ragged:
    values = np.arange(first, first + 2 * sum(lengths), dtype="<f4").reshape(-1, 2)
    return Ragged(values, np.array(lengths, np.int32))


def test_responses_of_different_sizes_are_the_bytes_of_their_rows(calls: list[Any]) -> None:
    responder = Responder(lambda outputs, indices: outputs, 3)
    for ids, lengths in (([7, 8, 9], [2, 1, 4]), ([10, 11], [3, 0])):
        given = ragged(lengths, first=ids[0])
        responder.complete(ids, ids, given)
        assert [(sample, data) for _, sample, data in calls[-1]] == [
            (sample, row.tobytes()) for sample, row in zip(ids, given.rows(), strict=True)
        ]
    assert len({made for call in calls for made, _, _ in call}) == 3


@pytest.mark.parametrize(
    ("values", "lengths", "error"),
    [
        (np.zeros((4, 2)), [2, 3], "80 bytes, the encoded array has 64"),
        (np.zeros((2, 4)).T, [2, 2], "contiguous"),
        (np.zeros((4, 2)), [4], "shorter|longer"),
    ],
)
def test_rows_that_are_not_the_samples_are_an_error(
    calls: list[Any], values: Array, lengths: list[int], error: str
) -> None:
    responder = Responder(lambda outputs, indices: outputs, 4)
    with pytest.raises(ValueError, match=error):
        responder.complete([1, 2], [1, 2], Ragged(values, np.array(lengths)))
    assert calls == []


def test_a_query_is_put_in_order_of_length_and_ids_stay_with_their_samples() -> None:
    ids, indices = longest_first([10, 11, 12, 13, 14, 15], [0, 1, 2, 3, 5, 7], LENGTHS)
    assert indices == [2, 5, 0, 7, 1, 3]
    assert ids == [12, 14, 10, 15, 11, 13]
    assert longest_first([1], [6], LENGTHS) == ([1], [6])


def test_inline_runs_the_longest_samples_of_a_query_together(calls: list[Any]) -> None:
    batches: list[list[int]] = []

    class Runner:
        slots, max_batch = 1, 4

        def submit(self, slot: int, rows: Sequence[int]) -> None:
            self.rows = list(rows)

        def wait(self, slot: int) -> Array:
            return np.array(self.rows).reshape(-1, 1)

    def encode(outputs: Any, indices: Sequence[int]) -> Array:
        batches.append(list(indices))
        return np.asarray(outputs, "<i4")

    sut = InlineSut(Runner(), encode, [100 + i for i in range(8)], pytest.fail, LENGTHS)  # type: ignore[arg-type]
    sut.issue([*range(50, 58)], [*range(8)])
    assert batches == [[2, 5, 4, 0], [7, 1, 3, 6]]
    for batch, call in zip(batches, calls, strict=True):
        assert [(sample, int.from_bytes(data, "little")) for _, sample, data in call] == [
            (50 + index, 100 + index) for index in batch
        ]


def test_soft_drop_needs_lengths() -> None:
    library: Any = SimpleNamespace(row_of=[0], lengths=None)
    runner: Any = SimpleNamespace(slots=1, max_batch=1)
    with pytest.raises(ConfigError, match="all samples have one length"):
        sut_for("Server", runner, pytest.fail, library, Settings(soft_drop=0.99), pytest.fail)


class Clocked:
    """Its clock goes on by one for each token of a batch that it has run."""

    max_batch = 4

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.now = 0.0
        self.tokens: list[list[int]] = [[] for _ in range(slots)]

    def stage(self, inputs: Any, lengths: Array | None = None) -> None:
        assert lengths is not None
        assert lengths.tolist() == inputs["ids"][:, 0].tolist()
        self.lengths = lengths

    def submit(self, slot: int, rows: Sequence[int]) -> None:
        self.tokens[slot].append(int(self.lengths[list(rows)].sum()))

    def wait(self, slot: int) -> None:
        self.now += self.tokens[slot][-1]


def lengths_alone(folder: Path, count: int) -> SampleSet:
    """Return samples of every length from `count` down to 1, each holding its length."""
    lengths = np.arange(count, 0, -1, dtype=np.int32)
    np.save(folder / "ids.npy", lengths[:, None])
    np.save(folder / "lengths.npy", lengths)
    return SampleSet({"ids": folder / "ids.npy"}, count, "x", lengths=folder / "lengths.npy")


def test_the_warm_up_runs_batches_of_all_lengths_on_every_slot(tmp_path: Path) -> None:
    runner: Any = Clocked(slots=2)
    warm_up(runner, lengths_alone(tmp_path, 100), 0.0)
    middles = [10.5, 30.5, 50.5, 70.5, 90.5]  # of each fifth, from the shortest
    assert runner.tokens == 2 * [[4 * middle for middle in [*middles, middles[0]]]]


def test_the_warm_up_tells_the_mean_over_lengths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner: Any = Clocked(slots=1)
    monkeypatch.setattr("nvkit.harness.warmup.time", SimpleNamespace(perf_counter=lambda: runner.now))
    warmed = warm_up(runner, lengths_alone(tmp_path, 100), 5000.0)
    assert (warmed.batch, warmed.batch_s) == (4, 4 * 50.5)
    assert warmed.batches == len(runner.tokens[0]) > 20


def test_a_set_smaller_than_a_batch_is_warmed_up_with(tmp_path: Path) -> None:
    runner: Any = Clocked(slots=1)
    assert warm_up(runner, lengths_alone(tmp_path, 3), 0.0).batch == 3
    assert runner.tokens == [6 * [6]]


@pytest.mark.parametrize("scenario", ["Offline", "Server", "SingleStream"])
def test_loadgen_gets_every_samples_own_bytes(tmp_path: Path, scenario: str) -> None:
    """Through real LoadGen and ONNX Runtime: each response is its sample's rows, of the length its batch was cut to."""
    command = [sys.executable, str(CHILD), str(tmp_path), scenario]
    done = subprocess.run(command, check=True, timeout=60, capture_output=True, text=True)
    inputs, lengths = variable_samples(61)
    said = json.loads(done.stdout)
    batches = said["batches"]
    assert said["warmed"] == 12
    answers = read_accuracy(tmp_path)
    assert sorted(answers) == list(range(61))
    for batch in batches:
        padded = max(lengths[batch])
        for index in batch:
            assert answers[index] == expected(inputs["ids"][index], lengths[index], padded).tobytes()
    if scenario == "Offline":
        longest = sorted((max(lengths[batch]) for batch in batches), reverse=True)
        assert longest == sorted(lengths, reverse=True)[::4]
