"""A BERT with random weights, ranges by hand, and what NVIDIA's plugins compute, by numpy."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from nvkit.benchmarks.bert.network import Size, bert, parameter_shapes
from nvkit.engine.base import Network
from nvkit.quantize import Ranges, TensorRange
from nvkit.quantize.graph import observable, prepare
from nvkit.store import file_digest

Array = np.ndarray[Any, np.dtype[Any]]


def encoder(folder: Path, layers: int = 2, heads: int = 2, vocabulary: int = 60, seed: int = 0) -> Network:
    """Write network and ranges; every activation's range is told apart by its place."""
    rng = np.random.default_rng(seed)
    size = Size(layers, heads, vocabulary)
    parameters = {}
    for name, shape in parameter_shapes(size).items():
        scale = 1 / np.sqrt(shape[0]) if name.endswith("/kernel") else 0.1
        values = rng.standard_normal(shape, dtype=np.float32) * np.float32(scale)
        parameters[name] = values + 1 if name.endswith("/gamma") else values
    path = folder / "bert.onnx"
    onnx.save(bert(parameters.items(), size), str(path))
    names = observable(prepare(path))
    tensors = {name: TensorRange(4.0 + number / 8) for number, name in enumerate(names)}
    Ranges(tensors, "max", None, 1, file_digest(path), "").save(folder / "ranges.json")
    return Network(path, folder / "ranges.json", None, "logits", variable=True)


def samples(lengths: list[int], longest: int, vocabulary: int = 60, seed: int = 1) -> dict[str, Array]:
    """Return padded samples: ids, mask and segments, int32 [samples, longest]."""
    rng = np.random.default_rng(seed)
    mask = (np.arange(longest) < np.array(lengths)[:, None]).astype(np.int32)
    ids = rng.integers(1, vocabulary, mask.shape, dtype=np.int32) * mask
    segments = rng.integers(0, 2, mask.shape, dtype=np.int32) * mask
    return {"input_ids": ids, "input_mask": mask, "segment_ids": segments}


def fields(node: onnx.NodeProto) -> dict[str, Array]:
    """Return the fields that a plugin's node has."""
    return {entry.name: numpy_helper.to_array(entry.t) for entry in node.attribute if entry.HasField("t")}


def run_packed(model: onnx.ModelProto, inputs: Mapping[str, Array]) -> Array:
    """Compute a packed graph in fp32: plugins by numpy as their sources say, the rest by the ONNX reference."""
    values: dict[str, Array] = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    values |= inputs
    for node in model.graph.node:
        given = [values[name] for name in node.input]
        if node.op_type in _PLUGINS:
            made = _PLUGINS[node.op_type](fields(node), *given)
        elif node.op_type == "Conv":
            kernel, bias = given[1], given[2]
            assert given[0].shape[2:] == kernel.shape[2:] == (1, 1)
            made = (given[0][:, :, 0, 0] @ kernel[:, :, 0, 0].T + bias)[:, :, None, None]
        else:
            made = {"Pow": np.power, "Mul": np.multiply, "Add": np.add, "Tanh": np.tanh}[node.op_type](*given)
        made = made if isinstance(made, tuple) else (made,)
        values.update(zip(node.output, made, strict=True))
    return values[model.graph.output[0].name]


def _normalised(x: Array, gamma: Array, beta: Array) -> Array:
    mean, square = x.mean(axis=-1, keepdims=True), (x * x).mean(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(square - mean * mean) * gamma + beta


def _embedding(told: dict[str, Array], ids: Array, segments: Array, ends: Array, longest: Array) -> tuple[Array, Array]:
    assert ids.shape == segments.shape == (ends[-1],)
    assert len(longest) == np.diff(ends).max()
    places = np.concatenate([np.arange(n) for n in np.diff(ends)])
    tables = [told[f"bert_embeddings_{name}_embeddings"] for name in ("word", "token_type", "position")]
    total = sum(table[index] for table, index in zip(tables, (ids, segments, places), strict=True))
    gamma, beta = (told[f"bert_embeddings_layernorm_{name}"] for name in ("gamma", "beta"))
    return _normalised(np.asarray(total), gamma, beta)[:, :, None, None], np.zeros((), np.int32)


def _attention(told: dict[str, Array], qkv: Array, mask: Array, ends: Array, longest: Array) -> Array:
    heads = int(told["num_heads"][0])
    size = int(told["hidden_size"][0]) // heads
    by_head = qkv[:, :, 0, 0].reshape(len(qkv), heads, 3, size)
    result = np.empty((len(qkv), heads, size), np.float32)
    for start, end in itertools.pairwise(ends):
        q, k, v = (by_head[start:end, :, part].swapaxes(0, 1) for part in range(3))
        scores = q @ k.swapaxes(1, 2) / np.sqrt(size)
        exponents = np.exp(scores - scores.max(axis=-1, keepdims=True, initial=-np.inf))
        result[start:end] = (exponents / exponents.sum(axis=-1, keepdims=True) @ v).swapaxes(0, 1)
    return result.reshape(len(qkv), heads * size, 1, 1)


def _skip(told: dict[str, Array], branch: Array, skip: Array) -> Array:
    return _normalised((branch + skip)[:, :, 0, 0], told["gamma"], told["beta"])[:, :, None, None]


def _small_tile(told: dict[str, Array], x: Array) -> Array:
    made = x[:, :, 0, 0] @ told["weight"].T * told["scale"] + told["bias"]
    if "epilogueScaleBiasGelu" in told:
        made = made * 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (made + 0.044715 * made**3)))
    return made[:, :, None, None]


_PLUGINS: dict[str, Any] = {
    "CustomEmbLayerNormPluginDynamic": _embedding,
    "CustomQKVToContextPluginDynamic": _attention,
    "CustomSkipLayerNormPluginDynamic": _skip,
    "SmallTileGEMM_TRT": _small_tile,
}


def plain(path: Path, inputs: Mapping[str, Array]) -> Array:
    """Return the logits of the network itself, padded, by ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["logits"], dict(inputs))[0])
