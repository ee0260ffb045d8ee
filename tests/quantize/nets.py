"""Small networks with the shapes that matter: a stem, a residual block, a pool, a classifier."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CLASSES = 7
IMAGE = (3, 16, 16)


def residual_net(path: Path, *, seed: int = 0, opset: int = 13, weights_as_inputs: bool = False) -> Path:
    """Write input:0 [N,3,16,16] -> logits [N,7], with batch normalisation, a residual addition and an ArgMax output."""
    rng = np.random.default_rng(seed)
    nodes, weights = [], []

    def constant(name: str, value: np.ndarray) -> str:
        weights.append(numpy_helper.from_array(value.astype(np.float32), name))
        return name

    def conv(x: str, name: str, inner: int, outer: int, kernel: int) -> str:
        scale = np.sqrt(2 / (inner * kernel * kernel)) * rng.uniform(0.3, 2.0, (outer, 1, 1, 1))
        w = constant(name + "_w", rng.standard_normal((outer, inner, kernel, kernel)) * scale)
        b = constant(name + "_b", rng.standard_normal(outer) * 0.1)
        nodes.append(helper.make_node("Conv", [x, w, b], [name], name=name, pads=[kernel // 2] * 4))
        return name

    def relu(x: str) -> str:
        nodes.append(helper.make_node("Relu", [x], [x + "_relu"], name=x + "_relu"))
        return x + "_relu"

    stem = conv("input:0", "stem", 3, 16, 3)
    moments = [
        constant(f"bn_{k}", v) for k, v in zip("sbmv", (1.1, 0.1, 0.05, 0.9), strict=True) for v in [np.full(16, v)]
    ]
    nodes.append(helper.make_node("BatchNormalization", [stem, *moments], ["normed"], name="bn"))
    nodes.append(
        helper.make_node("MaxPool", [relu("normed")], ["pooled"], kernel_shape=[2, 2], strides=[2, 2], name="pool")
    )
    branch = conv(relu(conv("pooled", "first", 16, 16, 3)), "second", 16, 32, 1)
    nodes.append(helper.make_node("Add", [branch, conv("pooled", "shortcut", 16, 32, 1)], ["sum"], name="sum"))
    nodes.append(helper.make_node("ReduceMean", [relu("sum")], ["gap"], axes=[2, 3], keepdims=0, name="gap"))
    nodes.append(
        helper.make_node("MatMul", ["gap", constant("fc_w", rng.standard_normal((32, CLASSES)))], ["fc"], name="fc")
    )
    nodes.append(
        helper.make_node("Add", ["fc", constant("fc_b", rng.standard_normal(CLASSES))], ["logits"], name="bias")
    )
    nodes.append(helper.make_node("ArgMax", ["logits"], ["ArgMax:0"], axis=1, keepdims=0, name="argmax"))

    inputs = [helper.make_tensor_value_info("input:0", TensorProto.FLOAT, ["N", *IMAGE])]
    if weights_as_inputs:
        inputs += [helper.make_tensor_value_info(t.name, TensorProto.FLOAT, t.dims) for t in weights]
    outputs = [
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", CLASSES]),
        helper.make_tensor_value_info("ArgMax:0", TensorProto.INT64, ["N"]),
    ]
    graph = helper.make_graph(nodes, "net", inputs, outputs, weights)
    ir = 3 if weights_as_inputs else 8
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir), str(path))
    return path


def images(count: int, seed: int = 1) -> np.ndarray:
    """Return float32[count, 3, 16, 16]."""
    return np.random.default_rng(seed).standard_normal((count, *IMAGE)).astype(np.float32)


def outputs(path: Path, samples: np.ndarray, name: str = "logits") -> np.ndarray:
    """Run a network with ONNX Runtime as it comes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run([name], {"input:0": samples})[0]
