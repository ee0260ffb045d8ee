"""BERT for NVIDIA's plugins: what the rewritten graph computes, and what the plugins and TensorRT are told."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from engine.tensorrt.encoder import encoder, fields, plain, run_packed, samples
from onnx import TensorProto, numpy_helper

from nvkit.engine.base import Network
from nvkit.engine.tensorrt import transformer
from nvkit.engine.tensorrt.transformer import obstacle, pack
from nvkit.engine.tensorrt.transformer_graph import ATTENTION, EMBEDDING, SKIP
from nvkit.errors import RangesError
from nvkit.quantize import Ranges
from nvkit.quantize.graph import prepare

LENGTHS = [5, 1, 12, 7]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return encoder(tmp_path_factory.mktemp("net"))


@pytest.fixture(scope="module")
def true_width(tmp_path_factory: pytest.TempPathFactory) -> Network:
    """One layer as wide as BERT-large's, for what int8 needs."""
    return encoder(tmp_path_factory.mktemp("wide"), layers=1, heads=16)


def ranges_of(network: Network) -> Ranges:
    assert network.ranges is not None
    return Ranges.load(network.ranges)


def packed(model: onnx.ModelProto, *dummies: int) -> np.ndarray[Any, Any]:
    padded = samples(LENGTHS, 12)
    own = padded["input_mask"].astype(bool)
    inputs = {name: padded[name][own] for name in ("input_ids", "segment_ids")}
    inputs["cu_seqlens"] = np.cumsum([0, *LENGTHS, *dummies], dtype=np.int32)
    inputs["max_seqlen"] = np.zeros(12, np.int32)
    return run_packed(model, inputs)


@pytest.mark.parametrize("dummies", [(), (0, 0)])
def test_packed_samples_get_the_networks_own_logits(network: Network, dummies: tuple[int, ...]) -> None:
    padded = samples(LENGTHS, 12)
    expected = plain(network.model, padded)[padded["input_mask"].astype(bool)]
    graph = pack(prepare(network.model), "fp16", None)
    found = packed(graph.model, *dummies)
    assert found.shape == (sum(LENGTHS), 2, 1, 1)
    assert expected.std() > 0.3
    np.testing.assert_allclose(found[:, :, 0, 0], expected, atol=4e-3)  # GELU by tanh and not by erf
    assert graph.amax == {}


def test_small_tiles_compute_the_same(true_width: Network) -> None:
    plainly = pack(prepare(true_width.model), "int8", ranges_of(true_width))
    tiled = pack(prepare(true_width.model), "int8", ranges_of(true_width), tiles=True)
    np.testing.assert_allclose(packed(tiled.model), packed(plainly.model), rtol=1e-3, atol=1e-4)
    count = Counter(node.op_type for node in tiled.model.graph.node)
    assert (count["SmallTileGEMM_TRT"], count["Conv"], count["Tanh"]) == (3, 2, 0)
    told = {node.name: fields(node) for node in tiled.model.graph.node if node.op_type == "SmallTileGEMM_TRT"}
    assert set(told) == {"l0/qkv", "l0/projected", "l0/gelu"}
    seen = ranges_of(true_width).tensors
    for name, source in (("l0/qkv", "embeddings"), ("l0/projected", "l0/attention"), ("l0/gelu", "l0/attended")):
        assert told[name]["dynamicRanges"].tolist() == [seen[source].amax, seen[name].amax]
        assert told[name]["inputChannels"].tolist() == [1024]
        assert ("epilogueScaleBiasGelu" in told[name]) == (name == "l0/gelu")
    assert any("SmallTileGEMM_TRT: 3 matrix products" in note for note in tiled.notes)


def test_the_plugins_get_their_fields(true_width: Network) -> None:
    graph = pack(prepare(true_width.model), "int8", ranges_of(true_width)).model.graph
    nodes = {node.name: node for node in graph.node}
    assert [value.name for value in graph.input] == ["input_ids", "segment_ids", "cu_seqlens", "max_seqlen"]
    assert {value.type.tensor_type.elem_type for value in graph.input} == {TensorProto.INT32}
    assert graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT16
    embedding, attention, skip = nodes["embeddings"], nodes["l0/attention"], nodes["l0/attended"]
    assert (embedding.op_type, attention.op_type, skip.op_type) == (EMBEDDING, ATTENTION, SKIP)
    assert list(embedding.input) == ["input_ids", "segment_ids", "cu_seqlens", "max_seqlen"]
    assert list(embedding.output) == ["embeddings", "embeddings/mask"]
    assert list(attention.input) == ["l0/qkv", "embeddings/mask", "cu_seqlens", "max_seqlen"]
    assert list(skip.input) == ["l0/projected", "embeddings"]
    for node in (embedding, attention, skip):
        assert {entry.s for entry in node.attribute if entry.name == "plugin_version"} == {b"2"}
    told = fields(attention)
    values = {"type_id": 2, "hidden_size": 1024, "num_heads": 16, "has_mask": 1, "var_seqlen": 1}
    assert {key: told[key].tolist() for key in values} == {key: [value] for key, value in values.items()}
    assert {told[key].dtype for key in values} == {np.dtype(np.int32)}
    assert told["dq_probs"].dtype == np.float32
    assert told["dq_probs"][0] == pytest.approx(1 / 127)
    assert fields(skip)["type_id"].tolist() == [2]
    weights = {t.name: numpy_helper.to_array(t) for t in onnx.load(str(true_width.model)).graph.initializer}
    told = fields(embedding)
    assert told["output_fp16"].dtype == np.int32
    for key, name in (("word", "word"), ("token_type", "token_type"), ("position", "position")):
        assert np.array_equal(told[f"bert_embeddings_{key}_embeddings"], weights[f"embeddings/{name}"])
    assert {value.dtype for key, value in told.items() if key != "output_fp16"} == {np.dtype(np.float32)}
    half = {node.name: fields(node) for node in pack(prepare(true_width.model), "fp16", None).model.graph.node}
    assert half["l0/attention"]["type_id"].tolist() == half["l0/hidden"]["type_id"].tolist() == [1]


def test_trained_ranges_of_probabilities_reach_the_plugin(true_width: Network) -> None:
    seen = ranges_of(true_width)
    tensors = {**seen.tensors, "l0/attention/probabilities": replace(seen.tensors["embeddings"], amax=0.5)}
    graph = pack(prepare(true_width.model), "int8", replace(seen, tensors=tensors)).model.graph
    (attention,) = [node for node in graph.node if node.op_type == ATTENTION]
    assert fields(attention)["dq_probs"][0] == pytest.approx(0.5 / 127)


def test_int8_tensors_have_their_ranges_and_what_lies_inside_a_kernel_has_none(true_width: Network) -> None:
    graph = pack(prepare(true_width.model), "int8", ranges_of(true_width))
    seen = ranges_of(true_width).tensors
    parts = ("qkv", "attention", "projected", "attended", "gelu", "output", "hidden")
    names = ["embeddings", *(f"l0/{part}" for part in parts)]
    assert graph.amax == {name: seen[name].amax for name in names}
    assert {name for name, kind in graph.precisions.items() if kind == "int8"} == {"l0/projected", "l0/output"}
    steps = {node.name for node in graph.model.graph.node if node.name.startswith("l0/gelu")}
    constants = {t.name for t in graph.model.graph.initializer if t.name.startswith("l0/gelu")}
    assert (len(steps), len(constants)) == (8, 5)
    assert {name for name, kind in graph.precisions.items() if kind == "fp32"} == steps | constants
    lacking = {name: seen[name] for name in seen if name != "l0/qkv"}
    with pytest.raises(RangesError, match="lack 1 tensors, first 'l0/qkv'"):
        pack(prepare(true_width.model), "int8", replace(ranges_of(true_width), tensors=lacking))


def test_what_the_plugins_cannot_do_is_said(network: Network, true_width: Network, tmp_path: Path) -> None:
    model = prepare(network.model)
    assert obstacle(model, "fp16") == ""
    assert obstacle(prepare(true_width.model), "int8") == ""
    assert "int8 kernels for 768 and 1024" in obstacle(model, "int8")
    attention = next(node for node in model.graph.node if node.op_type == "SelfAttention")
    attention.attribute[0].i = 4
    assert "4 heads in 128 channels" in obstacle(model, "fp16")
    other = prepare(network.model)
    other.graph.node.append(onnx.helper.make_node("Softmax", ["logits"], ["shares"], name="shares"))
    assert "'shares' (Softmax)" in obstacle(other, "fp16")
    assert "not made of nvkit's functions" in obstacle(onnx.ModelProto(), "fp16")


def test_the_longest_sample_is_what_positions_and_plugins_allow(network: Network) -> None:
    model = prepare(network.model)
    assert transformer.longest_of(model) == 384
    (position,) = [t for t in model.graph.initializer if t.name == "embeddings/position"]
    position.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(position)[:100], position.name))
    assert transformer.longest_of(model) == 100
