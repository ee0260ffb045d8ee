from __future__ import annotations

import pytest

from nvkit.errors import RangesError
from nvkit.quantize import Ranges, TensorRange
from nvkit.quantize.plots import ranges_per_layer


def ranges(factor: float, method: str, percentile: float | None = None) -> Ranges:
    tensors = {f"a/very/long/path/of/scopes/layer{i}": TensorRange(factor * (i + 1)) for i in range(60)}
    return Ranges({**tensors, "dead": TensorRange(0.0)}, method, percentile, 5, "", "")


def test_methods_stand_side_by_side_on_a_logarithmic_axis() -> None:
    found = ranges_per_layer(
        {"max": ranges(2.0, "max"), "p": ranges(1.0, "percentile", 99.9)}, brand="synthetic weights"
    )
    (axes,) = found.axes
    assert axes.get_yscale() == "log"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["max", "p 99.9 %"]
    largest, percentile = axes.get_lines()
    assert list(largest.get_ydata()) == [2.0 * (i + 1) for i in range(60)]
    assert all(0 < b - a < 1 for a, b in zip(largest.get_xdata(), percentile.get_xdata(), strict=True))
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert len(labels) == 61
    assert labels[59].endswith("layer59")
    assert max(map(len, labels)) <= 22
    assert found.get_supxlabel() == "synthetic weights"
    found.canvas.draw()


def test_nothing_to_draw_is_an_error() -> None:
    with pytest.raises(RangesError, match="no activation ranges"):
        ranges_per_layer({})
