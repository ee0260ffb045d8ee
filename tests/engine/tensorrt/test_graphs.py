"""The ONNX graphs that TensorRT parses: what they compute, by ONNX Runtime, and NVIDIA's fusions by structure."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from engine.tensorrt.resnet import AMAX, resnet50
from onnx import TensorProto, helper, numpy_helper
from quantize.nets import CLASSES, images, outputs, residual_net

from nvkit.engine.base import Network
from nvkit.engine.tensorrt.fusions import RES2, SMALL_TILE
from nvkit.engine.tensorrt.onnx_types import to_fp8
from nvkit.engine.tensorrt.prepare import implicit_graph, typed_graph
from nvkit.errors import ModelError
from nvkit.quantize import Ranges, collect, quantize


def asked(precision: str, input_dtype: str = "fp32") -> Any:
    return SimpleNamespace(precision=precision, input_dtype=input_dtype)


def run(model: onnx.ModelProto, samples: np.ndarray) -> np.ndarray:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (name,) = [value.name for value in session.get_outputs()]
    return session.run([name], {session.get_inputs()[0].name: samples})[0]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    folder = tmp_path_factory.mktemp("net")
    net = _centred(residual_net(folder / "net.onnx"))
    ranges = collect(net, [{"input:0": images(32)}], "max", total=32)
    ranges.save(folder / "ranges.json")
    quantize(net, ranges, folder / "qdq.onnx", scheme="int8")
    return Network(net, folder / "ranges.json", folder / "qdq.onnx", "ArgMax:0", background=1)


def _centred(path: Path) -> Path:
    """Take the mean off the scores, so that every class is the best of some images."""
    model = onnx.load(str(path))
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "fc_b")
    shifted = numpy_helper.to_array(bias) - outputs(path, images(200)).mean(axis=0)
    bias.CopyFrom(numpy_helper.from_array(shifted, "fc_b"))
    onnx.save(model, str(path))
    assert set(outputs(path, images(200)).argmax(axis=1)) == set(range(CLASSES))
    return path


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return resnet50(tmp_path_factory.mktemp("full"))


def best(network: Path, samples: np.ndarray, first: int = 1) -> np.ndarray:
    """Return the best class of the network, of those from `first` on."""
    return first + outputs(network, samples)[:, first:].argmax(axis=1)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_class_comes_from_the_graph_without_the_background(network: Network, precision: str) -> None:
    samples = images(200)
    graph = implicit_graph(network, asked(precision), ())
    found = run(graph.model, samples)
    assert found.dtype == np.int32
    assert graph.tail.offset == 1
    assert (found.reshape(-1) + 1 == best(network.model, samples)).all()
    operators = Counter(node.op_type for node in graph.model.graph.node)
    assert operators["Conv"] == (5 if precision == "int8" else 4)
    assert operators["AveragePool"] == (1 if precision == "int8" else 0)
    assert "ReduceMean" not in operators or precision == "fp32"
    assert {entry.domain for entry in graph.model.opset_import} <= {"", "ai.onnx"}


def test_without_a_background_every_class_stays(network: Network) -> None:
    samples = images(50)
    graph = implicit_graph(replace(network, background=0), asked("fp32"), ())
    assert graph.tail.offset == 0
    assert (run(graph.model, samples) == best(network.model, samples, first=0)).all()


def test_an_addition_behind_the_class_becomes_part_of_the_offset(network: Network, tmp_path: Path) -> None:
    model = onnx.load(str(network.model))
    model.graph.initializer.append(numpy_helper.from_array(np.array(1, np.int64), "one"))
    model.graph.node.append(helper.make_node("Add", ["ArgMax:0", "one"], ["class"], name="shift"))
    model.graph.output.append(helper.make_tensor_value_info("class", TensorProto.INT64, None))
    onnx.save(model, str(tmp_path / "shifted.onnx"))
    graph = implicit_graph(Network(tmp_path / "shifted.onnx", None, None, "class"), asked("fp32"), ())
    assert graph.tail.offset == 1
    assert (run(graph.model, images(20)) == best(network.model, images(20), first=0)).all()


def test_an_output_that_is_no_class_stays(network: Network) -> None:
    graph = implicit_graph(replace(network, output="logits"), asked("fp32"), ())
    assert (graph.tail.logits, graph.tail.offset) == (None, 0)
    np.testing.assert_allclose(run(graph.model, images(3)), outputs(network.model, images(3)), rtol=1e-4)


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp16", "fp16"), ("fp16", "fp32"), ("fp16", "int8"), ("int8", "fp32")]
)
def test_typed_graphs_answer_as_their_network(network: Network, precision: str, dtype: str) -> None:
    graph = typed_graph(replace(network, input_scale=0.02), asked(precision, dtype))
    whole = np.clip(np.round(images(200) / 0.02), -128, 127)
    samples = {"int8": whole.astype(np.int8), "fp16": (whole * 0.02).astype(np.float16)}
    found = run(graph.model, samples.get(dtype, (whole * 0.02).astype(np.float32)))
    source = network.quantized if precision == "int8" else network.model
    assert source is not None
    expected = best(source, (whole * 0.02).astype(np.float32))
    assert found.dtype == np.int32
    assert (found + graph.tail.offset == expected).mean() > 0.97
    onnx.checker.check_model(graph.model)
    floats = {t.data_type for t in graph.model.graph.initializer if t.dims and np.prod(t.dims) > CLASSES}
    assert TensorProto.FLOAT not in floats or precision != "fp16"


def test_int8_samples_enter_a_quantised_graph_as_they_are(network: Network) -> None:
    graph = typed_graph(replace(network, input_scale=0.02), asked("int8", "int8"))
    (value,) = graph.model.graph.input
    assert value.type.tensor_type.elem_type == TensorProto.INT8
    readers = [node for node in graph.model.graph.node if value.name in node.input]
    assert [node.op_type for node in readers] == ["DequantizeLinear"]
    (conv,) = [node for node in graph.model.graph.node if readers[0].output[0] in node.input]
    assert conv.op_type == "Conv"
    scales = {t.name: numpy_helper.to_array(t) for t in graph.model.graph.initializer}
    assert scales[readers[0].input[1]] == np.float32(0.02)


def test_fp8_takes_the_ranges_of_int8(network: Network) -> None:
    plain = typed_graph(network, asked("int8")).model
    changed = typed_graph(network, asked("fp8")).model
    before, after = ({t.name: t for t in m.graph.initializer} for m in (plain, changed))
    pairs = [node for node in changed.graph.node if node.op_type == "QuantizeLinear"]
    assert len(pairs) >= 9
    for node in pairs:
        assert after[node.input[2]].data_type == TensorProto.FLOAT8E4M3FN
        scales = (numpy_helper.to_array(tensors[node.input[1]]) for tensors in (after, before))
        new, old = scales
        np.testing.assert_allclose(new * 448, old * 127, rtol=1e-5)
    with pytest.raises(ModelError, match="not the zero point of symmetric int8"):
        to_fp8(changed)


def fused(full: Network, *plugins: str) -> tuple[dict[str, list[onnx.NodeProto]], Any]:
    graph = implicit_graph(full, asked("int8", "int8"), plugins)
    nodes: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.model.graph.node:
        nodes.setdefault(node.op_type, []).append(node)
    return nodes, graph


def fields(node: onnx.NodeProto) -> dict[str, np.ndarray]:
    return {entry.name: numpy_helper.to_array(entry.t) for entry in node.attribute if entry.HasField("t")}


def test_nvidias_fusions_find_their_places(full: Network) -> None:
    nodes, graph = fused(full, RES2, SMALL_TILE)
    assert {name: len(found) for name, found in nodes.items()} == {
        RES2: 1, SMALL_TILE: 13, "Conv": 31, "Relu": 27, "MaxPool": 1, "AveragePool": 1, "ArgMax": 1, "Cast": 1,
    }  # fmt: skip
    assert graph.plugins == (RES2, SMALL_TILE)
    made = {name for found in nodes.values() for node in found for name in node.output}
    assert set(graph.ranges.amax) <= made | {"input_tensor:0"}
    assert all(name in graph.ranges.amax for name in made - {"ArgMax:0", "nvkit/class"})


def test_the_second_stages_plugin_gets_weights_and_ranges_in_nvidias_order(full: Network) -> None:
    ranges = Ranges.load(full.ranges)  # type: ignore[arg-type]
    names = list(ranges.tensors)
    numbered = {name: replace(ranges.tensors[name], amax=1.0 + names.index(name)) for name in names}
    changed = full.ranges.parent / "numbered.json"  # type: ignore[union-attr]
    replace(ranges, tensors=numbered).save(changed)
    nodes, _ = fused(replace(full, ranges=changed), RES2)
    assert SMALL_TILE not in nodes
    (node,) = nodes[RES2]
    assert list(node.input) == ["resnet_model/max_pooling2d/MaxPool:0"]
    assert list(node.output) == ["resnet_model/Relu_9:0"]
    values = fields(node)
    weights = {t.name: numpy_helper.to_array(t) for t in onnx.load(str(full.model)).graph.initializer}
    order = {"a_br1": 1, "a_br2a": 2, "a_br2b": 3, "a_br2c": 4, "b_br2a": 5, "c_br2c": 10}
    for part, number in order.items():
        assert np.array_equal(values[f"c_res2{part}_w"], weights[f"resnet_model/conv2d_{number}/kernel"])
        assert np.array_equal(values[f"s_res2{part}_b"], weights[f"resnet_model/conv2d_{number}/bias"])
        assert (values[f"s_res2{part}_s"] == 1).all()
    tensors = [
        "max_pooling2d/MaxPool", "conv2d_1/Conv2D", "Relu_1", "Relu_2", "conv2d_4/Conv2D", "Relu_3", "Relu_4", "Relu_5",
        "conv2d_7/Conv2D", "Relu_6", "Relu_7", "Relu_8", "conv2d_10/Conv2D", "Relu_9",
    ]  # fmt: skip
    wanted = [numbered[f"resnet_model/{name}:0"].amax for name in tensors]
    assert values["dynamic_ranges"].tolist() == wanted


def test_small_tile_takes_convolution_and_shortcut(full: Network) -> None:
    nodes, _ = fused(full, SMALL_TILE)
    assert len(nodes[SMALL_TILE]) == 13  # the second stage is too narrow for it
    by_output = {node.output[0]: node for node in nodes[SMALL_TILE]}
    first, second = by_output["resnet_model/Relu_12:0"], by_output["resnet_model/Relu_15:0"]
    assert list(first.input) == ["resnet_model/Relu_11:0", "resnet_model/conv2d_11/Conv2D:0"]
    assert list(second.input) == ["resnet_model/Relu_14:0", "resnet_model/Relu_12:0"]
    values = fields(first)
    assert values["weight"].shape == (512, 128, 1, 1)
    assert values["inputChannels"].tolist() == [128]
    assert values["dynamicRanges"].tolist() == [AMAX] * 3


def test_a_network_without_such_blocks_stays(network: Network) -> None:
    graph = implicit_graph(network, asked("int8"), (RES2, SMALL_TILE))
    assert graph.plugins == ()
    assert not {RES2, SMALL_TILE} & {node.op_type for node in graph.model.graph.node}
