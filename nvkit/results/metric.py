"""The official metric of a scenario in a round."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nvkit.errors import ConfigError
from nvkit.results.loadgen_log import DetailLog

_COMPLETED_SINCE = (4, 1)
"""The round from which Server is judged by completed, before by scheduled samples per second."""


@dataclass(frozen=True)
class Metric:
    """A result in the unit that the round's rules use.

    Attributes:
        name: LoadGen's key.
        value: The figure, as LoadGen logged it.
        unit: "samples/s" or "ns".
        higher_is_better: True for throughput, False for latency.
    """

    name: str
    value: float
    unit: str
    higher_is_better: bool

    @property
    def shown(self) -> tuple[float, str]:
        """Value and unit for people: latency in ms."""
        return (self.value / 1e6, "ms") if self.unit == "ns" else (self.value, self.unit)

    @property
    def label(self) -> str:
        """What the figure is, in words."""
        return _LABELS.get(self.name, self.name)

    def __str__(self) -> str:
        value, unit = self.shown
        return f"{value:,.6g} {unit} ({self.label})"


_LABELS = {
    "result_samples_per_second": "throughput",
    "result_scheduled_samples_per_sec": "scheduled throughput",
    "result_completed_samples_per_sec": "completed throughput",
    "early_stopping_latency_ss": "p90 latency, early-stopping estimate",
    "early_stopping_latency_ms": "p99 latency of a query, early-stopping estimate",
    "result_90.00_percentile_latency_ns": "p90 latency, too few queries for the estimate",
    "result_99.00_percentile_per_query_latency_ns": "p99 latency of a query, too few queries for the estimate",
}


def round_number(round: str) -> tuple[int, int]:
    """Return ("v4.1") -> (4, 1), for comparing rounds.

    Raises:
        ConfigError: not the name of a round.
    """
    if not (found := re.fullmatch(r"v(\d+)\.(\d+)", round)):
        raise ConfigError(f"'{round}' is not an MLPerf Inference round.", "Write it like v4.1.")
    return int(found[1]), int(found[2])


def official(detail: DetailLog, round: str) -> Metric:
    """Return the figure that the submission checker of a round takes from a performance log.

    A SingleStream or MultiStream run with too few queries for the early-stopping estimate (it is INVALID) gives
    the plain percentile instead, under its own name.

    Raises:
        ConfigError: `round` is not the name of a round.
        LogError: the log is not of a performance run of a known scenario.
    """
    number = round_number(round)
    scenario = detail.scenario
    if scenario in ("SingleStream", "MultiStream"):
        key, plain = {
            "SingleStream": ("early_stopping_latency_ss", "result_90.00_percentile_latency_ns"),
            "MultiStream": ("early_stopping_latency_ms", "result_99.00_percentile_per_query_latency_ns"),
        }[scenario]
        key = key if detail.require(key) else plain
        return Metric(key, float(detail.require(key)), "ns", higher_is_better=False)
    key = "result_samples_per_second"
    if scenario == "Server":
        done = number >= _COMPLETED_SINCE
        key = "result_completed_samples_per_sec" if done else "result_scheduled_samples_per_sec"
    return Metric(key, float(detail.require(key)), "samples/s", higher_is_better=True)
