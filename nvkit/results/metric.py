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
        percentile: The fraction (0.9) that a latency is of, None for throughput.
    """

    name: str
    value: float
    unit: str
    higher_is_better: bool
    percentile: float | None = None

    @property
    def shown(self) -> tuple[float, str]:
        """Value and unit for people: latency in ms."""
        return (self.value / 1e6, "ms") if self.unit == "ns" else (self.value, self.unit)

    @property
    def label(self) -> str:
        """What the figure is, in words."""
        label = _LABELS.get(self.name, _NO_ESTIMATE)
        return label if self.percentile is None else f"p{100 * self.percentile:g} {label}"

    def __str__(self) -> str:
        value, unit = self.shown
        return f"{value:,.6g} {unit} ({self.label})"


_LABELS = {
    "result_samples_per_second": "throughput",
    "result_scheduled_samples_per_sec": "scheduled throughput",
    "result_completed_samples_per_sec": "completed throughput",
    "early_stopping_latency_ss": "latency, early-stopping estimate",
    "early_stopping_latency_ms": "query latency, early-stopping estimate",
}
_NO_ESTIMATE = "latency, too few queries for the estimate"


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
        share = float(detail.require("effective_target_latency_percentile"))
        single = scenario == "SingleStream"
        key = "early_stopping_latency_ss" if single else "early_stopping_latency_ms"
        if not detail.require(key):
            key = f"result_{100 * share:.2f}_percentile_{'' if single else 'per_query_'}latency_ns"
        return Metric(key, float(detail.require(key)), "ns", higher_is_better=False, percentile=share)
    key = "result_samples_per_second"
    if scenario == "Server":
        done = number >= _COMPLETED_SINCE
        key = "result_completed_samples_per_sec" if done else "result_scheduled_samples_per_sec"
    return Metric(key, float(detail.require(key)), "samples/s", higher_is_better=True)
