from __future__ import annotations

import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from quantize.nets import CLASSES, images, outputs, residual_net

from nvkit.engine.base import Network, infer
from nvkit.engine.onnxruntime import OnnxRuntimeBackend
from nvkit.errors import ConfigError, DataError, EngineBuildError, ModelError
from nvkit.quantize import collect, quantize

BACKEND = OnnxRuntimeBackend()


def settings(**changes: Any) -> SimpleNamespace:
    return SimpleNamespace(**{"precision": "fp32", "batch_size": 4, "threads": 1, "slots": 1, **changes})


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    folder = tmp_path_factory.mktemp("net")
    net = residual_net(folder / "net.onnx")
    ranges = collect(net, [{"input:0": images(32)}], "max", total=32)
    ranges.save(folder / "ranges.json")
    quantize(net, ranges, folder / "qdq.onnx")
    return Network(net, folder / "ranges.json", folder / "qdq.onnx", "logits")


@pytest.fixture
def engine(network: Network, tmp_path: Path) -> Path:
    BACKEND.build(network, settings(), tmp_path)
    return tmp_path


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize(("threads", "slots"), [(1, 1), (2, 2), (None, 2)])
def test_an_engine_answers_as_the_network_does(
    network: Network, tmp_path: Path, precision: str, threads: int | None, slots: int
) -> None:
    chosen = settings(precision=precision, threads=threads, slots=slots)
    report = BACKEND.build(network, chosen, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["engine.json", "engine.onnx"]
    assert report.layers["QLinearConv" if precision == "int8" else "Conv"] == 4
    assert "ArgMax" not in report.layers  # the response needs the logits only
    runner = BACKEND.load(tmp_path, chosen)
    assert (runner.slots, runner.max_batch) == (slots, 4)
    samples = images(10)
    source = network.quantized if precision == "int8" else network.model
    np.testing.assert_allclose(infer(runner, {"input:0": samples}), outputs(source, samples), atol=1e-4)
    runner.close()


def test_rows_in_any_order_give_their_samples(engine: Path, network: Network) -> None:
    runner = BACKEND.load(engine, settings())
    samples = images(9)
    expected = outputs(network.model, samples)
    runner.stage({"input:0": samples})
    for rows in ([5, 6, 7], [3], [7, 2, 2, 0], range(8, 4, -1), np.array([0, 2, 1, 3]), np.array([4, 5]), [0, 1, 1, 3]):
        runner.submit(0, rows)
        assert np.allclose(runner.wait(0), expected[list(rows)], atol=1e-5), rows


def test_consecutive_rows_are_a_view_and_others_reuse_one_buffer(engine: Path) -> None:
    runner = BACKEND.load(engine, settings(slots=2))
    samples = images(9)
    runner.stage({"input:0": samples})

    def input_of(slot: int, rows: Any) -> np.ndarray:
        runner.submit(slot, rows)
        return runner._feeds[slot]["input:0"]

    for rows in ([5, 6, 7], range(2, 6), np.arange(3), [4]):
        assert np.shares_memory(input_of(0, rows), samples)
    gathered = input_of(0, [4, 1])
    assert not np.shares_memory(gathered, samples)
    assert np.shares_memory(gathered, input_of(0, [7, 3, 5]))
    assert not np.shares_memory(gathered, input_of(1, [4, 1]))


def test_slots_run_side_by_side(engine: Path, network: Network) -> None:
    runner = BACKEND.load(engine, settings(slots=3))
    samples = images(60)
    expected = outputs(network.model, samples)
    runner.stage({"input:0": samples})
    wrong: list[int] = []

    def work(slot: int) -> None:
        rng = np.random.default_rng(slot)
        for _ in range(50):
            rows = rng.integers(0, 60, 4).tolist()
            runner.submit(slot, rows)
            if not np.allclose(runner.wait(slot), expected[rows], atol=1e-4):
                wrong.append(slot)

    threads = [threading.Thread(target=work, args=(slot,)) for slot in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_identity_holds_what_an_engine_depends_on() -> None:
    import onnxruntime

    found = BACKEND.identity(settings())
    assert found["onnxruntime"] == onnxruntime.__version__
    assert found["cpu"]
    assert len(found["cpu_flags"]) == 16
    assert found == BACKEND.identity(settings(batch_size=64, threads=8, slots=2))
    assert found != BACKEND.identity(settings(precision="int8"))


@pytest.mark.parametrize("precision", ["fp16", "fp8", "int4"])
def test_precisions_of_gpus_are_refused(network: Network, tmp_path: Path, precision: str) -> None:
    with pytest.raises(ConfigError, match=f"no precision '{precision}'.*fp32, int8"):
        BACKEND.build(network, settings(precision=precision), tmp_path)


def test_what_cannot_be_built_is_explained(network: Network, tmp_path: Path) -> None:
    with pytest.raises(EngineBuildError, match="no quantised network"):
        BACKEND.build(Network(network.model, None, None, "logits"), settings(precision="int8"), tmp_path)
    with pytest.raises(ModelError, match="no output 'softmax'"):
        BACKEND.build(Network(network.model, None, None, "softmax"), settings(), tmp_path)
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(network.model.read_bytes()[:3000])
    with pytest.raises(ModelError, match=r"cut.onnx \(3,000 bytes\)"):
        BACKEND.build(Network(cut, None, None, "logits"), settings(), tmp_path)
    model = onnx.load(str(network.model))
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, str(cut))
    with pytest.raises(EngineBuildError, match=r"cannot build .*cut.onnx.*NoSuchOperator"):
        BACKEND.build(Network(cut, None, None, "logits"), settings(), tmp_path)


def test_damaged_and_foreign_engines_are_refused(engine: Path) -> None:
    card = json.loads((engine / "engine.json").read_text())
    whole = (engine / "engine.onnx").read_bytes()
    (engine / "engine.onnx").write_bytes(whole[:5000])
    with pytest.raises(EngineBuildError, match=r"engine.onnx \(5,000 bytes\).*build stage again"):
        BACKEND.load(engine, settings())
    (engine / "engine.onnx").write_bytes(b"\0" * len(whole))
    with pytest.raises(EngineBuildError, match="cannot be used"):
        BACKEND.load(engine, settings())
    (engine / "engine.onnx").write_bytes(whole)
    (engine / "engine.json").write_text(json.dumps({**card, "cpu": "Another CPU"}))
    with pytest.raises(EngineBuildError, match="built with cpu Another CPU"):
        BACKEND.load(engine, settings())
    (engine / "engine.json").unlink()
    with pytest.raises(EngineBuildError, match=r"engine.json cannot be read"):
        BACKEND.load(engine, settings())


def test_samples_that_do_not_fit_are_explained(engine: Path) -> None:
    runner = BACKEND.load(engine, settings())
    with pytest.raises(DataError, match=r"lack the network's input 'input:0'. Did you mean 'input_0'"):
        runner.stage({"input_0": images(1)})
    with pytest.raises(DataError, match=r"takes float .*samples are int8"):
        runner.stage({"input:0": images(1).astype(np.int8)})
    with pytest.raises(DataError, match=r"samples are float \[1, 3, 8, 16\]"):
        runner.stage({"input:0": images(1)[:, :, :8]})


@pytest.mark.parametrize("change", [{"slots": -1}, {"batch_size": 0}, {"threads": -1}])
def test_impossible_settings_are_refused(engine: Path, change: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        BACKEND.load(engine, settings(**change))


def test_a_fixed_batch_size_is_respected(network: Network, tmp_path: Path) -> None:
    model = onnx.load(str(network.model))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    for value in model.graph.output:
        value.type.tensor_type.shape.dim[0].dim_value = 2
    onnx.save(model, str(tmp_path / "fixed.onnx"))
    BACKEND.build(Network(tmp_path / "fixed.onnx", None, None, "logits"), settings(), tmp_path)
    with pytest.raises(ConfigError, match="fixed batch size 2"):
        BACKEND.load(tmp_path, settings())
    assert infer(BACKEND.load(tmp_path, settings(batch_size=2)), {"input:0": images(2)}).shape == (2, CLASSES)
