from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nvkit.errors import ModelError, RangesError
from nvkit.quantize import METHODS, Ranges, collect, observe
from nvkit.store import file_digest

from .nets import images, residual_net


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return residual_net(tmp_path_factory.mktemp("net") / "net.onnx")


def batches(samples: np.ndarray, size: int = 4) -> Iterator[dict[str, np.ndarray]]:
    for start in range(0, len(samples), size):
        yield {"input:0": samples[start : start + size]}


def test_max_is_the_largest_magnitude_whatever_the_batches(net: Path) -> None:
    samples = images(11)
    found = collect(net, batches(samples), "max", total=11, calibration="set")
    assert found.tensors["input:0"].amax == float(np.abs(samples).max())
    assert found.tensors["input:0"].lower == float(samples.min())
    assert found.tensors["pooled"].lower >= 0.0
    assert found.samples == 11
    assert (found.model, found.calibration) == (file_digest(net), "set")
    one = collect(net, batches(samples, 1), "max", total=11, calibration="set")
    assert one.tensors == found.tensors


def test_one_pass_serves_all_methods_and_none_exceeds_max(net: Path) -> None:
    seen = observe(net, batches(images(40)), total=40)
    by_method = {method: seen.ranges(method, 99.0) for method in METHODS}
    for name, entry in by_method["max"].tensors.items():
        assert 0 < by_method["entropy"].tensors[name].amax <= entry.amax
        assert 0 < by_method["percentile"].tensors[name].amax < entry.amax
    assert by_method["percentile"].percentile == 99.0
    assert by_method["max"].percentile is None


def test_the_order_of_the_samples_does_not_matter(net: Path) -> None:
    samples = images(16)
    forward, backward = (observe(net, batches(given), total=16) for given in (samples, samples[::-1]))
    for method in METHODS:
        assert forward.ranges(method) == backward.ranges(method)


def test_ranges_survive_the_disk(net: Path, tmp_path: Path) -> None:
    found = collect(net, batches(images(8)), "entropy", total=8)
    found.save(tmp_path / "ranges.json")
    assert Ranges.load(tmp_path / "ranges.json") == found
    assert list(Ranges.load(tmp_path / "ranges.json").tensors) == list(found.tensors)


def test_files_that_are_not_ranges_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RangesError, match="does not exist"):
        Ranges.load(tmp_path / "absent.json")
    path = tmp_path / "ranges.json"
    for text in ("{", "[]", '{"tensors": {"a": {"amax": 1, "colour": 2}}}', '{"tensors": {}}'):
        path.write_text(text)
        with pytest.raises(RangesError, match="is not a file of activation ranges"):
            Ranges.load(path)


def test_bad_samples_are_explained(net: Path) -> None:
    with pytest.raises(RangesError, match="empty"):
        observe(net, iter([]), total=0)
    with pytest.raises(RangesError, match=r"takes input:0 tensor\(float\).*given input:0 float64"):
        observe(net, batches(images(2).astype(np.float64)), total=2)
    with pytest.raises(RangesError, match="not a number"):
        observe(net, batches(np.full((1, 3, 16, 16), np.nan, np.float32)), total=1)


def test_unknown_methods_and_percentiles_are_refused(net: Path) -> None:
    seen = observe(net, batches(images(2)), total=2)
    with pytest.raises(RangesError, match="Did you mean 'entropy'"):
        seen.ranges("entropie")
    with pytest.raises(RangesError, match="Percentile 0"):
        seen.ranges("percentile", 0.0)


def test_a_network_without_layers_to_quantise_is_refused(tmp_path: Path) -> None:
    import onnx
    from onnx import helper

    value = [helper.make_tensor_value_info(name, 1, ["N", 4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(tmp_path / "relu.onnx"))
    with pytest.raises(ModelError, match="nothing to quantise"):
        observe(tmp_path / "relu.onnx", iter([]), total=0)
