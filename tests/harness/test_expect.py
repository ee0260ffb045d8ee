from __future__ import annotations

import pytest

from nvkit.config import Settings
from nvkit.harness.expect import with_expectations
from nvkit.harness.settings import expected_samples


def test_offline_expects_a_little_more_than_was_seen() -> None:
    found = with_expectations(Settings(), "Offline", batch_s=0.1, batch=8, slots=2)
    assert found.offline_expected_qps == pytest.approx(208)


def test_what_is_set_is_left_alone() -> None:
    given = Settings(offline_expected_qps=5)
    assert with_expectations(given, "Offline", 0.1, 8, 1).offline_expected_qps == 5


@pytest.mark.parametrize(
    ("scenario", "key", "value"),
    [
        ("SingleStream", "single_stream_expected_latency_ns", 20_000_000),
        ("MultiStream", "multi_stream_expected_latency_ns", 40_000_000),
    ],
)
def test_latencies_are_those_of_a_query(scenario: str, key: str, value: int) -> None:
    found = with_expectations(Settings(), scenario, batch_s=0.02, batch=4, slots=1)
    assert getattr(found, key) == value


@pytest.mark.parametrize("service_s", [0.0005, 0.002, 0.004, 0.008, 0.012])
def test_server_keeps_its_limit_in_a_simulation(service_s: float) -> None:
    """The formula's rate, run through a simulated queue, keeps the limit; four times the rate does not."""
    import numpy as np

    settings = Settings(server_target_latency_ns=15_000_000)
    qps = with_expectations(settings, "Server", batch_s=service_s, batch=1, slots=1).server_target_qps
    assert qps is not None

    def p99(rate: float) -> float:
        rng = np.random.default_rng(1)
        due = np.cumsum(rng.exponential(1 / rate, 40_000))
        free, waits = 0.0, []
        for t in due:
            free = max(free, t) + service_s
            waits.append(free - t)
        return float(np.quantile(waits, 0.99))

    assert p99(qps) <= 0.015
    assert p99(4 * qps) > 0.015


def test_server_gets_a_modest_rate_where_no_rate_keeps_the_limit() -> None:
    settings = Settings(server_target_latency_ns=15_000_000)
    assert with_expectations(settings, "Server", 0.1, 1, 1).server_target_qps == pytest.approx(3)


def test_the_rate_of_a_backend_that_computes_nothing_is_bounded() -> None:
    assert with_expectations(Settings(), "Server", 0.0, 1, 1).server_target_qps == 100_000
    assert with_expectations(Settings(), "Offline", 0.0, 64, 2).offline_expected_qps == 1_300_000


@pytest.mark.parametrize(
    ("scenario", "values", "samples"),
    [
        ("Offline", {"offline_expected_qps": 100}, 1100),
        ("Offline", {"offline_expected_qps": 1, "min_query_count": 5000}, 5000),
        ("Server", {"server_target_qps": 50}, 500),
        ("SingleStream", {"single_stream_expected_latency_ns": 10_000_000}, 1000),
        ("MultiStream", {"multi_stream_expected_latency_ns": 100_000_000}, 800),
    ],
)
def test_expected_samples(scenario: str, values: dict[str, float], samples: int) -> None:
    assert expected_samples(Settings(min_duration=10_000, **values), scenario) == samples
