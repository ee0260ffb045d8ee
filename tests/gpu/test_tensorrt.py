"""Backend tensorrt on a real GPU: `make test-gpu`. The default suite leaves these out."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small import SMALL

import nvkit
from nvkit.config import RunConfig
from nvkit.engine import backend
from nvkit.engine.base import infer
from nvkit.engine.tensorrt.layers import WEIGHTED
from nvkit.errors import BackendUnavailableError, ConfigError, EngineBuildError, HarnessError
from nvkit.harness import TestSpec, run_test
from nvkit.runs import RunFolder

pytestmark = pytest.mark.gpu
TESTS = {**SMALL, "batch_size": 8, "gpu_copy_streams": 2, "builder_optimization_level": 1, "generated_images": 64}


@pytest.fixture(scope="module")
def config() -> RunConfig:
    # The true width: TensorRT and its plugins have no kernels for the narrow network of the other tests.
    values = {**TESTS, "synthetic_width": 1.0, "min_duration": 1000, "offline_expected_qps": 60_000}
    return nvkit.configure("auto", "resnet50", "Offline,Server", overrides={**values, "server_target_qps": 500})


@pytest.fixture(scope="module")
def run(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = nvkit.open_run(config, tmp_path_factory.mktemp("outputs"))
    nvkit.stages.build(config, folder)
    return folder


@pytest.fixture
def engine(config: RunConfig, run: RunFolder, tmp_path: Path) -> Path:
    """A copy of the Offline engine, which a test may damage."""
    source = nvkit.stages.build(config, run).engines["Offline"].path
    for file in source.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def spec(config: RunConfig, run: RunFolder, **values: Any) -> TestSpec:
    settings = config.scenarios["Offline"].model_copy(update=values)
    built, samples = nvkit.stages.build(config, run), nvkit.stages.preprocess(config, run)
    return TestSpec(config.package, "Offline", "performance", settings, built.engines["Offline"].path, samples.samples)


def test_the_engine_passes_its_self_check_and_int8_is_used(config: RunConfig, run: RunFolder) -> None:
    built = nvkit.stages.build(config, run)
    engine = built.engines["Offline"]
    share = built.agreement[engine.digest]
    assert share is not None
    assert share > 0.5
    assert engine.precision == "int8"
    said = json.loads((engine.path / "layers.json").read_text())
    weighted = [layer for layer in said["layers"] if WEIGHTED.search(layer["type"])]
    assert len(weighted) > 20
    assert {layer["precision"] for layer in weighted} == {"int8"}
    assert "chw32" in {layer["format"] for layer in weighted}


WAYS = [
    {},
    {"start_from_device": True},
    {"use_graphs": True},
    {"use_graphs": True, "start_from_device": True, "gpu_inference_streams": 2},
    {"run_infer_on_copy_streams": True, "use_graphs": True},
    {"gpu_copy_streams": 1},  # one batch in flight is polled
    {"gpu_copy_streams": 1, "use_graphs": True, "start_from_device": True},
    {"gpu_copy_streams": 4, "use_graphs": True},  # all on one optimisation profile
]


def test_every_way_to_run_gives_the_same_responses(config: RunConfig, run: RunFolder) -> None:
    samples = nvkit.stages.preprocess(config, run).samples
    engine = nvkit.stages.build(config, run).engines["Offline"].path
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, samples.count, rng.integers(1, 9)).tolist() for _ in range(40)]
    answers = []
    for way in WAYS:
        usual = {"use_graphs": False, "start_from_device": False, "run_infer_on_copy_streams": False}
        settings = config.scenarios["Offline"].model_copy(update={**usual, "gpu_inference_streams": 1, **way})
        runner = backend("tensorrt").load(engine, settings)
        whole = infer(runner, samples.load(range(samples.count))).reshape(-1)
        for number, wanted in enumerate(rows):
            slot = number % runner.slots
            runner.submit(slot, wanted)
            assert runner.wait(slot).reshape(-1).tolist() == whole[wanted].tolist(), way
        answers.append(whole)
        runner.close()
    assert all((answer == answers[0]).all() for answer in answers)
    assert len(set(answers[0].tolist())) > 3


def test_offline_and_server_are_valid_and_leave_telemetry(config: RunConfig, run: RunFolder) -> None:
    result = nvkit.stages.run(config, run)
    assert [test.summary.verdict.valid for test in result.tests] == [True] * 4
    accuracies = {test.summary.accuracy["value"] for test in result.tests if test.summary.accuracy}
    assert len(accuracies) == 1  # the same engine, the same samples, whatever the batches
    first = result.tests[0]
    assert first.telemetry is not None
    assert first.telemetry.power_w > 0


@pytest.mark.parametrize(
    ("damage", "error", "says"),
    [
        ("truncated", EngineBuildError, "bytes"),
        ("gpu", BackendUnavailableError, "for compute capability 7.5"),
        ("version", EngineBuildError, "7.0.0"),
    ],
)
def test_a_wrong_engine_is_refused(
    config: RunConfig, engine: Path, damage: str, error: type[Exception], says: str
) -> None:
    card = json.loads((engine / "engine.json").read_text())
    if damage == "truncated":
        plan = engine / card["plan"]
        plan.write_bytes(plan.read_bytes()[:-1000])
    else:
        card |= {"gpu": "NVIDIA T4", "compute_capability": "7.5"} if damage == "gpu" else {"version": "7.0.0"}
        (engine / "engine.json").write_text(json.dumps(card))
    with pytest.raises(error, match=says):
        backend("tensorrt").load(engine, config.scenarios["Offline"])


def test_samples_that_do_not_fit_are_refused(config: RunConfig, run: RunFolder) -> None:
    settings = config.scenarios["Offline"].model_copy(update={"start_from_device": True})
    runner = backend("tensorrt").load(nvkit.stages.build(config, run).engines["Offline"].path, settings)
    name = next(iter(nvkit.stages.preprocess(config, run).samples.arrays))
    huge = np.broadcast_to(np.zeros((1, 3, 224, 224), np.int8), (2_000_000, 3, 224, 224))
    with pytest.raises(ConfigError, match="do not fit"):
        runner.stage({name: huge})
    runner.close()


def test_a_test_killed_in_its_middle_is_a_clear_error_and_loses_nothing(
    config: RunConfig, run: RunFolder, tmp_path: Path
) -> None:
    def kill(pid: int) -> None:
        def later() -> None:
            time.sleep(12)
            os.kill(pid, signal.SIGKILL)

        threading.Thread(target=later).start()

    with pytest.raises(HarnessError, match="killed by SIGKILL in mid-test"):
        run_test(spec(config, run, min_duration=120_000, offline_expected_qps=50_000), tmp_path / "logs", started=kill)
    assert nvkit.stages.build(config, run).reused  # the store is as it was
    assert run_test(spec(config, run), tmp_path / "again")["completed"] > 0
