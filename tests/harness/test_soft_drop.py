from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from variable_net import variable_net, variable_samples

from nvkit.benchmarks.base import SampleSet
from nvkit.config import Settings
from nvkit.engine import backend
from nvkit.engine.base import Array, Network
from nvkit.harness import TestSpec, run_test
from nvkit.harness.soft_drop import SoftDrop, _RunningQuantile
from nvkit.harness.sut import BatchingSut
from nvkit.results.raw_log import read_trace


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99, 1.0])
def test_the_running_quantile_is_that_of_all_numbers_so_far(share: float) -> None:
    rng = np.random.default_rng(1)
    quantile, so_far = _RunningQuantile(share, 500), []
    for _ in range(50):
        # Numbers that rise first and fall later: the quantile goes both ways.
        numbers = rng.integers(0, rng.integers(1, 500), rng.integers(1, 9))
        so_far += numbers.tolist()
        quantile.add(numbers)
        above = [value for value in range(501) if sum(n <= value for n in so_far) > share * len(so_far)]
        assert quantile.value == min(above, default=500)


def policy(kept: float = 0.9, percentile: float = 0.9) -> SoftDrop:
    """Return a policy that has seen 1000 samples of one token, one in a batch; index i has i tokens."""
    made = SoftDrop(kept, percentile, np.arange(101), max_batch=4)
    for sample in range(1000):
        assert made.admit([sample], [1]) == ([sample], [1])
    return made


def test_first_samples_are_set_aside_until_the_batch_is_no_longer_than_usual() -> None:
    made = policy()
    assert made.admit([1, 2, 3], [50, 60, 1]) == ([3], [1])
    assert made.admit([4], [90]) == ([], [])
    assert made.deferred == 3
    assert made.release() == ([1, 2, 4], [50, 60, 90])
    assert made.release() == ([], [])


def test_no_more_are_set_aside_than_may_miss_the_limit() -> None:
    made = policy(percentile=0.998)  # 2 of 1000
    assert made.admit([1, 2, 3, 4], [50, 60, 70, 80]) == ([3, 4], [70, 80])
    assert made.admit([5], [90]) == ([5], [90])
    assert made.deferred == 2


def test_nothing_is_set_aside_before_there_is_a_threshold_or_with_1() -> None:
    made = SoftDrop(0.9, 0.9, np.arange(101), max_batch=4)
    for sample in range(900):
        made.admit([sample], [1])
    assert made.admit([1], [100]) == ([1], [100])
    assert policy(kept=1.0).admit([1], [100]) == ([1], [100])


def test_the_sut_answers_them_after_the_last_query(monkeypatch: pytest.MonkeyPatch) -> None:
    import mlperf_loadgen as lg

    done: list[int] = []
    monkeypatch.setattr(lg, "QuerySamplesComplete", lambda responses: done.extend(r.id for r in responses))
    monkeypatch.setattr(lg, "QuerySampleResponse", lambda i, data, size: SimpleNamespace(id=i, data=data, size=size))

    class Runner:
        slots, max_batch = 2, 4

        def __init__(self) -> None:
            self.rows: dict[int, list[int]] = {}

        def submit(self, slot: int, rows: Sequence[int]) -> None:
            self.rows[slot] = list(rows)

        def wait(self, slot: int) -> Array:
            return np.array(self.rows[slot]).reshape(-1, 1)

    def until(count: int) -> None:
        deadline = time.monotonic() + 10
        while len(done) < count:
            assert time.monotonic() < deadline
            time.sleep(0.001)

    drop = SoftDrop(0.9, 0.9, np.arange(101), max_batch=4)
    runner: Any = Runner()
    sut = BatchingSut(runner, lambda o, i: o, range(101), 0.0, pytest.fail, np.arange(101), drop)
    sut.start()
    for phase in range(2):  # as in mode "submission", where two tests follow one another
        base, before = 10_000 * phase, len(done)
        for sample in range(0, 1200, 4):
            sut.issue([*range(base + sample, base + sample + 4)], [1] * 4)
            until(before + sample + 4)
        for sample in range(5):
            sut.issue([base + 5000 + sample], [90])
        sut.issue([base + 6000], [1])
        until(before + 1201)
        assert set(done[before:]) == {base + 6000, *range(base, base + 1200)}
        assert sut.deferred == 5 * (phase + 1)
        sut.flush()
        until(before + 1206)
        assert set(done[before + 1201 :]) == set(range(base + 5000, base + 5005))
    sut.stop()


def test_loadgen_gets_every_answer(tmp_path: Path) -> None:
    """Through the measured child: LoadGen says when the last query has come, and waits for what was set aside."""
    inputs, lengths = variable_samples(50)
    for name, array in {**inputs, "lengths": lengths}.items():
        np.save(tmp_path / f"{name}.npy", array)
    settings = Settings(
        backend="null",
        batch_size=4,
        soft_drop=0.5,
        server_target_qps=3000,
        server_target_latency_percentile=0.9,
        min_duration=800,
        warmup_duration=0.0,
    )
    network = Network(variable_net(tmp_path / "net.onnx"), None, None, "out", variable=True)
    backend("null").build(network, settings, tmp_path)
    samples = SampleSet({n: tmp_path / f"{n}.npy" for n in inputs}, 50, "x", lengths=tmp_path / "lengths.npy")
    report = run_test(TestSpec("bert", "Server", "performance", settings, tmp_path, samples), tmp_path / "logs")
    assert 0.05 < report["deferred"] / report["completed"] <= 0.1
    assert len(read_trace(tmp_path / "logs").latency_ns) == report["completed"]
