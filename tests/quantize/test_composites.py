"""Networks with composite operations: model-local functions that some backends have one kernel for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from nvkit.quantize import QdqReport, Ranges, collect, quantize
from nvkit.quantize.graph import observable, prepare, quantizable

from .composites import WIDTH, composite_net


def tokens(count: int, length: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, length, WIDTH)).astype(np.float32)


def run(path: Path, samples: np.ndarray, optimised: Path | None = None) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if optimised:
        options.optimized_model_filepath = str(optimised)
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(["last"], {"x": samples})[0]


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return composite_net(tmp_path_factory.mktemp("composite") / "net.onnx")


@pytest.fixture(scope="module")
def ranges(net: Path) -> Ranges:
    # samples of different lengths, as text has them
    return collect(net, ({"x": tokens(1, 5 + seed, seed)} for seed in range(16)), "max", total=16)


@pytest.fixture(scope="module")
def report(net: Path, ranges: Ranges, tmp_path_factory: pytest.TempPathFactory) -> QdqReport:
    return quantize(net, ranges, tmp_path_factory.mktemp("qdq") / "qdq.onnx")


def test_calls_are_kept(net: Path) -> None:
    model = prepare(net)
    assert Counter(node.op_type for node in model.graph.node) == {"MatMul": 2, "Add": 2, "Mix": 1, "Join": 1}
    assert len(model.functions) == 2


def test_functions_of_others_are_seen_through(tmp_path: Path) -> None:
    model = prepare(composite_net(tmp_path / "net.onnx", domain="custom"))
    assert {"Softmax", "Mul"} <= {node.op_type for node in model.graph.node}


def test_inputs_of_products_are_quantised_and_more_is_observed(net: Path, ranges: Ranges) -> None:
    assert quantizable(prepare(net)) == ["x", "joined"]  # neither a product before its bias nor a composite's input
    assert observable(prepare(net)) == ["x", "first", "mixed", "joined"]
    assert list(ranges.tensors) == ["x", "first", "mixed", "joined"]


def test_int8_stays_close_to_fp32(net: Path, report: QdqReport) -> None:
    samples = tokens(8, 40, seed=99)
    exact, found = run(net, samples), run(report.path, samples)
    assert np.sqrt(((found - exact) ** 2).mean() / (exact**2).mean()) < 0.02
    assert (found != exact).any()
    assert report.layers == {"MatMul": 2}
    assert report.tensors == ("x", "joined")


def test_both_products_run_in_int8_with_a_scale_for_each_output(report: QdqReport, tmp_path: Path) -> None:
    run(report.path, tokens(1, 3, seed=0), tmp_path / "optimised.onnx")
    found = Counter(node.op_type for node in onnx.load(str(tmp_path / "optimised.onnx")).graph.node)
    assert found["MatMulIntegerToFloat"] == 2
    assert "DequantizeLinear" not in found  # what goes past the first product stays float
    scales = [t for t in onnx.load(str(report.path)).graph.initializer if t.name.endswith("kernel_scale")]
    assert [list(scale.dims) for scale in scales] == [[WIDTH], [WIDTH]]
