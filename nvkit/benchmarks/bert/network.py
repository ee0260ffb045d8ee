"""The BERT graph for question answering: embeddings, encoder layers, a start and an end logit for each token.

What GPUs have one kernel for is one node at the top level of the graph: a call of a model-local function of domain
"nvkit", whose body in standard operators any runtime can run (`nvkit.benchmarks.bert.functions`). Top-level tensors
have names that stay: activation ranges are kept under them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from nvkit.benchmarks.bert.functions import DOMAIN, OPSET, functions
from nvkit.benchmarks.bert.tensors import HEAD_SIZE, INPUTS, OUTPUT

IR_VERSION = 8
"""Explicit, because every onnxruntime since 1.20 reads it and not every one reads the newest."""
EPSILON = 1e-12
"""Of every layer normalisation, as in BERT's own configuration."""
POSITIONS = 512
SEGMENTS = 2

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Size:
    """What tells one BERT from another.

    Attributes:
        layers: Encoder layers.
        heads: Attention heads of `HEAD_SIZE` channels each.
        vocabulary: Rows of the word embeddings.
    """

    layers: int
    heads: int
    vocabulary: int

    @property
    def hidden(self) -> int:
        """Channels between layers."""
        return self.heads * HEAD_SIZE

    @property
    def inner(self) -> int:
        """Channels inside of a feed-forward block."""
        return 4 * self.hidden


def bert_large(vocabulary: int, width: float = 1.0) -> Size:
    """Return BERT-large's size with the heads scaled by `width`; all 24 layers stay."""
    return Size(24, max(1, round(16 * width)), vocabulary)


def parameter_shapes(size: Size) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter in the order of the graph; kernels are [inputs, outputs]."""
    hidden, inner = size.hidden, size.inner
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings/word": (size.vocabulary, hidden),
        "embeddings/position": (POSITIONS, hidden),
        "embeddings/token_type": (SEGMENTS, hidden),
    }

    def dense(name: str, inputs: int, outputs: int) -> None:
        shapes.update({f"{name}/kernel": (inputs, outputs), f"{name}/bias": (outputs,)})

    def normalised(name: str) -> None:
        shapes.update({f"{name}/gamma": (hidden,), f"{name}/beta": (hidden,)})

    normalised("embeddings")
    for layer in range(size.layers):
        dense(f"l{layer}/qkv", hidden, 3 * hidden)
        dense(f"l{layer}/projected", hidden, hidden)
        normalised(f"l{layer}/attended")
        dense(f"l{layer}/intermediate", hidden, inner)
        dense(f"l{layer}/output", inner, hidden)
        normalised(f"l{layer}/hidden")
    dense(OUTPUT, hidden, 2)
    return shapes


def bert(parameters: Iterable[tuple[str, Floats]], size: Size) -> onnx.ModelProto:
    """Assemble the network.

    Args:
        parameters: Names and values of all of `parameter_shapes`, taken one by one. The columns of a `qkv` kernel are
            ordered q, k, v, and heads inside of each.
        size: The network's size.
    """
    dimensions = ["batch", "length"]
    model = helper.make_model(
        helper.make_graph(
            _nodes(size),
            "bert",
            [helper.make_tensor_value_info(name, TensorProto.INT32, dimensions) for name in INPUTS],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [*dimensions, 2])],
        ),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)],
        functions=functions(),
        ir_version=IR_VERSION,
        producer_name="nvkit",
    )
    for name, value in parameters:
        put_parameter(model, name, value)
    return model


def put_parameter(model: onnx.ModelProto, name: str, value: Floats) -> None:
    """Set an initialiser, in place: of more than a gigabyte of them no copy is made beside the model's own."""
    graph = model.graph
    tensor = next((known for known in graph.initializer if known.name == name), None) or graph.initializer.add()
    tensor.name = name
    tensor.data_type = TensorProto.FLOAT
    tensor.dims[:] = value.shape
    tensor.raw_data = np.ascontiguousarray(value, "<f4").tobytes()


def _nodes(size: Size) -> list[onnx.NodeProto]:
    graph = _Graph()
    ids, mask, segments = INPUTS
    tables = ["embeddings/word", "embeddings/position", "embeddings/token_type"]
    at = graph.normalise("EmbedLayerNorm", [ids, segments, *tables], "embeddings")
    for layer in (f"l{number}" for number in range(size.layers)):
        qkv = graph.dense(at, f"{layer}/qkv")
        attention = graph.call("SelfAttention", [qkv, mask], f"{layer}/attention", heads=size.heads)
        projected = graph.dense(attention, f"{layer}/projected")
        attended = graph.normalise("SkipLayerNorm", [projected, at], f"{layer}/attended")
        gelu = graph.call("Gelu", [graph.dense(attended, f"{layer}/intermediate")], f"{layer}/gelu")
        output = graph.dense(gelu, f"{layer}/output")
        at = graph.normalise("SkipLayerNorm", [output, attended], f"{layer}/hidden")
    graph.dense(at, OUTPUT)
    return graph.nodes


class _Graph:
    """Collects nodes; every method returns the name of the tensor that it makes, which is the node's name too."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []

    def call(self, function: str, sources: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(function, sources, [name], name=name, domain=DOMAIN, **attributes))
        return name

    def normalise(self, function: str, sources: list[str], name: str) -> str:
        return self.call(function, [*sources, f"{name}/gamma", f"{name}/beta"], name, epsilon=EPSILON)

    def dense(self, source: str, name: str) -> str:
        product = f"{name}/product"
        self.nodes.append(helper.make_node("MatMul", [source, f"{name}/kernel"], [product], name=product))
        self.nodes.append(helper.make_node("Add", [product, f"{name}/bias"], [name], name=name))
        return name
