"""Expected rates and latencies that nobody has set, taken from the warm-up on the machine itself.

LoadGen sizes a test by what is expected of the system: too low and the test is too short to count, too high and it
takes needlessly long. Files and users may set these values; otherwise they follow from the median time of a batch.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nvkit.config.settings import Settings

_MARGIN = 1.3  # LoadGen's Offline query is sized by the rate; a test that ends early does not count
_SERVER_MARGIN = 0.6
_SHORTEST_S = 1e-6  # of a batch
_SIMULATED = 20_000  # queries
_MOST_QPS = 100_000.0  # LoadGen keeps the whole Server schedule in memory
_MOST_SAMPLES = 1_000_000.0  # a second that LoadGen and a SUT hand to each other, whatever the backend could do


def capacity(batch_s: float, batch: int, slots: int) -> float:
    """Return the samples/s that the warm-up stands for; arguments as of `with_expectations`."""
    return min(_MOST_SAMPLES, slots * batch / max(batch_s, _SHORTEST_S))


def with_expectations(settings: Settings, scenario: str, batch_s: float, batch: int, slots: int) -> Settings:
    """Fill in the expected rate or latency of the scenario if it is unset.

    Args:
        settings: Resolved values.
        scenario: LoadGen's name of the scenario.
        batch_s: Median time of a batch in the warm-up, seconds.
        batch: Samples in such a batch.
        slots: Batches in flight.
    """
    batch_s = max(batch_s, _SHORTEST_S)
    update: dict[str, Any] = {}
    if scenario == "Offline" and settings.offline_expected_qps is None:
        update["offline_expected_qps"] = _MARGIN * capacity(batch_s, batch, slots)
    if scenario == "Server" and settings.server_target_qps is None:
        update["server_target_qps"] = _server_qps(settings, batch_s, slots)
    if scenario == "SingleStream" and settings.single_stream_expected_latency_ns is None:
        update["single_stream_expected_latency_ns"] = math.ceil(batch_s * 1e9)
    if scenario == "MultiStream" and settings.multi_stream_expected_latency_ns is None:
        batches = math.ceil(settings.multi_stream_samples_per_query / batch)
        update["multi_stream_expected_latency_ns"] = math.ceil(batches * batch_s * 1e9)
    return settings.model_copy(update={key: rounded(value) for key, value in update.items()})


def _server_qps(settings: Settings, service_s: float, slots: int) -> float:
    """Return the highest arrival rate, less a margin, that keeps the latency limit in a simulated queue.

    Queries arrive at random at one slot and take `service_s` each. Where not even an idle slot keeps the limit, its
    load is 30 %.
    """
    limit = settings.server_target_latency_ns / 1e9 / service_s
    gaps = np.random.default_rng(0).exponential(1.0, _SIMULATED)
    number = np.arange(1, _SIMULATED + 1)

    def latency(load: float) -> float:
        # Query n is done n - k + 1 services after the last query k that found the slot idle came.
        due = np.cumsum(gaps) / load
        done = np.maximum.accumulate(due - number + 1) + number
        return float(np.quantile(done - due, settings.server_target_latency_percentile))

    kept = [load for load in (percent / 100 for percent in range(1, 91)) if latency(load) <= limit]
    load = _SERVER_MARGIN * max(kept) if kept else 0.3
    return min(_MOST_QPS, load * slots / service_s)


def rounded(value: float, digits: int = 3) -> float | int:
    """Keep the first digits: more would claim a precision that a short measurement does not have."""
    kept = float(f"{value:.{digits}g}")
    return int(kept) if isinstance(value, int) else kept
