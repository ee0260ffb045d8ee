from __future__ import annotations

import pytest

from nvkit.bench.search import RateSearch


def search(limit: float, first: float, **options: float) -> tuple[RateSearch, list[float]]:
    """Search on a machine that is valid up to `limit`; return the search and the rates that it tested."""
    made, tested = RateSearch(first, **options), []  # type: ignore[arg-type]
    while (rate := made.rate) is not None:
        assert len(tested) < 100
        tested.append(rate)
        made.record(rate <= limit, rate)
    return made, tested


@pytest.mark.parametrize("limit", [90.0, 1000.0, 3333.0, 400_000.0])
@pytest.mark.parametrize("first", [100.0, 3000.0])
def test_it_finds_the_limit_within_its_precision(limit: float, first: float) -> None:
    found, tested = search(limit, first)
    assert limit / 1.05 <= found.best <= limit
    assert max(tested) <= max(first, 1.5 * limit)


def test_one_disturbance_costs_no_rate() -> None:
    made = RateSearch(100.0)
    made.record(False, 90.0)
    assert made.rate == 100.0
    made.record(True, 100.0)
    assert made.rate == 150.0
    made.record(False, 100.0)
    made.record(False, 100.0)
    assert made.rate == pytest.approx((100 * 150) ** 0.5)
    assert made.best == 100.0


def test_it_gives_up_where_nothing_is_valid() -> None:
    found, tested = search(0.0, 50.0)
    assert found.best == 0.0
    assert min(tested) >= 1.0


def test_the_figure_is_that_of_the_highest_valid_rate() -> None:
    made = RateSearch(100.0, precision=2.0)
    made.record(True, 99.5)
    made.record(False, 120.0)
    made.record(False, 120.0)
    assert made.rate is None
    assert made.best == 99.5
