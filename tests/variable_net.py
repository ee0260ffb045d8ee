"""A tiny network of variable length: each output tells of its token, of the whole sample, and of the padding."""

from __future__ import annotations

from pathlib import Path

import numpy as np

LONGEST = 12


def variable_net(path: Path) -> Path:
    """Write it: of `ids` and `mask`, int32 [batch, length], `out` is float [batch, length, 3].

    A row holds the token's id, the sum of the sample's ids, and the length to which the batch was padded.
    """
    from onnx import TensorProto, helper, numpy_helper, save_model

    nodes = [
        helper.make_node("Cast", ["ids"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["mask"], ["m"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["x", "m"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "one"], ["total"], keepdims=1),
        helper.make_node("Mul", ["x", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "total"], ["totals"]),
        helper.make_node("Shape", ["ids"], ["shape"]),
        helper.make_node("Gather", ["shape", "index"], ["length"]),
        helper.make_node("Cast", ["length"], ["padded"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["nothing", "padded"], ["lengths"]),
        *(helper.make_node("Unsqueeze", [name, "two"], [f"{name}/column"]) for name in ("x", "totals", "lengths")),
        helper.make_node("Concat", ["x/column", "totals/column", "lengths/column"], ["out"], axis=2),
    ]
    constants = {"one": np.array([1]), "two": np.array([2]), "index": np.array(1), "zero": np.array(0, np.float32)}
    graph = helper.make_graph(
        nodes,
        "variable",
        [helper.make_tensor_value_info(name, TensorProto.INT32, ["batch", "length"]) for name in ("ids", "mask")],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", "length", 3])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def variable_samples(count: int, seed: int = 1) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return padded samples of different lengths; what is not a token's holds ids that must not be counted."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, LONGEST + 1, count).astype(np.int32)
    ids = rng.integers(1, 100, (count, LONGEST)).astype(np.int32)
    mask = (np.arange(LONGEST) < lengths[:, None]).astype(np.int32)
    return {"ids": ids, "mask": mask}, lengths


def expected(ids: np.ndarray, length: int, padded: int) -> np.ndarray:
    """Return what the network gives for a sample in a batch that was padded to a length."""
    tokens = ids[:length].astype(np.float32)
    return np.stack([tokens, np.full(length, tokens.sum()), np.full(length, padded)], axis=1).astype(np.float32)
