"""Part "server": the highest rate of single queries that the harness itself carries, on the null backend."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

import nvkit
from nvkit.bench.children import performance_test, server_figure
from nvkit.bench.figures import against_limit, table
from nvkit.bench.small_network import small_engine
from nvkit.benchmarks.base import SampleSet
from nvkit.config import Settings
from nvkit.progress import tqdm
from nvkit.store import Store
from nvkit.tables import Table
from nvkit.tuning.search import RateSearch

BAR = 300_000
_SECONDS = 3.0
_SAMPLES = 1024
_FIRST_QPS = 300_000.0
_SETTINGS = {
    "backend": "null",
    "batch_size": 2048,
    "slots": 1,
    "deque_timeout_usec": 500,
    "server_coalesce_queries": True,
    "trace_samples": 0,
    "warmup_duration": 0.1,
}


def measure(store: Store, repeat: int) -> Table:
    """Search `repeat` times for the highest valid rate under the round's latency limit."""
    config = nvkit.configure("cpu", scenario="Server", mode="performance", overrides=_SETTINGS)
    settings = config.scenarios["Server"]
    rates = [highest_rate(settings, store, _FIRST_QPS, _SECONDS) for _ in range(repeat)]
    limit_ms = settings.server_target_latency_ns / 1e6
    words = (
        f"null backend, batch {settings.batch_size}, {settings.slots} slot, deque_timeout_usec "
        f"{settings.deque_timeout_usec}, coalescing on, p99 within {limit_ms:g} ms, tests of {_SECONDS:g} s"
    )
    figure = against_limit("Server on the null backend, highest valid rate", "queries/s", rates, BAR, words)
    return table("Server: the harness alone", [figure])


def highest_rate(settings: Settings, store: Store, first: float, seconds: float, precision: float = 1.05) -> float:
    """Return the completed queries/s of the highest valid rate; 0.0 if there is none.

    Args:
        settings: Of a Server test; rate and durations are replaced.
        store: Holds the null engine.
        first: Rate to begin with, queries/s.
        seconds: Length of a test.
        precision: See `RateSearch`.
    """
    engine = small_engine(store, settings).path
    search = RateSearch(first, precision)
    with tempfile.TemporaryDirectory(prefix="nvkit-bench-") as folder, tqdm(desc="bench server", unit="test") as bar:
        np.save(Path(folder) / "samples.npy", np.zeros((_SAMPLES, 1), np.float32))
        samples = SampleSet({"nothing": Path(folder) / "samples.npy"}, _SAMPLES, "zeros")
        while (rate := search.rate) is not None:
            bar.set_postfix_str(f"{rate:,.0f} queries/s, best {search.best:,.0f}")
            update = {"server_target_qps": rate, "min_duration": round(1000 * seconds)}
            search.record(
                *server_figure(performance_test("Server", settings.model_copy(update=update), engine, samples))
            )
            bar.update()
    return search.best
