"""Latency percentiles and the early-stopping estimate, computed from raw latencies as LoadGen defines them.

LoadGen's percentile p of n latencies is the sorted one at index floor(n p), the product taken in double precision
(loadgen/results.cc). Early stopping asks how many of the n queries may lie above a latency so that, at 99 %
confidence, a fraction p of all queries lies below it: with X ~ Binomial(n, 1 - p), t of them may if
P(X <= t) < 1 % (loadgen/early_stopping.cc computes the same probability as a regularised beta function).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nvkit.results.loadgen_log import DetailLog
from nvkit.results.raw_log import Int64s, RawLatencies

LOADGEN_PERCENTILES = (0.50, 0.90, 0.95, 0.97, 0.99, 0.999)
"""Those that LoadGen logs, as fractions."""
PERCENTILES = (*LOADGEN_PERCENTILES, 0.9999)
"""Those that nvkit reports, as fractions."""

_DOUBT = 1 - 0.99  # one minus LoadGen's confidence, in the same double arithmetic


@dataclass(frozen=True)
class CheckRow:
    """A figure of LoadGen beside the one recomputed from raw data.

    Attributes:
        name: LoadGen's key.
        loadgen: LoadGen's figure.
        ours: The recomputed figure.
    """

    name: str
    loadgen: int
    ours: int

    @property
    def equal(self) -> bool:
        """Whether the two are the same integer."""
        return self.loadgen == self.ours


@dataclass(frozen=True)
class EarlyStopping:
    """Estimate of a percentile that holds for all queries at 99 % confidence.

    Attributes:
        estimate_ns: The estimate, or None if there are fewer queries than `needed`.
        discarded: Queries above the estimate.
        needed: Fewest queries for which there is an estimate.
    """

    estimate_ns: int | None
    discarded: int
    needed: int


def percentile_label(fraction: float) -> str:
    """Return the usual name of a percentile, e.g. "p99.9" for 0.999."""
    return f"p{100 * fraction:.6g}"


def percentiles(latencies_ns: Int64s, fractions: Sequence[float] = PERCENTILES) -> dict[float, int]:
    """Return percentiles of latencies (shape [n], any order, n >= 1) by fraction, in ns."""
    count = len(latencies_ns)
    indices = [int(count * fraction) for fraction in fractions]
    ordered = np.partition(latencies_ns, sorted(set(indices)))
    return {fraction: int(ordered[index]) for fraction, index in zip(fractions, indices, strict=True)}


def early_stopping(latencies_ns: Int64s, fraction: float) -> EarlyStopping:
    """Return the early-stopping estimate of a percentile (SingleStream and MultiStream), latencies by query."""
    count = len(latencies_ns)
    needed = queries_needed(1, fraction)
    if count < needed:
        return EarlyStopping(None, 0, needed)
    low, high = 1, math.ceil(count * (1 - fraction)) + 1
    while high - low > 1:  # the largest number of queries above the estimate that is still rare enough
        middle = (low + high) // 2
        if _rare(middle, count, 1 - fraction):
            low = middle
        else:
            high = middle
    index = count - low
    return EarlyStopping(int(np.partition(latencies_ns, index)[index]), low - 1, needed)


def queries_needed(over: int, fraction: float) -> int:
    """Return how many queries a run needs so that `over` of them may miss the latency of this percentile."""
    low, high = over, over + 64
    while not _rare(over, high, 1 - fraction):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if _rare(over, middle, 1 - fraction):
            high = middle
        else:
            low = middle
    return high


def check_against(detail: DetailLog, raw: RawLatencies) -> list[CheckRow]:
    """Recompute LoadGen's latency figures from the trace of the same test.

    Returns:
        Sample count, minimum, maximum, each percentile, and the early-stopping estimates; of samples and, in
        MultiStream, of queries. LoadGen's mean is left out: its sum overflows in long Offline runs.
    """
    if detail.mode == "SubmissionRun":
        raw = raw.last(detail.sample_count)
    rows = [CheckRow("sample count", detail.sample_count, len(raw.latency_ns))]
    rows += _latency_rows(detail, raw.latency_ns, "result_{}_latency_ns", "result_{}_percentile_latency_ns")
    if detail.scenario == "MultiStream":
        per_query = "result_{}_percentile_per_query_latency_ns"
        rows += _latency_rows(detail, raw.query_latency_ns, "result_{}_query_latency_ns", per_query)
    estimates = {
        "SingleStream": (("early_stopping_latency_ss", _target(detail)), ("early_stopping_latency_ms", 0.99)),
        "MultiStream": (("early_stopping_latency_ms", _target(detail)),),
    }
    for key, fraction in estimates.get(detail.scenario, ()):
        if detail.get(key):
            found = early_stopping(raw.query_latency_ns, fraction)
            rows.append(CheckRow(key, int(detail.get(key)), found.estimate_ns or 0))
    if detail.scenario == "Server":
        over = int(np.count_nonzero(raw.latency_ns > int(detail.require("effective_target_latency_ns"))))
        key = "result_overlatency_query_count"
        rows.append(CheckRow(key, int(detail.require(key)), over))
    return rows


def _latency_rows(detail: DetailLog, latencies: Int64s, extreme: str, percentile: str) -> list[CheckRow]:
    ours = {extreme.format("min"): int(latencies.min()), extreme.format("max"): int(latencies.max())}
    for fraction, value in percentiles(latencies, LOADGEN_PERCENTILES).items():
        ours[percentile.format(f"{100 * fraction:.2f}")] = value
    return [CheckRow(key, int(detail.require(key)), value) for key, value in ours.items()]


def _target(detail: DetailLog) -> float:
    return float(detail.require("effective_target_latency_percentile"))


def _rare(over: int, count: int, chance: float) -> bool:
    """Whether P(X <= over) < 1 % for X ~ Binomial(count, chance)."""
    if over >= count * chance:  # at or above the mean, so at or above the median
        return False
    log_pmf = math.lgamma(count + 1) - math.lgamma(over + 1) - math.lgamma(count - over + 1)
    log_pmf += over * math.log(chance) + (count - over) * math.log1p(-chance)
    # Going down from `over` the terms shrink like a Gaussian: 12 standard deviations hold all of the sum.
    width = min(over, int(12 * math.sqrt(count * chance * (1 - chance))) + 40)
    terms = np.arange(over, over - width, -1, dtype=np.float64)
    ratios = terms * (1 - chance) / ((count - terms + 1) * chance)
    return math.exp(log_pmf) * (1.0 + float(np.cumprod(ratios).sum())) < _DOUBT
