"""A network with what a transformer adds: matrix products with a bias, a composite operation, a stream past both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH = 32


def composite_net(path: Path, *, domain: str = "nvkit") -> Path:
    """Write x [N, tokens, 32] -> `first` -> `mixed`, added to x -> `last`; `mixed` and the addition are functions."""
    rng = np.random.default_rng(3)
    opsets = [helper.make_opsetid("", 17)]
    mix = [helper.make_node("Softmax", ["x"], ["weights"], axis=1), helper.make_node("Mul", ["x", "weights"], ["y"])]
    functions = [
        helper.make_function(domain, "Mix", ["x"], ["y"], mix, opsets),
        helper.make_function(domain, "Join", ["x", "z"], ["y"], [helper.make_node("Add", ["x", "z"], ["y"])], opsets),
    ]
    nodes, weights = [], []

    def dense(source: str, name: str) -> None:
        kernel = rng.standard_normal((WIDTH, WIDTH)).astype(np.float32) * rng.uniform(0.02, 0.5, WIDTH)
        bias = rng.standard_normal(WIDTH)
        for part, value in (("kernel", kernel), ("bias", bias)):
            weights.append(numpy_helper.from_array(value.astype(np.float32), f"{name}/{part}"))
        nodes.append(helper.make_node("MatMul", [source, f"{name}/kernel"], [f"{name}/product"]))
        nodes.append(helper.make_node("Add", [f"{name}/product", f"{name}/bias"], [name]))

    dense("x", "first")
    nodes.append(helper.make_node("Mix", ["first"], ["mixed"], domain=domain))
    nodes.append(helper.make_node("Join", ["mixed", "x"], ["joined"], domain=domain))
    dense("joined", "last")
    shape = ["N", "tokens", WIDTH]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("last", TensorProto.FLOAT, shape)],
        weights,
    )
    opsets.append(helper.make_opsetid(domain, 1))
    onnx.save(helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=8), str(path))
    return path
