"""A network so small that the harness is what costs: ResNet-50's input and outputs, 16 KB of weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nvkit.engine.base import Network
from nvkit.stages.engines import Engine, build_engine
from nvkit.store import Store, replacing

INPUT = "input_tensor:0"
CLASS = "ArgMax:0"
SCORES = "softmax_tensor:0"
_CLASSES = 1001
_SEED = 1
_VERSION = 1


def small_network(store: Store) -> Path:
    """Return the ONNX file: mean of each colour plane, one dense layer, softmax and ArgMax."""
    artefact = store.get_or_make("models", {"bench network": _VERSION, "seed": _SEED}, _write)
    return artefact.path / "small.onnx"


def small_engine(store: Store, settings: Any) -> Engine:
    """Return the engine of the small network for these settings."""
    return build_engine(store, Network(small_network(store), None, None, CLASS), settings)


def _write(folder: Path) -> None:
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(_SEED)
    weights = rng.standard_normal((3, _CLASSES), dtype=np.float32)
    bias = rng.standard_normal(_CLASSES, dtype=np.float32)
    nodes = [
        helper.make_node("GlobalAveragePool", [INPUT], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["means"]),
        helper.make_node("Gemm", ["means", "weights", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], [SCORES]),
        helper.make_node("ArgMax", ["logits"], [CLASS], axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", 3, 224, 224])],
        [
            helper.make_tensor_value_info(CLASS, TensorProto.INT64, ["batch"]),
            helper.make_tensor_value_info(SCORES, TensorProto.FLOAT, ["batch", _CLASSES]),
        ],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(bias, "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    with replacing(folder / "small.onnx") as temporary:
        onnx.save_model(model, str(temporary))
