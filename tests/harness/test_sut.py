from __future__ import annotations

import ctypes
import gc
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nvkit.config import Settings
from nvkit.engine.base import Array
from nvkit.harness.responder import Responder
from nvkit.harness.sut import BatchingSut, InlineSut, sut_for
from nvkit.results.loadgen_log import read_detail
from nvkit.results.raw_log import read_accuracy

CHILD = Path(__file__).with_name("sut_child.py")
ROW_OF = [100 + index for index in range(64)]
LIBRARY: Any = SimpleNamespace(row_of=ROW_OF, lengths=None)


class Runner:
    """Answers each row with its number; `gate` holds every batch back until it is set."""

    def __init__(self, slots: int = 1, max_batch: int = 4) -> None:
        self.slots, self.max_batch = slots, max_batch
        self.gate = threading.Event()
        self.gate.set()
        self.submitted: list[tuple[int, list[int]]] = []
        self.error: Exception | None = None
        self._rows: dict[int, list[int]] = {}

    def stage(self, inputs: Any) -> None:
        raise AssertionError("a SUT stages nothing")

    def submit(self, slot: int, rows: Sequence[int]) -> None:
        self.submitted.append((slot, list(rows)))
        self._rows[slot] = list(rows)

    def wait(self, slot: int) -> Array:
        assert self.gate.wait(10)
        if self.error:
            raise self.error
        return np.array(self._rows.pop(slot), np.int64)

    def close(self) -> None:
        raise AssertionError("a SUT closes nothing")


class Reports:
    """What would have reached LoadGen: the calls of QuerySamplesComplete, the memory of responses read inside."""

    def __init__(self) -> None:
        self.calls: list[list[tuple[int, bytes]]] = []
        self.objects: set[int] = set()

    def complete(self, responses: Sequence[Any]) -> None:
        self.objects |= {id(response) for response in responses}
        self.calls.append([(r.id, ctypes.string_at(r.data, r.size)) for r in responses])

    @property
    def answers(self) -> dict[int, int]:
        return {sample: int(np.frombuffer(data, "<i4")[0]) for call in self.calls for sample, data in call}


def encode(outputs: Array, indices: Sequence[int]) -> Array:
    return outputs.reshape(-1, 1).astype("<i4") * 2


def response(sample: int, data: int, size: int) -> Any:
    return SimpleNamespace(id=sample, data=data, size=size)


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> Reports:
    import mlperf_loadgen as lg

    made = Reports()
    monkeypatch.setattr(lg, "QuerySamplesComplete", made.complete)
    monkeypatch.setattr(lg, "QuerySampleResponse", response)
    return made


@pytest.fixture
def batching(reports: Reports) -> Iterator[Callable[..., BatchingSut]]:
    """Start a BatchingSut: `batching(runner, timeout_s)`; it must end without an error."""
    started: list[BatchingSut] = []
    failures: list[BaseException] = []

    def start(runner: Runner, timeout_s: float = 0.0) -> BatchingSut:
        sut = BatchingSut(runner, encode, ROW_OF, timeout_s, failures.append)
        started.append(sut)
        sut.start()
        return sut

    yield start
    for sut in started:
        sut.stop()
    assert failures == []


def test_slots_that_share_a_gpu_start_apart_in_offline(reports: Reports) -> None:
    class Timed(Runner):
        def submit(self, slot: int, rows: Sequence[int]) -> None:
            begun.setdefault(slot, time.perf_counter())
            super().submit(slot, rows)

        def wait(self, slot: int) -> Array:
            time.sleep(0.01)
            return super().wait(slot)

    def made(scenario: str, streams: int) -> BatchingSut:
        settings = Settings(gpu_inference_streams=streams)
        sut = sut_for(scenario, Timed(slots=3), encode, LIBRARY, settings, pytest.fail, batch_s=0.3)
        assert isinstance(sut, BatchingSut)
        return sut

    begun: dict[int, float] = {}
    sut = made("Offline", 2)
    sut.issue(list(range(400)), [n % 64 for n in range(400)])
    sut.start()
    until(lambda: sut.completed == 400)
    sut.stop()
    assert len(reports.answers) == 400
    first, second, third = sorted(begun.values())
    assert second - first >= 0.1
    assert third - second >= 0.1
    # On one stream they take turns by themselves, and Server's queries come when they come.
    assert [made(*other)._apart_s for other in (("Offline", 1), ("Server", 2))] == [0.0, 0.0]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_response_is_the_encoded_output_of_its_sample(reports: Reports) -> None:
    responder = Responder(encode, 4)
    responder.complete([7, 8, 9], [1, 2, 3], np.array([10, 20, 30]))
    responder.complete([11], [4], np.array([40]))
    assert reports.answers == {7: 20, 8: 40, 9: 60, 11: 80}
    assert [len(call) for call in reports.calls] == [3, 1]


def test_response_objects_are_made_once(reports: Reports) -> None:
    responder = Responder(encode, 4)
    for start in range(0, 40, 4):
        responder.complete(range(start, start + 4), range(4), np.arange(4))
    assert len(reports.objects) == 4


def test_an_output_without_a_row_for_each_sample_is_an_error(reports: Reports) -> None:
    with pytest.raises(ValueError, match="broadcast"):
        Responder(encode, 4).complete([1, 2, 3], [1, 2, 3], np.array([1, 2]))


def test_inline_runs_a_query_in_the_calling_thread(reports: Reports) -> None:
    runner = Runner(max_batch=3)
    errors: list[BaseException] = []
    sut = InlineSut(runner, encode, ROW_OF, errors.append)
    sut.issue([1, 2, 3, 4, 5, 6, 7, 8], [8, 7, 6, 5, 4, 3, 2, 1])
    assert [rows for _, rows in runner.submitted] == [[108, 107, 106], [105, 104, 103], [102, 101]]
    assert reports.answers == {sample: 2 * (109 - sample) for sample in range(1, 9)}
    assert (sut.completed, sut.batches) == (8, 3)
    assert errors == []


def test_inline_tells_of_an_error_and_does_not_raise_into_loadgen(reports: Reports) -> None:
    errors: list[BaseException] = []
    sut = InlineSut(Runner(max_batch=3), encode, ROW_OF, errors.append)
    sut.issue([1], [10**6])
    assert [type(error) for error in errors] == [IndexError]


def test_batches_are_full_while_samples_wait(reports: Reports, batching: Callable[..., BatchingSut]) -> None:
    runner = Runner(max_batch=4)
    sut = batching(runner)
    sut.issue(list(range(10)), list(range(10)))
    until(lambda: sut.completed == 10)
    assert [rows for _, rows in runner.submitted] == [[100, 101, 102, 103], [104, 105, 106, 107], [108, 109]]
    assert reports.answers == {sample: 2 * (100 + sample) for sample in range(10)}
    assert sut.batches == 3


def test_queries_that_arrive_during_a_batch_form_the_next_one(
    reports: Reports, batching: Callable[..., BatchingSut]
) -> None:
    runner = Runner(max_batch=4)
    sut = batching(runner)
    runner.gate.clear()
    sut.issue([0], [0])
    until(lambda: len(runner.submitted) == 1)
    for sample in range(1, 7):
        sut.issue([sample], [sample])
    runner.gate.set()
    until(lambda: sut.completed == 7)
    assert [len(rows) for _, rows in runner.submitted] == [1, 4, 2]
    assert len(reports.answers) == 7


def test_a_batch_waits_for_more_samples_until_it_is_full(
    reports: Reports, batching: Callable[..., BatchingSut]
) -> None:
    runner = Runner(max_batch=3)
    sut = batching(runner, timeout_s=60.0)
    sut.issue([1], [1])
    sut.issue([2], [2])
    time.sleep(0.02)
    assert runner.submitted == []
    sut.issue([3], [3])
    until(lambda: sut.completed == 3)
    assert [rows for _, rows in runner.submitted] == [[101, 102, 103]]


def test_a_batch_that_is_not_full_goes_after_the_timeout(
    reports: Reports, batching: Callable[..., BatchingSut]
) -> None:
    runner = Runner(max_batch=1000)
    sut = batching(runner, timeout_s=0.05)
    started = time.perf_counter()
    sut.issue([1], [1])
    sut.issue([2], [2])
    until(lambda: sut.completed == 2)
    assert time.perf_counter() - started >= 0.05
    assert [rows for _, rows in runner.submitted] == [[101, 102]]


def test_every_slot_has_a_batch_in_flight(reports: Reports, batching: Callable[..., BatchingSut]) -> None:
    runner = Runner(slots=3, max_batch=2)
    sut = batching(runner)
    runner.gate.clear()
    sut.issue(list(range(8)), list(range(8)))
    until(lambda: len(runner.submitted) == 3)
    assert sorted(slot for slot, _ in runner.submitted) == [0, 1, 2]
    runner.gate.set()
    until(lambda: sut.completed == 8)
    assert [rows for _, rows in runner.submitted] == [[100, 101], [102, 103], [104, 105], [106, 107]]
    assert reports.answers == {sample: 2 * (100 + sample) for sample in range(8)}


def test_a_batch_may_be_formed_of_several_queries_and_a_query_split(
    reports: Reports, batching: Callable[..., BatchingSut]
) -> None:
    runner = Runner(max_batch=4)
    sut = batching(runner, timeout_s=60.0)
    for first in (0, 3, 6, 9):
        sut.issue(list(range(first, first + 3)), list(range(first, first + 3)))
    until(lambda: sut.completed == 12)
    assert [rows[0] for _, rows in runner.submitted] == [100, 104, 108]


def test_stop_ends_waiting_threads(reports: Reports) -> None:
    before = threading.active_count()
    sut = BatchingSut(Runner(slots=4), encode, ROW_OF, 0.0, pytest.fail)
    sut.start()
    assert threading.active_count() == before + 4
    sut.stop()
    assert threading.active_count() == before


@pytest.mark.parametrize("scenario", ["Offline", "SingleStream"])
def test_the_garbage_collector_pauses_while_queries_come(reports: Reports, scenario: str) -> None:
    sut = sut_for(scenario, Runner(), encode, LIBRARY, Settings(), pytest.fail)
    sut.start()
    assert not gc.isenabled()
    sut.stop()
    assert gc.isenabled()


def test_an_exception_of_a_batch_is_handed_on(reports: Reports) -> None:
    runner = Runner()
    runner.error = RuntimeError("out of memory")
    failures: list[BaseException] = []
    sut = BatchingSut(runner, encode, ROW_OF, 0.0, failures.append)
    sut.start()
    sut.issue([1], [1])
    until(lambda: bool(failures))
    assert failures == [runner.error]
    assert reports.calls == []
    sut.stop()


def test_scenarios_have_the_sut_that_suits_them(reports: Reports) -> None:
    def kind(scenario: str) -> type:
        return type(sut_for(scenario, Runner(), encode, LIBRARY, Settings(), pytest.fail))

    assert {kind("SingleStream"), kind("MultiStream")} == {InlineSut}
    assert {kind("Offline"), kind("Server")} == {BatchingSut}


@pytest.mark.parametrize("scenario", ["Offline", "Server", "SingleStream", "MultiStream"])
def test_loadgen_gets_the_answer_of_every_sample(tmp_path: Path, scenario: str) -> None:
    """Through real LoadGen, three slots that finish out of order, batches that do not divide the queries."""
    command = [sys.executable, str(CHILD), str(tmp_path), scenario]
    done = subprocess.run(command, check=True, timeout=60, capture_output=True, text=True)
    answers = {index: int.from_bytes(data, "little", signed=True) for index, data in read_accuracy(tmp_path).items()}
    assert answers == {index: 7 * index - 3 for index in range(50)}
    assert read_detail(tmp_path).errors == ()
    assert json.loads(done.stdout)["completed"] >= 50
