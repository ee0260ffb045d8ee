from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nvkit.benchmarks.base import SampleSet
from nvkit.config import Settings
from nvkit.engine import backend
from nvkit.engine.base import Network
from nvkit.harness import TestSpec


@pytest.fixture
def null_spec(tmp_path: Path) -> Any:
    """Make the spec of a test on the null backend: `null_spec(scenario, mode, **settings)`."""
    from onnx import TensorProto, helper, save_model

    graph = helper.make_graph(
        [helper.make_node("ArgMax", ["x"], ["y"], axis=1, keepdims=0)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, ["N"])],
    )
    model, array, engine = tmp_path / "m.onnx", tmp_path / "x.npy", tmp_path / "engine"
    save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), model)
    np.save(array, np.zeros((50, 4), np.float32))
    engine.mkdir()

    def make(scenario: str, mode: str = "performance", **values: Any) -> TestSpec:
        defaults = {"backend": "null", "min_duration": 200, "warmup_duration": 0.0, "performance_sample_count": 20}
        settings = Settings.model_validate({**defaults, **values})
        backend("null").build(Network(model, None, None, "y"), settings, engine)
        return TestSpec("resnet50", scenario, mode, settings, engine, SampleSet({"x": array}, 50, "d"))

    return make
