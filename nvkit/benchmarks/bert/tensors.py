"""Names and shapes of the network's inputs and output, as in MLPerf's scripts.

They stand apart so that preprocessing needs no ONNX.
"""

from __future__ import annotations

from nvkit.benchmarks.base import TensorSpec

INPUTS = ("input_ids", "input_mask", "segment_ids")
"""Token ids; 1 for tokens and 0 for padding; 0 for the question and 1 for the context. int32 [batch, length]."""
OUTPUT = "logits"
"""Start and end logit of each token, float32 [batch, length, 2]."""
MAX_LENGTH = 384
"""Tokens of the longest sample."""
HEAD_SIZE = 64
"""Channels of an attention head, in BERT-base and BERT-large alike."""


def input_specs() -> tuple[TensorSpec, ...]:
    """Return the inputs of a sample of the greatest length."""
    return tuple(TensorSpec(name, "int32", (MAX_LENGTH,)) for name in INPUTS)


def output_spec() -> TensorSpec:
    """Return the output of a sample of the greatest length."""
    return TensorSpec(OUTPUT, "float32", (MAX_LENGTH, 2))
