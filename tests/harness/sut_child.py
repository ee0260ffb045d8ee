"""One LoadGen accuracy test of the SUT and QSL on a runner that computes 7 x - 3: sut_child.py FOLDER SCENARIO."""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import mlperf_loadgen as lg
import numpy as np

from nvkit.benchmarks.base import SampleSet
from nvkit.config import Settings
from nvkit.engine.base import Array
from nvkit.harness.qsl import QuerySampleLibrary
from nvkit.harness.settings import log_settings, test_settings
from nvkit.harness.sut import sut_for

COUNT = 50


class Runner:
    slots, max_batch = 3, 4

    def stage(self, inputs: Mapping[str, Array], lengths: Array | None = None) -> None:
        self.staged = inputs["x"]
        self.rows: dict[int, list[int]] = {}

    def submit(self, slot: int, rows: Sequence[int]) -> None:
        self.rows[slot] = list(rows)

    def wait(self, slot: int) -> Array:
        time.sleep(random.uniform(0, 0.002))
        return self.staged[self.rows[slot]]

    def close(self) -> None:
        pass


def encode(outputs: Array, indices: Sequence[int]) -> Array:
    return (7 * outputs - 3).astype("<i4")


def main(folder: Path, scenario: str) -> None:
    np.save(folder / "x.npy", np.arange(COUNT).reshape(COUNT, 1))
    runner = Runner()
    library = QuerySampleLibrary(SampleSet({"x": folder / "x.npy"}, COUNT, "x"), runner, 20)
    settings = Settings(
        deque_timeout_usec=1000,
        offline_expected_qps=100,
        server_target_qps=2000,
        single_stream_expected_latency_ns=1_000_000,
        multi_stream_expected_latency_ns=1_000_000,
    )
    sut = sut_for(scenario, runner, encode, library, settings, lambda error: sys.exit(str(error)))
    sut.start()
    handle, qsl = lg.ConstructFastSUT(sut.issue, sut.flush), library.construct()
    test = test_settings(settings, scenario, "accuracy", COUNT)
    lg.StartTestWithLogSettings(handle, qsl, test, log_settings(folder, trace=False), str(folder / "audit.config"))
    sut.stop()
    lg.DestroyQSL(qsl)
    lg.DestroySUT(handle)
    print(json.dumps({"completed": sut.completed}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
