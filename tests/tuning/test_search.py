from __future__ import annotations

from random import Random

import pytest

from nvkit.tuning.search import RateSearch, confirm


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


def test_it_stops_at_the_highest_rate_allowed() -> None:
    found, tested = search(1e9, 100.0, most=1000.0)
    assert found.unlimited
    assert found.valid_rate == max(tested) == 1000.0
    assert not search(500.0, 100.0, most=1000.0)[0].unlimited


def test_it_gives_up_below_the_lowest_rate_allowed() -> None:
    found, tested = search(5.0, 100.0, least=10.0)
    assert found.valid_rate is None
    assert min(tested) >= 10.0


def test_noise_near_the_limit_costs_little() -> None:
    random = Random(1)
    made = RateSearch(200.0, 1.02)
    while (rate := made.rate) is not None:
        made.record(rate <= 1000.0 * random.uniform(0.93, 1.0), rate)
    assert made.valid_rate is not None
    assert 900.0 < made.valid_rate <= 1000.0


@pytest.mark.parametrize(("bears", "tests"), [(1000.0, 1), (985.0, 2), (945.0, 3), (860.0, 5), (500.0, 9)])
def test_a_confirmation_steps_down_and_halves_what_it_passed_over(bears: float, tests: int) -> None:
    tried: list[float] = []

    def valid(rate: float) -> bool:
        tried.append(rate)
        return rate <= bears

    found = confirm(1000.0, 0.02, valid)
    assert found is not None
    assert bears - 41.0 <= found <= bears
    assert len(tried) == tests


def test_nothing_is_confirmed_where_nothing_is_valid() -> None:
    assert confirm(1000.0, 0.02, lambda rate: False) is None
