from __future__ import annotations

from typing import Any

import pytest

from nvkit.config import Settings
from nvkit.errors import ConfigError
from nvkit.harness.predict import Prediction, expectation_text, predict

MS = 1_000_000


@pytest.mark.parametrize(
    ("scenario", "mode", "values", "expected"),
    [
        ("Offline", "performance", {"offline_expected_qps": 100}, Prediction(1, 1100, 11.0)),
        ("Offline", "accuracy", {"offline_expected_qps": 100}, Prediction(500, 500, 5.0)),
        ("Server", "performance", {"server_target_qps": 50}, Prediction(500, 500, 10.0)),
        ("Server", "performance", {"server_target_qps": 5}, Prediction(100, 100, 20.0)),
        ("Server", "performance", {"server_target_qps": 5, "max_duration": 12_000}, Prediction(100, 100, 12.0)),
        ("Server", "performance", {"server_target_qps": 50, "max_query_count": 200}, Prediction(200, 200, 4.0)),
        ("SingleStream", "performance", {"single_stream_expected_latency_ns": 20 * MS}, Prediction(500, 500, 10.0)),
        ("SingleStream", "submission", {"single_stream_expected_latency_ns": 20 * MS}, Prediction(1000, 1000, 20.0)),
        ("MultiStream", "performance", {"multi_stream_expected_latency_ns": 40 * MS}, Prediction(250, 2000, 10.0)),
        ("MultiStream", "accuracy", {"multi_stream_expected_latency_ns": 40 * MS}, Prediction(63, 500, 2.5)),
    ],
)
def test_queries_samples_and_seconds(scenario: str, mode: str, values: dict[str, Any], expected: Prediction) -> None:
    found = predict(Settings(min_duration=10_000, **values), scenario, mode, 500)
    assert (found.queries, found.samples) == (expected.queries, expected.samples)
    assert found.seconds == pytest.approx(expected.seconds)


def test_what_the_warm_up_measured_gives_the_time() -> None:
    settings = Settings(min_duration=10_000, offline_expected_qps=130)
    assert predict(settings, "Offline", "performance", 500, capacity=100).seconds == pytest.approx(14.3)
    assert predict(settings, "Offline", "accuracy", 500, capacity=100).seconds == pytest.approx(5.0)
    server = Settings(min_duration=10_000, server_target_qps=50)
    assert predict(server, "Server", "performance", 500, capacity=100).seconds == pytest.approx(10.0)


def test_nothing_is_predicted_from_nothing() -> None:
    with pytest.raises(ConfigError, match="offline_expected_qps is not set"):
        predict(Settings(), "Offline", "performance", 500)


def test_in_words() -> None:
    assert str(Prediction(1, 24_576, 90.4)) == "24,576 samples in 1 query, about 90 s"
    assert str(Prediction(64, 64, 0.2)) == "64 samples, less than 1 s"
    assert expectation_text("Server", 12_345.6) == "12,346 queries/s"
    assert expectation_text("SingleStream", 420_000) == "0.42 ms"
