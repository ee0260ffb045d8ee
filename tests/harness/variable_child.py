"""A LoadGen accuracy test of ONNX Runtime on samples of different lengths: variable_child.py FOLDER SCENARIO."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlperf_loadgen as lg
import numpy as np

from nvkit.benchmarks.base import SampleSet
from nvkit.config import Settings
from nvkit.engine import backend
from nvkit.engine.base import Network, Ragged
from nvkit.harness.qsl import QuerySampleLibrary
from nvkit.harness.settings import log_settings, test_settings
from nvkit.harness.sut import sut_for
from nvkit.harness.warmup import warm_up

COUNT = 61
BATCH = 4


def main(folder: Path, scenario: str) -> None:
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from variable_net import variable_net, variable_samples

    inputs, lengths = variable_samples(COUNT)
    for name, array in {**inputs, "lengths": lengths}.items():
        np.save(folder / f"{name}.npy", array)
    settings = Settings(
        precision="fp32",
        batch_size=BATCH,
        slots=2,
        threads=1,
        offline_expected_qps=100,
        server_target_qps=2000,
        single_stream_expected_latency_ns=1_000_000,
    )
    chosen, network = backend("onnxruntime"), variable_net(folder / "net.onnx")
    chosen.build(Network(network, None, None, "out", variable=True), settings, folder)
    runner = chosen.load(folder, settings)
    samples = SampleSet({n: folder / f"{n}.npy" for n in inputs}, COUNT, "x", lengths=folder / "lengths.npy")
    warmed = warm_up(runner, samples, 0.0)
    library = QuerySampleLibrary(samples, runner, COUNT)  # one query in Offline
    batches: list[list[int]] = []

    def encode(outputs: Any, indices: Sequence[int]) -> Ragged:
        assert isinstance(outputs, Ragged)
        batches.append(list(indices))
        return outputs

    sut = sut_for(scenario, runner, encode, library, settings, lambda error: sys.exit(str(error)))
    sut.start()
    handle, qsl = lg.ConstructFastSUT(sut.issue, sut.flush), library.construct()
    test = test_settings(settings, scenario, "accuracy", COUNT)
    lg.StartTestWithLogSettings(handle, qsl, test, log_settings(folder, trace=False), str(folder / "audit.config"))
    sut.stop()
    lg.DestroyQSL(qsl)
    lg.DestroySUT(handle)
    print(json.dumps({"batches": batches, "warmed": warmed.batches}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
