"""A BERT for question answering as PyTorch has it: parameters by name, and what it computes, in numpy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HIDDEN, INNER, VOCABULARY = 128, 512, 60

State = dict[str, np.ndarray]


def state(layers: int = 2, seed: int = 5) -> State:
    """Return random parameters of two heads; kernels are [outputs, inputs]."""
    rng = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "bert.embeddings.word_embeddings.weight": (VOCABULARY, HIDDEN),
        "bert.embeddings.position_embeddings.weight": (512, HIDDEN),
        "bert.embeddings.token_type_embeddings.weight": (2, HIDDEN),
        "bert.embeddings.LayerNorm.weight": (HIDDEN,),
        "qa_outputs.weight": (2, HIDDEN),
    }
    for layer in range(layers):
        at = f"bert.encoder.layer.{layer}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            shapes[f"{at}.attention.{part}.weight"] = (HIDDEN, HIDDEN)
        shapes[f"{at}.attention.output.LayerNorm.weight"] = (HIDDEN,)
        shapes[f"{at}.intermediate.dense.weight"] = (INNER, HIDDEN)
        shapes[f"{at}.output.dense.weight"] = (HIDDEN, INNER)
        shapes[f"{at}.output.LayerNorm.weight"] = (HIDDEN,)
    found: State = {}
    for name, shape in shapes.items():
        scale = 1.0 if "embeddings" in name or len(shape) == 1 else 1.5 / math.sqrt(shape[-1])
        found[name] = (scale * rng.standard_normal(shape)).astype(np.float32)
        if "_embeddings" not in name:
            found[name.replace(".weight", ".bias")] = rng.standard_normal(shape[0]).astype(np.float32)
    return found


def amax(layers: int = 2) -> State:
    """Return the magnitudes of a fake-quantised export, each another one: 1, 2, 3, ..."""
    names = []
    for layer in range(layers):
        at = f"bert.encoder.layer.{layer}"
        names += [f"{at}.attention.self.{part}.input_quantizer" for part in ("query", "key", "value")]
        names += [f"{at}.attention.self.{part}_input_quantizer" for part in ("qv_a", "qv_b", "av_a", "av_b")]
        names += [f"{at}.attention.output.dense.input_quantizer", f"{at}.attention.output.add_local_input_quantizer"]
        names += [f"{at}.intermediate.dense.input_quantizer", f"{at}.intermediate.dense.weight_quantizer"]
        names += [f"{at}.output.dense.input_quantizer", f"{at}.output.add_local_input_quantizer"]
    names.append("bert.encoder.final_input_quantizer")
    return {f"{name}._amax": np.float32(1 + number) for number, name in enumerate(names)}


def save(path: Path, parameters: Mapping[str, np.ndarray], *, folded: bool = False) -> Path:
    """Write an ONNX file with these initialisers, with `folded` kernels turned round under numbers for names.

    Of the graph it has what a reader may go by: the products and the additions of biases.
    """
    weights, nodes = [], []
    for number, (name, value) in enumerate(parameters.items()):
        kernel = value.ndim == 2 and "embeddings" not in name
        key = f"onnx::MatMul_{number}" if kernel and folded else name
        kept = np.ascontiguousarray(value.T) if kernel and folded else value
        weights.append(numpy_helper.from_array(np.asarray(kept, np.float32), key))
        if kernel:
            nodes.append(helper.make_node("MatMul", [f"x{number}", key], [f"product{number}"]))
            nodes.append(
                helper.make_node("Add", [name.replace(".weight", ".bias"), f"product{number}"], [f"sum{number}"])
            )
    output = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "torch-jit-export", [], [output], weights)
    onnx.save(helper.make_model(graph), str(path))
    return path


def logits(parameters: State, ids: np.ndarray, segments: np.ndarray, heads: int = 2) -> np.ndarray:
    """Return what the network gives for one sample: start and end logits [tokens, 2]."""
    values = {name: value.astype(np.float64) for name, value in parameters.items()}

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ values[f"{name}.weight"].T + values[f"{name}.bias"]

    def normed(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(axis=-1, keepdims=True)
        unit = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-12)
        return unit * values[f"{name}.LayerNorm.weight"] + values[f"{name}.LayerNorm.bias"]

    tables = {part: values[f"bert.embeddings.{part}_embeddings.weight"] for part in ("word", "position", "token_type")}
    x = normed(tables["word"][ids] + tables["position"][: len(ids)] + tables["token_type"][segments], "bert.embeddings")
    layers = sum(name.endswith("query.weight") for name in values)
    for at in (f"bert.encoder.layer.{layer}" for layer in range(layers)):
        query, key, value = (
            linear(x, f"{at}.attention.self.{part}").reshape(len(ids), heads, -1).swapaxes(0, 1)
            for part in ("query", "key", "value")
        )
        scores = np.exp(query @ key.swapaxes(1, 2) / 8)
        context = (scores / scores.sum(axis=-1, keepdims=True)) @ value
        context = context.swapaxes(0, 1).reshape(len(ids), -1)
        x = normed(x + linear(context, f"{at}.attention.output.dense"), f"{at}.attention.output")
        inner = linear(x, f"{at}.intermediate.dense")
        inner = inner * 0.5 * (1 + np.vectorize(math.erf)(inner / math.sqrt(2)))
        x = normed(x + linear(inner, f"{at}.output.dense"), f"{at}.output")
    return linear(x, "qa_outputs")
