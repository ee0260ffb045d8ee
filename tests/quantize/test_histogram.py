from __future__ import annotations

import numpy as np
import pytest

from nvkit.errors import RangesError
from nvkit.quantize.histogram import BINS, Histogram


def test_counts_do_not_depend_on_the_order_of_arrivals() -> None:
    values = np.random.default_rng(0).standard_normal(300_000).astype(np.float32)
    small_first, at_once = Histogram(), Histogram()
    at_once.add(values)
    for part in np.array_split(values[np.argsort(np.abs(values))], 7):
        small_first.add(part)
    assert small_first.width == at_once.width
    np.testing.assert_array_equal(small_first.counts, at_once.counts)
    assert small_first.counts.sum() == values.size


def test_widening_keeps_every_value_and_at_least_half_of_the_bins() -> None:
    histogram = Histogram()
    for largest in (1.0, 3.0, 100.0):
        histogram.add(np.linspace(-largest, largest, 10_001))
    assert histogram.counts.sum() == 3 * 10_001
    assert BINS // 2 - 1 <= np.flatnonzero(histogram.counts)[-1] < BINS
    assert (histogram.lower, histogram.upper, histogram.amax) == (-100.0, 100.0, 100.0)


def test_zeros_before_anything_else_are_counted() -> None:
    histogram = Histogram()
    histogram.add(np.zeros(5))
    histogram.add(np.zeros(0))
    assert histogram.amax == 0.0
    histogram.add(np.array([0.5]))
    assert histogram.counts[0] == 5
    assert histogram.counts.sum() == 6


@pytest.mark.parametrize("percent", [50.0, 99.0, 99.9, 100.0])
def test_percentile_is_that_of_the_values(percent: float) -> None:
    values = np.random.default_rng(1).standard_normal(200_000)
    histogram = Histogram()
    histogram.add(values)
    exact = np.percentile(np.abs(values.astype(np.float32)), percent)
    assert histogram.percentile(percent) == pytest.approx(exact, abs=2 * histogram.width)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused_with_the_tensor(bad: float) -> None:
    with pytest.raises(RangesError, match="'conv1'"):
        Histogram().add(np.array([1.0, bad]), "conv1")
