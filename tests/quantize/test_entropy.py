from __future__ import annotations

import time

import numpy as np
import pytest

from nvkit.quantize.entropy import LEVELS, entropy_threshold


def threshold_by_loops(counts: np.ndarray, width: float) -> float:
    """The same search written out bin by bin."""
    used = int(np.flatnonzero(counts)[-1]) + 1
    counts = counts[:used].astype(float)
    counts[0] = counts[1]
    best, answer = np.inf, used
    for kept in range(LEVELS, used + 1):
        reference = counts[:kept].copy()
        reference[-1] += counts[kept:].sum()
        candidate = np.zeros(kept)
        for level in range(LEVELS):
            part = slice(level * kept // LEVELS, (level + 1) * kept // LEVELS)
            holds = reference[part] > 0
            if holds.any():
                candidate[part][holds] = counts[:kept][part].sum() / holds.sum()
        if reference[-1] > 0 and candidate[-1] == 0:
            candidate[-1] = 0.5
        p, q = reference / reference.sum(), candidate / candidate.sum()
        with np.errstate(divide="ignore"):
            divergence = (p[p > 0] * np.log(p[p > 0] / q[p > 0])).sum()
        if divergence < best:
            best, answer = divergence, kept
    return answer * width


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("relu", [False, True])
def test_agrees_with_the_search_written_as_loops(seed: int, relu: bool) -> None:
    rng = np.random.default_rng(seed)
    values = rng.standard_t(4, 20_000)
    values = np.maximum(values, 0) if relu else np.abs(values)
    counts, edges = np.histogram(values, 500)
    width = edges[1]
    found = entropy_threshold(counts, width, float(values.max()))
    assert found == pytest.approx(min(values.max(), threshold_by_loops(counts, width)))


def test_outliers_are_clipped() -> None:
    rng = np.random.default_rng(0)
    values = np.abs(np.concatenate([rng.standard_normal(1_000_000), [60.0, 80.0]]))
    counts, edges = np.histogram(values, 2048)
    assert 3.0 < entropy_threshold(counts, edges[1], 80.0) < 8.0


def test_evenly_spread_values_are_not_clipped() -> None:
    counts = np.full(2048, 100)
    assert entropy_threshold(counts, 0.5, 1024.0) == 1024.0


def test_few_filled_bins_give_the_largest_value() -> None:
    counts = np.zeros(2048)
    counts[:100] = 1
    assert entropy_threshold(counts, 0.1, 9.99) == 9.99
    assert entropy_threshold(np.zeros(2048), 0.0, 0.0) == 0.0


def test_seven_tensors_take_far_less_than_a_second() -> None:
    counts, edges = np.histogram(np.abs(np.random.default_rng(0).standard_normal(100_000)), 4096)
    started = time.perf_counter()
    for _ in range(7):
        entropy_threshold(counts, edges[1], 5.0)
    assert time.perf_counter() - started < 1.0
