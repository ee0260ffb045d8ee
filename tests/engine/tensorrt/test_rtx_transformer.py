"""BERT without NVIDIA's plugins: padded batches of any length, built by TensorRT for RTX, computed by ONNX Runtime."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from engine.tensorrt.build_settings import settings
from engine.tensorrt.encoder import encoder, plain, samples

from nvkit.engine import backend
from nvkit.engine.base import Network
from nvkit.engine.tensorrt import device
from nvkit.engine.tensorrt.packed import Padded, form_of
from nvkit.engine.tensorrt.prepare import typed_graph
from nvkit.quantize import Ranges, quantize

LENGTHS = [5, 1, 12, 7]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    folder = tmp_path_factory.mktemp("net")
    made = encoder(folder)
    assert made.ranges is not None
    quantize(made.model, Ranges.load(made.ranges), folder / "qdq.onnx", scheme="int8")
    return replace(made, quantized=folder / "qdq.onnx")


def test_a_typed_graph_in_fp16_answers_as_its_network(network: Network, tmp_path: Path) -> None:
    import onnx

    graph = typed_graph(network, SimpleNamespace(precision="fp16", input_dtype="int32", nms_type=None))
    assert graph.form == Padded(("input_ids", "input_mask", "segment_ids"), 384)
    assert not graph.model.functions
    assert {node.domain for node in graph.model.graph.node} <= {"", "ai.onnx"}
    onnx.checker.check_model(graph.model)
    onnx.save(graph.model, str(tmp_path / "half.onnx"))
    padded = samples(LENGTHS, 12)
    own = padded["input_mask"].astype(bool)
    found, expected = plain(tmp_path / "half.onnx", padded)[own], plain(network.model, padded)[own]
    np.testing.assert_allclose(found, expected, atol=0.02)


@pytest.fixture
def _without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    from nvkit.engine.tensorrt import backend as backend_module
    from nvkit.engine.tensorrt import build, card, flavours

    def gpu() -> device.Gpu:
        raise device.NoGpu("no NVIDIA driver is installed here")

    for module in (backend_module, build, card, flavours):
        monkeypatch.setattr(module, "gpu", gpu)


@pytest.mark.usefixtures("_without_a_gpu")
@pytest.mark.parametrize(
    ("precision", "kinds"), [("fp16", {"fp16"}), ("int8", {"int8", "fp16"}), ("fp8", {"fp8", "fp16"})]
)
def test_engines_take_batches_of_any_length(network: Network, tmp_path: Path, precision: str, kinds: set[str]) -> None:
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT for RTX has wheels for Linux on x86-64 only")
    chosen: Any = settings(precision=precision, input_dtype="int32", batch_size=4, bert_opt_seqlen=128)
    report = backend("tensorrt-rtx").build(network, chosen, tmp_path)
    assert any("batches are padded" in note for note in report.details["notes"])
    assert kinds <= set(report.details["precisions"])
    assert "fp32" not in report.details["precisions"]
    known = json.loads((tmp_path / "engine.json").read_text())
    assert form_of(known) == Padded(("input_ids", "input_mask", "segment_ids"), 384)
    assert known["outputs"] == [{"name": "logits", "dtype": "float32", "shape": [-1, 2], "offset": 0}]
