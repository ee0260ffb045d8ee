from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from nvkit.results.loadgen_log import read_detail
from nvkit.results.percentiles import check_against, early_stopping, percentile_label, percentiles, queries_needed
from nvkit.results.raw_log import read_trace


@pytest.mark.parametrize(
    ("name", "figures"), [("Offline", 9), ("Server", 10), ("SingleStream", 9), ("MultiStream", 17), ("submission", 10)]
)
def test_every_figure_of_loadgen_is_reproduced_exactly(loadgen_test, name: str, figures: int) -> None:
    detail = read_detail(loadgen_test(name))
    checks = check_against(detail, read_trace(loadgen_test(name)))
    assert [row for row in checks if not row.equal] == []
    # An estimate is logged as 0 if there are too few queries for it.
    estimates = [key for key in ("early_stopping_latency_ss", "early_stopping_latency_ms") if detail.get(key)]
    assert len(checks) == figures + len(estimates)
    assert name != "SingleStream" or estimates


def test_a_wrong_trace_is_noticed(loadgen_test) -> None:
    checks = check_against(read_detail(loadgen_test("Server")), read_trace(loadgen_test("SingleStream")))
    assert not all(row.equal for row in checks)


def test_index_is_the_floor_of_the_product_in_double_precision() -> None:
    values = np.arange(1000)[::-1]
    assert percentiles(values, (0.5, 0.97, 0.999)) == {0.5: 500, 0.97: 970, 0.999: 999}
    assert percentiles(np.array([5]), (0.5, 0.9999)) == {0.5: 5, 0.9999: 5}
    # 0.57 * 100 is 56.99... in double precision, so LoadGen takes index 56.
    assert percentiles(np.arange(100), (0.57,)) == {0.57: 56}


def test_labels() -> None:
    assert [percentile_label(p) for p in (0.5, 0.99, 0.999, 0.9999)] == ["p50", "p99", "p99.9", "p99.99"]


def test_least_query_counts_of_the_rules() -> None:
    assert queries_needed(1, 0.90) == 64
    assert queries_needed(1, 0.99) == 662
    assert queries_needed(0, 0.99) == 459
    # LoadGen 6.0.17: 2,017 of 2,052 queries late, "would need to run at least 210292 more".
    assert queries_needed(2017, 0.99) == 2052 + 210292


@pytest.mark.parametrize(
    ("queries", "fraction", "discarded", "folder"),
    [(1641020, 0.90, 163207, "SingleStream"), (743776, 0.99, 7237, "MultiStream")],
)
def test_discarded_queries_of_published_runs(
    published_logs: Path, queries: int, fraction: float, discarded: int, folder: str
) -> None:
    detail = read_detail(next(published_logs.glob(f"v3.0-L4*/resnet50/{folder}")))
    assert f"({queries})" in detail.get("early_stopping_result")
    assert f"discard {discarded} highest" in detail.get("early_stopping_result")
    found = early_stopping(np.arange(queries), fraction)
    assert found.discarded == discarded
    assert found.estimate_ns == queries - discarded - 1


@pytest.mark.parametrize(("count", "fraction"), [(64, 0.9), (500, 0.9), (662, 0.99), (5000, 0.99)])
def test_estimate_against_the_binomial_sum_itself(count: int, fraction: float) -> None:
    def chance(over: int) -> float:
        terms = (math.comb(count, k) * (1 - fraction) ** k * fraction ** (count - k) for k in range(over + 1))
        return math.fsum(terms) if count <= 700 else _by_logs(over)

    def _by_logs(over: int) -> float:
        logs = (
            math.log(math.comb(count, k)) + k * math.log(1 - fraction) + (count - k) * math.log(fraction)
            for k in range(over + 1)
        )
        return math.fsum(math.exp(value) for value in logs)

    over = early_stopping(np.arange(count), fraction).discarded + 1
    assert chance(over) < 0.01 <= chance(over + 1)


def test_too_few_queries_give_no_estimate() -> None:
    found = early_stopping(np.arange(63), 0.9)
    assert (found.estimate_ns, found.needed) == (None, 64)
    assert early_stopping(np.arange(64), 0.9).estimate_ns == 63
