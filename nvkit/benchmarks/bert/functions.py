"""BERT's composite operations, as model-local ONNX functions in standard operators.

A runtime without kernels of its own for them runs these bodies, and its optimiser sees the patterns that it knows.
"""

from __future__ import annotations

import math

import onnx
from onnx import AttributeProto, TensorProto, helper

from nvkit.benchmarks.bert.tensors import HEAD_SIZE

DOMAIN = "nvkit"
OPSET = 17
"""The first with LayerNormalization."""

_MASKED = -10000.0
"""Added to the scores of padding, as BERT's own code does."""


def functions() -> list[onnx.FunctionProto]:
    """Return EmbedLayerNorm, SelfAttention, SkipLayerNorm and Gelu."""
    return [_embed_layer_norm(), _self_attention(), _skip_layer_norm(), _gelu()]


def _embed_layer_norm() -> onnx.FunctionProto:
    """Embeddings of token, position and segment, added and normalised: [batch, length] to [batch, length, hidden]."""
    tables = ["word", "position", "token_type"]
    return _function(
        "EmbedLayerNorm",
        ["input_ids", "segment_ids", *tables, "gamma", "beta"],
        [
            helper.make_node("Gather", ["word", "input_ids"], ["words"]),
            helper.make_node("Gather", ["token_type", "segment_ids"], ["segments"]),
            helper.make_node("Add", ["words", "segments"], ["placeless"]),
            _integers("first", [0]),
            helper.make_node("Shape", ["input_ids"], ["length"], start=1, end=2),
            helper.make_node("Slice", ["position", "first", "length", "first"], ["positions"]),
            helper.make_node("Add", ["placeless", "positions"], ["sum"]),
            _layer_norm("sum"),
        ],
        "epsilon",
    )


def _self_attention() -> onnx.FunctionProto:
    """Attention of each token to all tokens of its sample: [batch, length, 3 hidden] to [batch, length, hidden]."""
    split = [
        node
        for name, order in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3]))
        for node in (
            helper.make_node("Reshape", [name, "split_shape"], [f"{name}_split"]),
            helper.make_node("Transpose", [f"{name}_split"], [f"{name}_heads"], perm=order),
        )
    ]
    return _function(
        "SelfAttention",
        ["qkv", "input_mask"],
        [
            helper.make_node("Split", ["qkv"], ["q", "k", "v"], axis=2),
            _with_attribute(helper.make_node("Constant", [], ["heads"]), "value_int", "heads", AttributeProto.INT),
            _integers("first", [0]),
            helper.make_node("Unsqueeze", ["heads", "first"], ["head_count"]),
            _integers("kept", [0, 0]),  # batch and length as they are
            _integers("head_size", [HEAD_SIZE]),
            helper.make_node("Concat", ["kept", "head_count", "head_size"], ["split_shape"], axis=0),
            *split,
            _number("scale", 1 / math.sqrt(HEAD_SIZE)),
            helper.make_node("Mul", ["q_heads", "scale"], ["q_scaled"]),
            helper.make_node("MatMul", ["q_scaled", "k_heads"], ["scores"]),
            helper.make_node("Cast", ["input_mask"], ["tokens"], to=TensorProto.FLOAT),
            _number("one", 1.0),
            helper.make_node("Sub", ["one", "tokens"], ["padding"]),
            _number("masked", _MASKED),
            helper.make_node("Mul", ["padding", "masked"], ["penalty"]),
            _integers("middle", [1, 2]),
            helper.make_node("Unsqueeze", ["penalty", "middle"], ["penalty_of_heads"]),
            helper.make_node("Add", ["scores", "penalty_of_heads"], ["masked_scores"]),
            helper.make_node("Softmax", ["masked_scores"], ["probabilities"], axis=-1),
            helper.make_node("MatMul", ["probabilities", "v_heads"], ["context"]),
            helper.make_node("Transpose", ["context"], ["context_split"], perm=[0, 2, 1, 3]),
            _integers("merged_shape", [0, 0, -1]),
            helper.make_node("Reshape", ["context_split", "merged_shape"], ["y"]),
        ],
        "heads",
    )


def _skip_layer_norm() -> onnx.FunctionProto:
    """A block's output and what went past it, added and normalised over the channels."""
    nodes = [helper.make_node("Add", ["x", "skip"], ["sum"]), _layer_norm("sum")]
    return _function("SkipLayerNorm", ["x", "skip", "gamma", "beta"], nodes, "epsilon")


def _gelu() -> onnx.FunctionProto:
    """x times the normal distribution's cumulative function of x, by erf: what the reference file computes."""
    nodes = [
        _number("root", math.sqrt(2)),
        helper.make_node("Div", ["x", "root"], ["scaled"]),
        helper.make_node("Erf", ["scaled"], ["erf"]),
        _number("one", 1.0),
        helper.make_node("Add", ["erf", "one"], ["twice"]),
        helper.make_node("Mul", ["x", "twice"], ["twice_gelu"]),
        _number("half", 0.5),
        helper.make_node("Mul", ["twice_gelu", "half"], ["y"]),
    ]
    return _function("Gelu", ["x"], nodes)


def _function(name: str, inputs: list[str], nodes: list[onnx.NodeProto], *attributes: str) -> onnx.FunctionProto:
    return helper.make_function(DOMAIN, name, inputs, ["y"], nodes, [helper.make_opsetid("", OPSET)], attributes)


def _with_attribute(node: onnx.NodeProto, name: str, of_function: str, kind: int) -> onnx.NodeProto:
    """Give a node an attribute whose value is the function's."""
    node.attribute.append(AttributeProto(name=name, ref_attr_name=of_function, type=kind))  # type: ignore[arg-type]
    return node


def _layer_norm(source: str) -> onnx.NodeProto:
    node = helper.make_node("LayerNormalization", [source, "gamma", "beta"], ["y"], axis=-1)
    return _with_attribute(node, "epsilon", "epsilon", AttributeProto.FLOAT)


def _number(name: str, value: float) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value_float=value)


def _integers(name: str, values: list[int]) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value_ints=values)
