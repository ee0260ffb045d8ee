"""How a detector's graph ends for TensorRT: structure, and numbers against the function's body in ONNX Runtime."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from engine.tensorrt import efficient_nms
from engine.tensorrt.detector_net import CANDIDATES, CLASSES, GRIDS, IOU, ROWS, SCORE, SHAPES, SIDE, detector, images
from onnx import TensorProto, helper, numpy_helper

from nvkit.engine.base import Network
from nvkit.engine.tensorrt import detection
from nvkit.engine.tensorrt.fusions import RES2, SMALL_TILE, fuse
from nvkit.engine.tensorrt.prepare import implicit_graph, typed_graph
from nvkit.errors import ModelError
from nvkit.quantize import Ranges, quantize
from nvkit.quantize.graph import prepare

HEADS = ["cls_8", "box_8", "cls_5", "box_5"]


def asked(precision: str, input_dtype: str = "fp32") -> Any:
    return SimpleNamespace(precision=precision, input_dtype=input_dtype)


def run(model: onnx.ModelProto | Path, samples: np.ndarray, *names: str) -> list[np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    found: list[np.ndarray] = session.run(names or None, {"images": samples})
    return found


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return detector(tmp_path_factory.mktemp("detector"))


@pytest.mark.parametrize("prior", [-3.5, -5.4])
def test_the_plugin_finds_what_the_body_finds(prior: float, tmp_path: Path) -> None:
    network = detector(tmp_path, prior=prior)
    expected = run(network.model, images(4))[0]
    assert (expected[..., 4] > 0).all() == (prior > -5)  # once the rows are full, once they are not
    assert (expected[..., 4] > 0).sum() > 10
    graph = implicit_graph(network, asked("fp32"), (), "plugin")
    assert graph.plugins == ("EfficientNMS_TRT",)
    found = efficient_nms.run(graph.model, {"images": images(4)})
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_plugin_gets_what_its_source_asks_for(network: Network) -> None:
    graph = implicit_graph(network, asked("int8"), (), "plugin")
    (node,) = [node for node in graph.model.graph.node if node.op_type == "EfficientNMS_TRT"]
    fields = {entry.name: numpy_helper.to_array(entry.t) for entry in node.attribute if entry.HasField("t")}
    assert {name: value.dtype for name, value in fields.items()} == {
        "score_threshold": np.float32, "iou_threshold": np.float32, "max_output_boxes": np.int32,
        "background_class": np.int32, "score_activation": np.int32, "class_agnostic": np.int32, "box_coding": np.int32,
    }  # fmt: skip
    assert {entry.name: entry.s for entry in node.attribute if entry.s} == {"plugin_version": b"1"}
    assert fields["score_threshold"] == np.float32(SCORE)
    assert (fields["iou_threshold"], fields["max_output_boxes"]) == (IOU, ROWS)
    values = {t.name: numpy_helper.to_array(t) for t in graph.model.graph.initializer}
    assert values[node.input[2]].shape == (1, SHAPES * sum(grid * grid for grid in GRIDS), 4)
    assert values[node.input[2]].max() < 2  # in sides of the image
    assert node.input[1] == "class_logits"
    assert not graph.model.functions
    assert {entry.domain for entry in graph.model.opset_import} == {""}


@pytest.mark.parametrize("way", ["plugin", "body"])
def test_nothing_behind_the_heads_is_int8(way: str, network: Network) -> None:
    graph = implicit_graph(network, asked("int8"), (), way)
    assert graph.ranges is not None
    assert graph.float_outputs == set(HEADS)
    before = {"images", "stem", "stem_relu", "pooled", "coarse", "small", "up", "inner", "fine"}
    assert set(graph.ranges.amax) == before | set(HEADS)
    assert graph.detector is not None
    assert graph.detector.detection is None
    assert graph.model.graph.output[0].name == "detections"


def test_for_the_kernels_the_engine_ends_with_the_heads(network: Network) -> None:
    graph = implicit_graph(network, asked("int8", "int8"), (), "kernels")
    assert [value.name for value in graph.model.graph.output] == HEADS
    assert Counter(node.op_type for node in graph.model.graph.node)["Conv"] == 6
    assert not {"Transpose", "Reshape", "DetectObjects"} & {node.op_type for node in graph.model.graph.node}
    assert graph.ranges is not None
    assert set(graph.ranges.amax) >= {*HEADS, "up", "small", "fine"}
    assert graph.ranges.amax["images"] == pytest.approx(127 * 0.02)
    assert graph.float_outputs == {"box_8", "box_5"}
    assert dict(graph.outputs) == {"cls_8": ("int8", "chw32"), "cls_5": ("int8", "chw32")}
    assert graph.plugins == ()
    assert graph.detector is not None
    found = graph.detector.detection
    assert found is not None
    assert (found.shapes, found.classes, found.vector, found.image_size) == (SHAPES, CLASSES, 32, SIDE)
    assert (found.candidates, found.detections) == (CANDIDATES, ROWS)
    assert [(level.positions, level.first_anchor) for level in found.levels] == [(64, 0), (25, 3 * 64)]


def test_int8_class_logits_cover_what_can_be_a_detection(network: Network) -> None:
    """From the threshold to a score of 0.9997 in 254 steps; the bias of the convolutions takes up the middle."""
    graph = implicit_graph(network, asked("int8"), (), "kernels")
    assert graph.detector is not None
    found = graph.detector.detection
    assert found is not None
    scores = 1 / (1 + np.exp(-(np.array([-127, 127]) * found.scale + found.shift)))
    np.testing.assert_allclose(scores, [SCORE, 0.99966], atol=1e-5)
    assert graph.ranges is not None
    assert graph.ranges.amax["cls_8"] == graph.ranges.amax["cls_5"] == pytest.approx(127 * found.scale)
    names = ("cls_8", "box_5")
    shifted = run(graph.model, images(2), *names)
    plain = run(implicit_graph(network, asked("fp32"), (), "kernels").model, images(2), *names)
    np.testing.assert_allclose(shifted[0] + found.shift, plain[0], atol=1e-4)
    np.testing.assert_allclose(shifted[1], plain[1], atol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_typed_graphs_end_with_float_heads_or_with_the_body_in_fp32(
    precision: str, network: Network, tmp_path: Path
) -> None:
    assert network.ranges is not None
    quantize(network.model, Ranges.load(network.ranges), tmp_path / "qdq.onnx", scheme="int8")
    whole = replace(network, quantized=tmp_path / "qdq.onnx")
    heads = typed_graph(whole, asked(precision), "kernels")
    assert [value.name for value in heads.model.graph.output] == HEADS
    assert heads.detector is not None
    assert heads.detector.detection is not None
    assert (heads.detector.detection.vector, heads.detector.detection.shift) == (1, 0.0)
    assert run(heads.model, images(2))[0].shape == (2, SHAPES * CLASSES, 8, 8)
    body = typed_graph(whole, asked(precision), "body")
    onnx.checker.check_model(body.model)
    assert not body.model.functions
    scores, expected = (run(model, images(4))[0][..., 4] for model in (body.model, network.model))
    np.testing.assert_allclose(scores, expected, atol={"fp32": 1e-5, "fp16": 2e-3, "int8": 0.05}[precision])


def library(*, typed: bool = False, plugins: tuple[str, ...] = ("EfficientNMS_TRT",)) -> Any:
    return SimpleNamespace(strongly_typed=typed, title="TensorRT 9", plugins=lambda: dict.fromkeys(plugins))


@pytest.mark.parametrize(
    ("nms_type", "target", "more", "way", "said"),
    [
        (None, "9.0", {}, "kernels", ""),
        ("nmsopt", "9.0", {}, "kernels", "nmsopt is a plugin of NVIDIA's harness"),
        ("nmspva", "8.7", {}, "kernels", "nmspva is a plugin of NVIDIA's harness"),
        ("efficientnms", "9.0", {}, "plugin", ""),
        (None, "7.5", {}, "plugin", ""),
        (None, "7.5", {"plugins": ()}, "body", "TensorRT 9 has no EfficientNMS_TRT"),
        ("efficientnms", "9.0", {"typed": True}, "kernels", "not for strongly typed networks"),
        (None, "7.5", {"typed": True}, "body", "not for strongly typed networks"),
    ],
)
def test_the_way_is_chosen_by_setting_gpu_and_tensorrt(
    nms_type: str | None, target: str, more: dict[str, Any], way: str, said: str
) -> None:
    found, note = detection.chosen_way(library(**more), nms_type, target)
    assert found == way
    assert said in note
    assert bool(said) == bool(note)


def test_anchors_that_do_not_belong_to_the_heads_are_refused(network: Network, tmp_path: Path) -> None:
    model = onnx.load(str(network.model))
    table = next(tensor for tensor in model.graph.initializer if tensor.name == "anchors")
    table.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(table)[:-1], "anchors"))
    onnx.save(model, str(tmp_path / "few.onnx"))
    with pytest.raises(ModelError, match="'class_logits' has 267 anchors, and 'anchors' 266"):
        implicit_graph(replace(network, model=tmp_path / "few.onnx"), asked("fp32"), ())


def test_heads_in_another_order_are_left_to_the_plugin(network: Network, tmp_path: Path) -> None:
    model = onnx.load(str(network.model))
    turn = next(node for node in model.graph.node if node.name == "cls_8/pixels")
    turn.attribute[0].ints[:] = [0, 3, 2, 1]  # column by column
    onnx.save(model, str(tmp_path / "turned.onnx"))
    graph = implicit_graph(replace(network, model=tmp_path / "turned.onnx"), asked("fp32"), ())
    assert graph.plugins == ("EfficientNMS_TRT",)
    assert any("no convolutions of levels were found behind 'class_logits'" in note for note in graph.notes)


def test_more_candidates_than_the_kernels_take_are_left_to_the_plugin(network: Network, tmp_path: Path) -> None:
    model = onnx.load(str(network.model))
    next(entry for entry in model.graph.node[-1].attribute if entry.name == "candidates").i = 5000
    onnx.save(model, str(tmp_path / "many.onnx"))
    graph = implicit_graph(replace(network, model=tmp_path / "many.onnx"), asked("fp32"), ())
    assert graph.plugins == ("EfficientNMS_TRT",)
    assert any("8 levels and 8192 candidates" in note for note in graph.notes)


@pytest.mark.parametrize(("group", "places"), [(1, 1), (32, 0)])
def test_residual_plugins_take_no_grouped_convolutions(group: int, places: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shapes = {"a": (128, 512, 1, 1), "b": (128, 128 // group, 3, 3), "c": (512, 128, 1, 1)}
    constants = {name: rng.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}
    constants |= {f"{name}_bias": np.zeros(len(value), np.float32) for name, value in constants.items()}
    nodes = []
    at = "x"
    for name in "abc":
        attributes = {"group": group, "pads": [1] * 4} if name == "b" else {}
        nodes.append(helper.make_node("Conv", [at, name, f"{name}_bias"], [f"conv_{name}"], **attributes))
        at = f"conv_{name}"
        if name != "c":
            nodes.append(helper.make_node("Relu", [at], [f"relu_{name}"]))
            at = f"relu_{name}"
    nodes += [helper.make_node("Add", [at, "x"], ["sum"]), helper.make_node("Relu", ["sum"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "block",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 512, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "b.onnx")
    model = prepare(tmp_path / "b.onnx")
    amax = {name: 1.0 for node in model.graph.node for name in (*node.input, *node.output)}
    fuse(model, amax, (RES2, SMALL_TILE))
    assert [node.op_type for node in model.graph.node].count(SMALL_TILE) == places
