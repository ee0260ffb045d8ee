"""A detector through the build for TensorRT 8.6, on a stand-in that remembers what it was told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine.tensorrt import fake_trt
from engine.tensorrt.build_settings import settings as plain_settings
from engine.tensorrt.detector_net import ROWS, anchors, detector

from nvkit.engine.base import Network
from nvkit.engine.tensorrt import backend as backend_module
from nvkit.engine.tensorrt import build, card, contexts, device, flavours
from nvkit.engine.tensorrt.backend import TensorRtBackend
from nvkit.engine.tensorrt.tensors import tensors_of

H200 = device.Gpu("NVIDIA H200", "9.0", 141 << 30)
FLOAT, INT8 = fake_trt.DataType.FLOAT, fake_trt.DataType.INT8


@pytest.fixture(autouse=True)
def _on_an_h200(monkeypatch: pytest.MonkeyPatch) -> None:
    made = flavours.Library("tensorrt", "tensorrt", fake_trt, flavours._logger(fake_trt))
    for module in (backend_module, build, card, contexts, flavours):
        monkeypatch.setattr(module, "gpu", lambda: H200, raising=False)
        monkeypatch.setattr(module, "load_library", lambda name: made, raising=False)
    monkeypatch.setattr(fake_trt.Builder, "made", [])
    monkeypatch.setattr(fake_trt.Builder, "plans", [b"a plan"])
    monkeypatch.setattr(fake_trt, "PLUGINS", [*fake_trt.PLUGINS, "EfficientNMS_TRT"])


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return detector(tmp_path_factory.mktemp("detector"))


def built(network: Network, folder: Path, **changes: Any) -> tuple[fake_trt.Network, dict[str, Any], list[str]]:
    """Return what TensorRT was told, the engine's card, and the notes."""
    asked = plain_settings(**{"backend": "tensorrt", "compute_capability": None, "input_dtype": "int8", **changes})
    report = TensorRtBackend().build(network, asked, folder)
    definition = fake_trt.Builder.made[-1].network
    assert definition is not None
    return definition, json.loads((folder / "engine.json").read_text()), report.details["notes"]


def test_class_logits_leave_the_engine_as_int8_and_boxes_as_floats(network: Network, tmp_path: Path) -> None:
    definition, told, notes = built(network, tmp_path)
    outputs = {tensor.name: tensor for tensor in definition.outputs}
    chw32 = 1 << fake_trt.TensorFormat.CHW32
    assert {name: (out.dtype, out.allowed_formats) for name, out in outputs.items()} == {
        "cls_8": (INT8, chw32), "cls_5": (INT8, chw32), "box_8": (FLOAT, 0), "box_5": (FLOAT, 0),
    }  # fmt: skip
    layers = {layer.name: layer for layer in definition.layers}
    assert (layers["box_8"].precision, layers["box_8"].output_types) == (INT8, {0: FLOAT})
    assert layers["cls_8"].precision is None
    ranges = {tensor.name: tensor.range for layer in definition.layers for tensor in layer._outputs}
    assert None not in ranges.values()
    assert ranges["cls_8"] == ranges["cls_5"] == pytest.approx((-5.472, 5.472), abs=1e-3)
    assert any("nvkit's kernels, behind the engine, from int8 class logits" in note for note in notes)
    _, output = tensors_of(told)
    assert (output.name, output.dtype, output.shape, output.offset) == ("detections", "float32", (ROWS, 6), 0)
    assert output.row_bytes == ROWS * 6 * 4
    assert np.array_equal(np.load(tmp_path / "anchors.npy"), anchors())
    assert [level["logits"] for level in told["detection"]["levels"]] == ["cls_8", "cls_5"]


def test_with_the_plugin_everything_behind_the_heads_is_float(network: Network, tmp_path: Path) -> None:
    definition, told, notes = built(network, tmp_path, nms_type="efficientnms")
    assert [tensor.name for tensor in definition.outputs] == ["detections"]
    assert "EfficientNMS_TRT of all scores" in notes
    assert told["plugins"] == ["EfficientNMS_TRT"]
    assert "detection" not in told
    assert not (tmp_path / "anchors.npy").exists()
    behind, heads = False, {"cls_8", "cls_5", "box_8", "box_5"}
    for layer in definition.layers:
        if layer.name in heads:
            assert (layer.precision, layer.output_types) == (INT8, {0: FLOAT})
        behind = any(name in layer.name for name in ("/pixels", "/anchors", "class_", "box_deltas", "nvkit/"))
        assert all((tensor.range is None) == behind for tensor in layer._outputs), layer.name


def test_nvidias_own_plugins_are_named_and_done_without(network: Network, tmp_path: Path) -> None:
    _, told, notes = built(network, tmp_path, nms_type="nmsopt")
    assert "detection" in told
    assert any("nms_type nmsopt is a plugin of NVIDIA's harness" in note for note in notes)


def test_engines_of_another_ending_are_other_engines() -> None:
    ways = [plain_settings(backend="tensorrt", compute_capability=None, nms_type=way) for way in (None, "efficientnms")]
    first, second = (TensorRtBackend().identity(settings) for settings in ways)
    assert first != second
