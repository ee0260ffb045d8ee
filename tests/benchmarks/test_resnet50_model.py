"""The synthetic network, the reference file, responses and score of resnet50."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from benchmarks.resnet50_settings import make_settings
from onnx import TensorProto, helper, numpy_helper

from nvkit.benchmarks.base import DataSet, Model
from nvkit.benchmarks.published import Published
from nvkit.benchmarks.resnet50 import BENCHMARK, network, reference
from nvkit.errors import ChecksumError, DataError, ModelError, SetupError
from nvkit.store import Store


def run(model: Model, batch: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    session = onnxruntime.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
    (output,) = session.run([model.output.name], {model.inputs[0].name: batch})
    return np.asarray(output)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def synthetic(store: Store) -> Model:
    return BENCHMARK.model(make_settings(synthetic_width=0.25, generated_fit_images=160), store)


def test_topology_is_resnet50() -> None:
    shape = network.topology()
    convs = [shape.stem]
    for block in shape.blocks:
        convs += [*([block.projection] if block.projection else []), *block.convs]
    assert len(convs) == 53
    assert [conv.name for conv in convs][-1] == "resnet_model/conv2d_52"
    # ResNet-50's well-known 25,557,032 parameters less batch norm (53,120) and the dense layer (2,049,000).
    assert sum(c.inputs * c.outputs * c.kernel**2 for c in convs) == 23_454_912
    strided = [c for b in shape.blocks for c in b.convs if c.stride == 2]
    assert [c.kernel for c in strided] == [3, 3, 3]  # v1.5


def test_synthetic_network_has_the_reference_interface(synthetic: Model) -> None:
    model = onnx.load(str(synthetic.path))
    onnx.checker.check_model(model)
    assert model.ir_version <= 8
    assert [value.name for value in model.graph.input] == ["input_tensor:0"]
    assert [value.name for value in model.graph.output] == ["ArgMax:0", "softmax_tensor:0"]
    assert synthetic.synthetic
    assert "synthetic weights" in synthetic.notes[0]
    session = onnxruntime.InferenceSession(str(synthetic.path), providers=["CPUExecutionProvider"])
    classes, softmax = session.run(None, {"input_tensor:0": np.zeros((3, 3, 224, 224), np.float32)})
    assert classes.shape == (3,)
    assert classes.dtype == np.int64
    assert softmax.shape == (3, 1001)
    np.testing.assert_allclose(softmax.sum(axis=1), 1, rtol=1e-5)


def test_int8_rounds_no_weight_of_the_last_layer(synthetic: Model) -> None:
    graph = onnx.load(str(synthetic.path)).graph
    kernel = next(numpy_helper.to_array(t) for t in graph.initializer if t.name == "resnet_model/dense/kernel")
    classes = kernel[:, 1:].astype(np.float64)  # the first one is the background, all zeros
    steps = classes / (np.abs(classes).max(axis=0) / 127)
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)
    assert len(np.unique(np.round(steps))) > 100


def test_synthetic_network_recognises_images_it_has_not_seen(synthetic: Model, store: Store) -> None:
    settings = make_settings(generated_images=80)
    data = BENCHMARK.dataset(settings, store)
    samples = BENCHMARK.preprocess(settings, store, data).load(range(80))["input_tensor:0"]
    responses = BENCHMARK.encode(run(synthetic, samples), range(80))
    accuracy = BENCHMARK.score({i: row.tobytes() for i, row in enumerate(responses)}, data)
    assert 15 < accuracy.value < 100  # chance is 0.1 %; the true size with more fit images does far better


def test_synthetic_network_is_the_same_each_time(tmp_path: Path, store: Store) -> None:
    settings = make_settings(generated_fit_images=32)
    first, second = BENCHMARK.model(settings, Store(tmp_path)), BENCHMARK.model(settings, store)
    assert first.path != second.path
    assert first.digest == second.digest


def classifier(path: Path, classes: int, *, argmax: bool, source: str = "input_tensor:0", batch: Any = "n") -> None:
    """Write a small network that answers with the class of its bias' maximum: 7, counted in its own numbering."""
    bias = np.zeros(classes, np.float32)
    bias[7] = 1
    nodes = [
        helper.make_node("GlobalAveragePool", [source], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["scores"], axis=1),
    ]
    outputs = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, classes])]
    if argmax:
        nodes.append(helper.make_node("ArgMax", ["logits"], ["ArgMax:0"], axis=1, keepdims=0))
        outputs.append(helper.make_tensor_value_info("ArgMax:0", TensorProto.INT64, [batch]))
    weights = [
        numpy_helper.from_array(np.zeros((3, classes), np.float32), "w"),
        numpy_helper.from_array(bias, "b"),
    ]
    inputs = [
        helper.make_tensor_value_info(source, TensorProto.FLOAT, [batch, 3, 224, 224]),
        helper.make_tensor_value_info("w", TensorProto.FLOAT, [3, classes]),  # as files of IR version 3 have it
    ]
    graph = helper.make_graph(nodes, "classifier", inputs, outputs, weights)
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))


@pytest.mark.parametrize(
    ("classes", "argmax", "source", "response"),
    [
        (1001, True, "input_tensor:0", 6),
        (1001, False, "input_tensor:0", 6),
        (1000, True, "input_tensor:0", 7),
        (1000, False, "image", 7),
        (1001, True, "image", 6),
    ],
)
def test_a_network_of_ones_own_is_adapted(
    tmp_path: Path, classes: int, argmax: bool, source: str, response: int
) -> None:
    path = tmp_path / "mine.onnx"
    classifier(path, classes, argmax=argmax, source=source)
    model = BENCHMARK.model(make_settings(model_path=path), Store(tmp_path / "store"))
    outputs = run(model, np.zeros((2, 3, 224, 224), np.float32))
    assert BENCHMARK.encode(outputs, [0, 1]).tolist() == [[response], [response]]
    assert not model.synthetic
    assert "custom model" in model.notes[0]
    assert model.inputs[0].name == "input_tensor:0"


def test_the_reference_is_told_by_its_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    path = tmp_path / "resnet50_v1.onnx"
    classifier(path, 1001, argmax=True)
    settings = make_settings(model_path=path)
    with pytest.raises(ChecksumError, match=r"MD5 .*opset 8.*opset 11"):
        BENCHMARK.model(settings, Store(tmp_path / "store"))

    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setattr(reference, "REFERENCES", (Published(path.name, "https://example.org/x", md5, "opset 11"),))
    model = BENCHMARK.model(settings, Store(tmp_path / "store"))
    assert "opset 11" in model.description
    assert model.path == path
    assert model.notes == ()


def test_files_that_are_no_networks_are_errors(tmp_path: Path, synthetic: Model) -> None:
    whole = synthetic.path.read_bytes()
    garbage, short, empty = (tmp_path / f"{name}.onnx" for name in ("garbage", "short", "empty"))
    garbage.write_bytes(b"<html>" * 100)
    short.write_bytes(whole[: len(whole) // 2])
    empty.write_bytes(b"")
    for path, message in ((garbage, "600 bytes"), (short, "cut short"), (empty, "holds no network")):
        with pytest.raises(ModelError, match=message) as caught:
            BENCHMARK.model(make_settings(model_path=path), Store(tmp_path / "store"))
        assert caught.value.fix
    with pytest.raises(ModelError, match="no model file"):
        BENCHMARK.model(make_settings(model_path=tmp_path / "gone.onnx"), Store(tmp_path / "store"))


def test_networks_of_another_use_are_errors(tmp_path: Path) -> None:
    fixed, other = tmp_path / "fixed.onnx", tmp_path / "other.onnx"
    classifier(fixed, 1001, argmax=True, batch=1)
    classifier(other, 21, argmax=True)
    with pytest.raises(ModelError, match=r"\[1, 3, 224, 224\]"):
        BENCHMARK.model(make_settings(model_path=fixed), Store(tmp_path / "store"))
    with pytest.raises(ModelError, match="1000 or 1001"):
        BENCHMARK.model(make_settings(model_path=other), Store(tmp_path / "store"))


def test_downloads_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pooch

    def arrives_changed(*args: Any, **kwargs: Any) -> str:
        raise ValueError("MD5 hash of downloaded file does not match")

    def no_network(*args: Any, **kwargs: Any) -> str:
        raise ConnectionError("name resolution failed")

    settings = make_settings(download_model=True)
    monkeypatch.setattr(pooch, "retrieve", arrives_changed)
    with pytest.raises(ChecksumError, match="2592612"):
        BENCHMARK.model(settings, Store(tmp_path))
    monkeypatch.setattr(pooch, "retrieve", no_network)
    with pytest.raises(SetupError, match=r"could not be downloaded \(ConnectionError\)") as caught:
        BENCHMARK.model(settings, Store(tmp_path))
    assert "model_path" in caught.value.fix


def test_responses_and_score() -> None:
    data = DataSet(Path(), True, ("a", "b", "c"), (864, 0, 5), (), "")
    responses = BENCHMARK.encode(np.array([865, 1, 0], np.int64), [0, 1, 2])
    assert responses.shape == (3, 1)
    assert responses[0].tobytes().hex() == "60030000"  # NVIDIA's logs hold these bytes for class 864
    accuracy = BENCHMARK.score({i: row.tobytes() for i, row in enumerate(responses)}, data)
    assert accuracy.line == "accuracy=66.667%, good=2, total=3"
    assert accuracy.details == {"good": 2.0}
    assert accuracy.value == pytest.approx(200 / 3)
    for wrong in ({}, {3: b"\0\0\0\0"}, {0: b"\0"}):
        with pytest.raises(DataError):
            BENCHMARK.score(wrong, data)


def test_the_benchmark_is_cheap_to_import() -> None:
    import subprocess

    code = (
        "import sys, nvkit.benchmarks.resnet50; "
        "assert not {'cv2', 'onnx', 'onnxruntime', 'pooch'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
