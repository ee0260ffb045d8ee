"""BERT on TensorRT 8.6's stand-in: ranges, precisions, flags, profiles and the card; what is refused, and why."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from engine.tensorrt import fake_trt
from engine.tensorrt.build_settings import settings as plain_settings
from engine.tensorrt.encoder import encoder

from nvkit.engine.base import Network
from nvkit.engine.tensorrt import backend as backend_module
from nvkit.engine.tensorrt import build, card, device, flavours
from nvkit.engine.tensorrt.backend import TensorRtBackend
from nvkit.engine.tensorrt.packed import Packed, Padded, form_of
from nvkit.engine.tensorrt.transformer import PLUGINS
from nvkit.errors import ConfigError, EngineBuildError
from nvkit.quantize import Ranges

BACKEND = TensorRtBackend()


def settings(**changes: Any) -> Any:
    values = {"backend": "tensorrt", "compute_capability": None, "input_dtype": "int32", "gpu_copy_streams": 2}
    return plain_settings(**{**values, **changes})


@pytest.fixture(autouse=True)
def _on_an_h200(monkeypatch: pytest.MonkeyPatch) -> None:
    on_a(monkeypatch, "9.0")


def on_a(monkeypatch: pytest.MonkeyPatch, compute_capability: str) -> None:
    made = flavours.Library("tensorrt", "tensorrt", fake_trt, flavours._logger(fake_trt))
    for module in (backend_module, build, card, flavours):
        monkeypatch.setattr(module, "gpu", lambda: device.Gpu("a GPU", compute_capability, 1 << 37), raising=False)
        monkeypatch.setattr(module, "load_library", lambda name: made, raising=False)
    monkeypatch.setattr(fake_trt.Builder, "made", [])
    monkeypatch.setattr(fake_trt.Builder, "plans", [b"a plan"])
    monkeypatch.setattr(fake_trt, "PLUGINS", [*PLUGINS, "SmallTileGEMM_TRT"])


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return encoder(tmp_path_factory.mktemp("net"), layers=1)


@pytest.fixture(scope="module")
def true_width(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return encoder(tmp_path_factory.mktemp("wide"), layers=1, heads=16)


def told() -> tuple[fake_trt.Network, fake_trt.BuilderConfig]:
    """Return the network and the config of the last build."""
    last = fake_trt.Builder.made[-1]
    assert last.network is not None
    assert last.config is not None
    return last.network, last.config


def test_int8_is_built_as_nvidia_builds_it(true_width: Network, tmp_path: Path) -> None:
    report = BACKEND.build(true_width, settings(), tmp_path)
    definition, config = told()
    assert true_width.ranges is not None
    seen = Ranges.load(true_width.ranges).tensors
    layers = {layer.name: layer for layer in definition.layers}
    outputs = {tensor.name: tensor for layer in definition.layers for tensor in layer._outputs}
    for name in ("embeddings", "l0/qkv", "l0/attention", "l0/projected", "l0/attended", "l0/gelu", "l0/output"):
        assert outputs[name].range == (-seen[name].amax, seen[name].amax)
    without = {name for name, tensor in outputs.items() if tensor.range is None}
    assert {"l0/intermediate", "l0/gelu/tanh", "embeddings/mask", "logits"} <= without
    assert layers["l0/output"].precision is fake_trt.DataType.INT8
    assert layers["l0/gelu/tanh"].precision is layers["l0/gelu"].precision is fake_trt.DataType.FLOAT
    assert layers["l0/qkv"].precision is layers["l0/attention"].precision is None
    assert {flag.name for flag in config.set_flags} == {"INT8", "FP16"}
    assert definition.outputs[0].dtype is fake_trt.DataType.HALF
    assert {tensor.dtype for tensor in definition.inputs} == {fake_trt.DataType.INT32}
    assert report.details["ranges"] == {"observed": 8}
    assert any("sequences packed without padding" in note for note in report.details["notes"])
    known = json.loads((tmp_path / "engine.json").read_text())
    assert known["plugins"] == sorted(PLUGINS)
    assert known["outputs"] == [{"name": "logits", "dtype": "float16", "shape": [1, 1, 1], "offset": 0}]
    assert form_of(known) == Packed(("input_ids", "segment_ids"), 384)


def test_the_profile_is_nvidias(network: Network, tmp_path: Path) -> None:
    BACKEND.build(network, settings(precision="fp16", batch_size=16, bert_opt_seqlen=270), tmp_path)
    profiles = told()[1].profiles
    tokens = [(1,), (16 * 270,), (16 * 384,)]
    shapes = {
        "input_ids": tokens,
        "segment_ids": tokens,
        "cu_seqlens": [(2,), (17,), (17,)],
        "max_seqlen": [(1,), (384,), (384,)],
    }
    assert [{name: list(made) for name, made in profile.shapes.items()} for profile in profiles] == [shapes]


def test_kernels_are_timed_on_no_more_tokens_than_tell_them_apart(network: Network, tmp_path: Path) -> None:
    BACKEND.build(network, settings(precision="fp16", batch_size=512, bert_opt_seqlen=384), tmp_path)
    shapes = told()[1].profiles[0].shapes
    assert list(shapes["input_ids"]) == [(1,), (42 * 384,), (512 * 384,)]
    assert list(shapes["cu_seqlens"]) == [(2,), (43,), (513,)]
    with pytest.raises(ConfigError, match="bert_opt_seqlen is 400"):
        BACKEND.build(network, settings(precision="fp16", bert_opt_seqlen=400), tmp_path)


def test_fp16_has_no_ranges_and_fp8_is_a_note(network: Network, tmp_path: Path) -> None:
    report = BACKEND.build(network, settings(precision="fp16", use_fp8=True), tmp_path)
    definition, config = told()
    assert {flag.name for flag in config.set_flags} == {"FP16"}
    assert not [tensor for layer in definition.layers for tensor in layer._outputs if tensor.range]
    assert any(note.startswith("use_fp8: NVIDIA's fp8 plugin is not part of") for note in report.details["notes"])


@pytest.mark.parametrize(
    ("changes", "capability", "missing", "says"),
    [
        ({"use_fusions": "never"}, "9.0", "", "use_fusions is never"),
        ({"precision": "fp32"}, "9.0", "", "precision is fp32"),
        ({}, "10.0", "", "no kernels for compute capability 10.0"),
        ({}, "9.0", PLUGINS[1], f"has no {PLUGINS[1]}"),
    ],
)
def test_without_the_plugins_batches_are_padded(
    network: Network,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    capability: str,
    missing: str,
    says: str,
) -> None:
    on_a(monkeypatch, capability)
    monkeypatch.setattr(fake_trt, "PLUGINS", [name for name in PLUGINS if name != missing])
    report = BACKEND.build(network, settings(**{"precision": "fp16", "bert_opt_seqlen": 100, **changes}), tmp_path)
    definition, config = told()
    assert any("batches are padded" in note and says in note for note in report.details["notes"])
    assert [tensor.name for tensor in definition.inputs] == ["input_ids", "input_mask", "segment_ids"]
    shapes = {name: [(1, 1), (8, 100), (8, 384)] for name in ("input_ids", "input_mask", "segment_ids")}
    assert [{name: list(made) for name, made in profile.shapes.items()} for profile in config.profiles] == [shapes]
    known = json.loads((tmp_path / "engine.json").read_text())
    assert form_of(known) == Padded(("input_ids", "input_mask", "segment_ids"), 384)
    assert known["plugins"] == []
    names = {layer.name for layer in definition.layers}
    assert "l0/qkv" in names
    assert "l0/attended" not in names  # the call is gone, its body is there
    if "use_fusions" not in changes:
        with pytest.raises(ConfigError, match="use_fusions is always, but"):
            BACKEND.build(network, settings(**{"precision": "fp16", **changes, "use_fusions": "always"}), tmp_path)


def test_int8_without_the_plugins_is_refused(
    network: Network, true_width: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EngineBuildError, match="int8 kernels for 768 and 1024"):
        BACKEND.build(network, settings(), tmp_path)
    with pytest.raises(EngineBuildError, match="through NVIDIA's plugins only: they cannot be had"):
        BACKEND.build(true_width, settings(use_fusions="never"), tmp_path)
    bare = Network(true_width.model, None, None, "logits", variable=True)
    with pytest.raises(EngineBuildError, match="no activation ranges"):
        BACKEND.build(bare, settings(), tmp_path)


@pytest.mark.parametrize(
    ("changes", "capability", "used", "says"),
    [
        ({}, "9.0", True, "SmallTileGEMM_TRT: 3 matrix products"),
        ({}, "7.5", False, "not used, because .*no SmallTileGEMM_TRT for compute capability 7.5"),
        ({"precision": "fp16"}, "9.0", False, "not used, because SmallTileGEMM_TRT computes in int8"),
    ],
)
def test_small_tiles_are_used_where_nvidia_uses_them(
    true_width: Network,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    capability: str,
    used: bool,
    says: str,
) -> None:
    on_a(monkeypatch, capability)
    report = BACKEND.build(true_width, settings(use_small_tile_gemm_plugin=True, **changes), tmp_path)
    assert any(re.search(says, note) for note in report.details["notes"])
    assert ("SmallTileGEMM_TRT" in json.loads((tmp_path / "engine.json").read_text())["plugins"]) == used


def test_products_can_be_fully_connected_layers(network: Network, tmp_path: Path) -> None:
    report = BACKEND.build(network, settings(precision="fp16", builder_options="products=fully_connected"), tmp_path)
    assert report.details["options"]["products"] == "fully_connected"
    definition, _ = told()
    kinds = fake_trt.LayerType
    connected = {layer.name: layer for layer in definition.layers if layer.type is kinds.FULLY_CONNECTED}
    assert set(connected) == {"l0/qkv", "l0/projected", "l0/intermediate", "l0/output", "logits"}
    assert connected["l0/intermediate"].weights[0].shape == (512, 128, 1, 1)
    assert connected["l0/output"].precision is fake_trt.DataType.HALF
    read = {tensor.name for layer in definition.layers for tensor in layer._inputs}
    assert not [name for name in read if name.endswith("/convolution")]  # what nothing reads, TensorRT leaves out
    assert [(tensor.name, tensor.dtype.name) for tensor in definition.outputs] == [("logits", "HALF")]
    with pytest.raises(ConfigError, match="products is 'gemm'"):
        BACKEND.build(network, settings(precision="fp16", builder_options="products=gemm"), tmp_path)
    never = settings(precision="fp16", use_fusions="never", builder_options="products=convolution")
    with pytest.raises(ConfigError, match="no option 'products'"):
        BACKEND.build(network, never, tmp_path)


def test_warnings_of_tensors_without_ranges_are_left_out(true_width: Network, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        lines = (
            "Missing scale and zero-point for tensor l0/intermediate, expect fall back to non-int8 implementation",
            "Attribute dq_probs not found in plugin node! Ensure that the plugin creator has a default value",
            "a warning worth reading",
        )
        patch.setattr(fake_trt.Builder, "warnings", lines)
        assert BACKEND.build(true_width, settings(), tmp_path).details["warnings"] == ["a warning worth reading"]
