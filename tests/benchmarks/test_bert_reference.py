"""BERT's graph and the files that it is read from."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from nvkit.benchmarks.base import Model
from nvkit.benchmarks.bert import BENCHMARK, reference
from nvkit.benchmarks.bert.checkpoint import read_checkpoint
from nvkit.benchmarks.bert.network import parameter_shapes
from nvkit.benchmarks.published import Published
from nvkit.errors import ChecksumError, ModelError, SetupError
from nvkit.quantize.graph import observable, prepare
from nvkit.quantize.ranges import Ranges
from nvkit.store import Store

from . import torch_bert


def settings(**values: Any) -> SimpleNamespace:
    return SimpleNamespace(**{"model_path": None, "download_model": False, "precision": "int8", **values})


def run(model: Model, ids: np.ndarray, segments: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
    mask = np.ones_like(ids) if mask is None else mask
    feeds = {"input_ids": ids, "input_mask": mask, "segment_ids": segments}
    found: np.ndarray = session.run(["logits"], {name: value.astype(np.int32) for name, value in feeds.items()})[0]
    return found


@pytest.fixture(scope="module")
def parameters() -> torch_bert.State:
    return torch_bert.state()


@pytest.fixture(scope="module")
def model(parameters: torch_bert.State, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("bert")
    path = torch_bert.save(folder / "own.onnx", {**parameters, **torch_bert.amax()})
    return BENCHMARK.model(settings(model_path=path), Store(folder / "store"))


def test_the_network_computes_what_pytorchs_does(parameters: torch_bert.State, model: Model) -> None:
    rng = np.random.default_rng(1)
    ids, segments = rng.integers(0, torch_bert.VOCABULARY, (2, 37)), np.repeat([[0], [1]], [9, 28], axis=0).T
    segments = np.repeat(segments, 2, axis=0)
    found = run(model, ids, segments)
    assert found.shape == (2, 37, 2)
    for row in range(2):
        assert np.allclose(found[row], torch_bert.logits(parameters, ids[row], segments[row]), atol=2e-4)


def test_padding_changes_nothing(model: Model) -> None:
    rng = np.random.default_rng(2)
    ids, segments = rng.integers(1, torch_bert.VOCABULARY, (1, 20)), np.ones((1, 20), np.int64)
    padded = {"ids": np.pad(ids, ((0, 0), (0, 12))), "segments": np.pad(segments, ((0, 0), (0, 12)))}
    mask = np.pad(np.ones_like(ids), ((0, 0), (0, 12)))
    assert np.allclose(run(model, **padded, mask=mask)[:, :20], run(model, ids, segments), atol=1e-5)


def test_what_the_file_says_of_itself(model: Model) -> None:
    assert not model.synthetic
    assert model.variable
    assert model.description == "custom BERT own.onnx"
    assert "not a reference file" in model.notes[0]
    assert [spec.name for spec in model.inputs] == ["input_ids", "input_mask", "segment_ids"]


def test_trained_magnitudes_become_ranges(model: Model) -> None:
    assert model.ranges is not None
    ranges = Ranges.load(model.ranges)
    assert ranges.method == "trained"
    assert ranges.model == model.digest
    found = {name: entry.amax for name, entry in ranges.tensors.items()}
    assert found["embeddings"] == 1.0
    # queries, keys and values are one tensor: the largest of qv_a (4), qv_b (5) and av_b (7), without av_a
    assert found["l0/qkv"] == 7.0
    assert found["l0/attention/probabilities"] == 6.0
    assert [found[f"l0/{name}"] for name in ("attention", "projected", "attended", "gelu", "output")] == [
        8,
        9,
        10,
        12,
        13,
    ]
    assert found["l0/hidden"] == 14.0  # what the second layer's query reads
    assert found["l1/hidden"] == 27.0  # the final quantizer's
    # between a product and its GELU training quantises nothing, and no backend needs it
    assert set(observable(prepare(model.path))) - set(found) == {"l0/intermediate", "l1/intermediate"}


def test_floats_take_no_ranges(parameters: torch_bert.State, tmp_path: Path) -> None:
    path = torch_bert.save(tmp_path / "own.onnx", {**parameters, **torch_bert.amax()})
    assert BENCHMARK.model(settings(model_path=path, precision="fp16"), Store(tmp_path)).ranges is None
    torch_bert.save(path, parameters)
    assert BENCHMARK.model(settings(model_path=path), Store(tmp_path)).ranges is None


def test_kernels_are_found_beside_their_biases(parameters: torch_bert.State, tmp_path: Path) -> None:
    plain = read_checkpoint(torch_bert.save(tmp_path / "plain.onnx", parameters))
    folded = read_checkpoint(torch_bert.save(tmp_path / "folded.onnx", parameters, folded=True))
    assert plain.size == folded.size
    assert list(plain.parameters) == list(folded.parameters) == list(parameter_shapes(plain.size))
    assert all((plain.parameters[name] == folded.parameters[name]).all() for name in plain.parameters)


def test_modules_around_the_encoder_do_not_matter(parameters: torch_bert.State, tmp_path: Path) -> None:
    wrapped = {f"model.{name}": value for name, value in parameters.items()}
    found = read_checkpoint(torch_bert.save(tmp_path / "wrapped.onnx", wrapped))
    assert (found.parameters["logits/kernel"] == parameters["qa_outputs.weight"].T).all()


def test_what_is_missing_is_named(parameters: torch_bert.State, tmp_path: Path) -> None:
    path = tmp_path / "own.onnx"

    def broken(message: str, changed: torch_bert.State) -> None:
        torch_bert.save(path, changed)
        with pytest.raises(ModelError, match=message) as caught:
            read_checkpoint(path)
        assert caught.value.fix

    query = "bert.encoder.layer.1.attention.self.query"
    without = {name: value for name, value in parameters.items() if name != f"{query}.bias"}
    broken(r"lacks 1 of the initialisers of a BERT: encoder\.layer\.1\.attention\.self\.query\.bias", without)
    no_words = {name: value for name, value in parameters.items() if "word" not in name}
    broken(r"it is no BERT", no_words)
    narrow = {**parameters, f"{query}.weight": parameters[f"{query}.weight"][:64]}
    broken(r"l1/qkv/kernel the shape \[128, 320\], not \[128, 384\]", narrow)
    amax = torch_bert.amax()
    del amax["bert.encoder.final_input_quantizer._amax"]
    broken(r"lacks 1 .*final_input_quantizer\._amax", {**parameters, **amax})
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ModelError, match="5,000 bytes"):
        read_checkpoint(path)


def test_reference_files_are_told_by_their_checksum(
    parameters: torch_bert.State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = torch_bert.save(tmp_path / "bert_large_v1_1_fake_quant.onnx", {**parameters, **torch_bert.amax()})
    with pytest.raises(ChecksumError, match="45f88ffb2915362242703c85c38ec2d4"):
        BENCHMARK.model(settings(model_path=path), Store(tmp_path))
    known = Published(path.name, "https://example.org/x", hashlib.md5(path.read_bytes()).hexdigest())
    monkeypatch.setattr(reference, "REFERENCES", (known,))
    model = BENCHMARK.model(settings(model_path=path), Store(tmp_path))
    assert model.description == "MLPerf reference bert_large_v1_1_fake_quant.onnx (https://example.org/x)"
    assert model.notes == ("activation ranges: those that were trained with the weights, without calibration",)


@pytest.mark.parametrize(("precision", "record"), [("int8", "3750364"), ("fp16", "3733910")])
def test_the_download_is_that_of_the_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, record: str
) -> None:
    import pooch

    def no_network(*args: Any, **kwargs: Any) -> str:
        raise ConnectionError("name resolution failed")

    monkeypatch.setattr(pooch, "retrieve", no_network)
    with pytest.raises(SetupError, match=record):
        BENCHMARK.model(settings(download_model=True, precision=precision), Store(tmp_path))
