"""How many queries a test will take, and how long it will last."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nvkit.config.settings import Settings
from nvkit.harness.settings import expectation, expected_samples, samples_per_query
from nvkit.store import duration


@dataclass(frozen=True)
class Prediction:
    """What a test will take if the system is as fast as expected.

    Attributes:
        queries: Queries that LoadGen issues; Offline has one in performance mode.
        samples: Samples in them.
        seconds: Length of the test, without loading and warm-up.
    """

    queries: int
    samples: int
    seconds: float

    def __add__(self, other: Prediction) -> Prediction:
        return Prediction(self.queries + other.queries, self.samples + other.samples, self.seconds + other.seconds)

    def __str__(self) -> str:
        queries = "" if self.queries == self.samples else f" in {_counted(self.queries, 'query', 'queries')}"
        time = f"about {duration(self.seconds)}" if self.seconds >= 1 else "less than 1 s"
        return f"{_counted(self.samples, 'sample', 'samples')}{queries}, {time}"


def predict(
    settings: Settings, scenario: str, mode: str, sample_count: int, capacity: float | None = None
) -> Prediction:
    """Predict a test from the expected rate or latency, the round's least duration and its least number of queries.

    Args:
        settings: Resolved values, the scenario's expected rate or latency among them.
        scenario: LoadGen's name of the scenario.
        mode: "performance", "accuracy" or "submission" (both in one test).
        sample_count: Samples in the whole set, all of which an accuracy test sends.
        capacity: Samples/s that the system completed in the warm-up. The expected rate of Offline and Server differs
            from it on purpose.

    Raises:
        ConfigError: the expected rate or latency is not set.
    """
    if mode == "submission":
        parts = (predict(settings, scenario, part, sample_count, capacity) for part in ("accuracy", "performance"))
        first, second = parts
        return first + second
    expected = expectation(settings, scenario)
    width = samples_per_query(settings, scenario)
    rate = width * 1e9 / expected if scenario.endswith("Stream") else expected
    if mode == "accuracy":
        if capacity and not scenario.endswith("Stream"):
            rate = capacity
        return Prediction(math.ceil(sample_count / width), sample_count, sample_count / rate)
    samples = expected_samples(settings, scenario)
    if scenario == "Offline" and capacity:
        rate = capacity
    seconds = samples / rate
    if settings.max_duration:
        seconds = min(seconds, settings.max_duration / 1000)
    return Prediction(1 if scenario == "Offline" else samples // width, samples, seconds)


def shown_expectation(scenario: str, value: float) -> tuple[float, str]:
    """Return an expected rate or latency in the unit that people read: latencies in ms."""
    if scenario.endswith("Stream"):
        return value / 1e6, "ms"
    return value, "samples/s" if scenario == "Offline" else "queries/s"


def expectation_text(scenario: str, value: float) -> str:
    """Return an expected rate or latency with its unit, e.g. "9,000 queries/s" or "0.42 ms"."""
    shown, unit = shown_expectation(scenario, value)
    return f"{shown:,.0f} {unit}" if shown >= 1000 else f"{shown:.4g} {unit}"


def _counted(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
