from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from nvkit.errors import RangesError
from nvkit.quantize import SCHEMES, Ranges, TensorRange, collect, quantize
from nvkit.store import file_digest

from .nets import images, outputs, residual_net


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return residual_net(tmp_path_factory.mktemp("net") / "net.onnx")


@pytest.fixture(scope="module")
def ranges(net: Path) -> Ranges:
    return collect(net, ({"input:0": images(8, seed)} for seed in range(8)), "max", total=64)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("opset", [8, 13])
def test_int8_stays_close_to_fp32(tmp_path: Path, scheme: str, opset: int) -> None:
    net = residual_net(tmp_path / "net.onnx", opset=opset, weights_as_inputs=opset == 8)
    ranges = collect(net, ({"input:0": images(8, seed)} for seed in range(8)), "max", total=64)
    report = quantize(net, ranges, tmp_path / "qdq.onnx", scheme=scheme)
    samples = images(64, seed=99)
    exact, found = outputs(net, samples), outputs(report.path, samples)
    assert np.sqrt(((found - exact) ** 2).mean() / (exact**2).mean()) < 0.03
    assert (found != exact).any()
    assert (outputs(report.path, samples, "ArgMax:0") == found.argmax(1)).all()
    assert sum(report.layers.values()) == 5  # 4 convolutions and the classifier
    assert report.without_range == ()
    assert report.digest == file_digest(report.path)


def test_uint8_leaves_no_float_islands(net: Path, ranges: Ranges, tmp_path: Path) -> None:
    import onnxruntime

    report = quantize(net, ranges, tmp_path / "qdq.onnx")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(str(report.path), options, providers=["CPUExecutionProvider"])
    found = Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)
    assert found["QLinearConv"] == 4
    assert found["QLinearAdd"] == 1
    assert not {"Conv", "Relu", "FusedConv"} & set(found)
    # The input is quantised once; the pooled features are averaged in float and quantised for the classifier.
    assert found["QuantizeLinear"] == 2


def initialisers(path: Path) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(str(path)).graph.initializer}


def parameters(path: Path) -> dict[str, tuple[float, int, np.dtype]]:
    """Map each quantised tensor to its scale, zero point and type."""
    values = initialisers(path)
    return {
        node.input[0]: (float(values[node.input[1]]), int(values[node.input[2]]), values[node.input[2]].dtype)
        for node in onnx.load(str(path)).graph.node
        if node.op_type == "QuantizeLinear" and values[node.input[1]].size == 1
    }


def test_uint8_scales_follow_the_ranges(net: Path, ranges: Ranges, tmp_path: Path) -> None:
    report = quantize(net, ranges, tmp_path / "qdq.onnx")
    found = parameters(report.path)
    for name, zero in (("input:0", 128), ("second", 128), ("first_relu", 0), ("gap", 0)):
        scale, point, dtype = found[name]
        assert (point, dtype) == (zero, np.uint8)
        span = ranges.tensors[name].amax * (2 if zero else 1)
        assert scale == pytest.approx(span / 255, rel=1e-6)


def test_int8_is_symmetric_and_leaves_the_fused_addition_alone(net: Path, ranges: Ranges, tmp_path: Path) -> None:
    report = quantize(net, ranges, tmp_path / "qdq.onnx", scheme="int8")
    found = parameters(report.path)
    for name in report.tensors:
        if name in found:  # a tensor of the same scale as its source shares the source's parameters
            scale, point, dtype = found[name]
            assert (point, dtype) == (0, np.int8)
            assert scale == pytest.approx(ranges.tensors[name].amax / 127, rel=0.005)
    assert "second" not in report.tensors
    assert "shortcut" in report.tensors


def test_weights_are_int8_with_a_scale_for_each_channel(net: Path, ranges: Ranges, tmp_path: Path) -> None:
    report = quantize(net, ranges, tmp_path / "qdq.onnx")
    exact, found = initialisers(net), initialisers(report.path)
    weight, scale = found["second_w_quantized"], found["second_w_scale"]
    largest = np.abs(exact["second_w"]).max(axis=(1, 2, 3))
    assert weight.dtype == np.int8
    np.testing.assert_allclose(scale, largest / 127, rtol=0.005)
    np.testing.assert_allclose(weight * scale[:, None, None, None], exact["second_w"], atol=scale.max())
    assert found["second_b_quantized"].dtype == np.int32


def test_values_beyond_amax_are_clipped(net: Path, ranges: Ranges, tmp_path: Path) -> None:
    tight = dict(ranges.tensors)
    tight["input:0"] = TensorRange(0.01)
    report = quantize(net, replace(ranges, tensors=tight), tmp_path / "qdq.onnx")
    inside = np.full((1, 3, 16, 16), 0.01, np.float32)
    assert np.array_equal(outputs(report.path, inside), outputs(report.path, inside * 1000))


def test_tensors_without_a_range_stay_float_and_are_named(net: Path, ranges: Ranges, tmp_path: Path) -> None:
    fewer = {name: entry for name, entry in ranges.tensors.items() if name not in ("gap", "second")}
    report = quantize(net, replace(ranges, tensors=fewer), tmp_path / "qdq.onnx")
    assert report.without_range == ("second", "gap")
    samples = images(16)
    error = outputs(report.path, samples) - outputs(net, samples)
    assert np.abs(error).max() < 0.1 * np.abs(outputs(net, samples)).max()


def test_a_tensor_of_zeros_can_be_quantised(net: Path, ranges: Ranges, tmp_path: Path) -> None:
    dead = {**ranges.tensors, "gap": TensorRange(0.0, 0.0, 0.0)}
    report = quantize(net, replace(ranges, tensors=dead), tmp_path / "qdq.onnx")
    assert np.isfinite(outputs(report.path, images(2))).all()


def test_ranges_of_another_network_are_refused(net: Path, ranges: Ranges, tmp_path: Path) -> None:
    other = residual_net(tmp_path / "other.onnx", seed=5)
    with pytest.raises(RangesError, match="another network"):
        quantize(other, ranges, tmp_path / "qdq.onnx")
    with pytest.raises(RangesError, match="None of the 1 ranges"):
        quantize(net, replace(ranges, tensors={"z": TensorRange(1.0)}), tmp_path / "qdq.onnx")
    with pytest.raises(RangesError, match="Did you mean 'uint8'"):
        quantize(net, ranges, tmp_path / "qdq.onnx", scheme="u8")
    assert not (tmp_path / "qdq.onnx").exists()
