"""The stages on a machine without a GPU: the engine is built for another one, and says so."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
from small import SMALL

import nvkit
from nvkit import stages
from nvkit.engine.tensorrt import card, device
from nvkit.engine.tensorrt.backend import TensorRtRtxBackend
from nvkit.errors import BackendUnavailableError

pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT for RTX has wheels for Linux on x86-64 only")

FOR_A_4090 = {**SMALL, "backend": "tensorrt-rtx", "compute_capability": "8.9", "input_dtype": "int8", "batch_size": 4}


def _no_gpu() -> device.Gpu:
    raise device.NoGpu("no NVIDIA driver is installed here")


@pytest.fixture
def run(small_run: nvkit.RunFolder, monkeypatch: pytest.MonkeyPatch) -> nvkit.RunFolder:
    monkeypatch.setattr(card, "gpu", _no_gpu)
    config = nvkit.configure("cpu", scenario="Offline", quick=True, overrides=FOR_A_4090)
    return nvkit.open_run(config, small_run.path.parent.parent, new=True)


def test_the_engine_of_another_machine_is_built_and_not_checked(run: nvkit.RunFolder) -> None:
    result = stages.build(run.config, run)
    (engine,) = result.engines.values()
    assert result.agreement == {engine.digest: None}
    assert "Carry the outputs folder" in result.unchecked[engine.digest]
    text = "\n".join(map(str, result.tables()))
    assert "not checked: cannot run on this machine" in text
    assert "compute capability 8.9" in text
    assert engine.report.layers["correlation int8"] >= 52
    assert stages.build(run.config, run).reused
    with pytest.raises(BackendUnavailableError, match=r"Offline cannot run on this machine.*Carry the outputs folder"):
        stages.run(run.config, run)


def test_an_engine_that_arrives_on_its_machine_is_checked_there(
    run: nvkit.RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = stages.build(run.config, run)
    monkeypatch.setattr(TensorRtRtxBackend, "cannot_run", lambda self, settings: None)
    checked = []

    def answers(engine: object, settings: object, samples: object, count: int, *_: object) -> np.ndarray:
        checked.append(engine)
        return np.arange(1, count + 1)

    monkeypatch.setattr(import_module("nvkit.stages.build"), "run_samples", answers)
    after = stages.build(run.config, run)
    assert not after.reused
    assert set(after.agreement.values()) == {1.0}
    assert after.unchecked == {}
    assert len(checked) == 2  # the reference and the engine, which is the one that was carried
    assert next(iter(after.engines.values())).path == next(iter(before.engines.values())).path


def test_int8_samples_are_made_floats_for_the_reference(run: nvkit.RunFolder) -> None:
    result = stages.calibrate(run.config, run)
    assert result.agreement is not None
    assert set(result.accuracy) == {"fp32", "int8"}
    samples = stages.preprocess(run.config, run).samples
    assert {array.dtype.name for array in samples.open().values()} == {"int8"}
