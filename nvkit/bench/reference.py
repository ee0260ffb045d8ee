"""Part "reference": nvkit beside MLCommons' reference harness, on the same small network, data and machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nvkit
from nvkit.bench.children import performance_test, server_figure
from nvkit.bench.figures import Figure, against_peer, table
from nvkit.bench.peer import ReferenceHarness, check
from nvkit.bench.small_network import small_engine, small_network
from nvkit.benchmarks.base import SampleSet, benchmark
from nvkit.config import Settings
from nvkit.errors import HarnessError
from nvkit.progress import tqdm
from nvkit.results.loadgen_log import DetailLog
from nvkit.store import Store
from nvkit.system import usable_cores
from nvkit.tables import Table
from nvkit.tuning.search import RateSearch

OFFLINE_BAR = 1.5
SERVER_BAR = 2.0
SINGLE_STREAM_BAR = 1.0
_PAIRS = 3
_SECONDS = 4
_OFFLINE_ATTEMPTS = 4
_FIRST_QPS = 3000.0
_PEER_BATCH = 32  # its own default
_EXPECTED = {
    "Offline": "offline_expected_qps",
    "Server": "server_target_qps",
}
_SHARED: dict[str, Any] = {
    "backend": "onnxruntime",
    "precision": "fp32",
    "generated_images": 256,
    "performance_sample_count": 256,
    "min_duration": 1000 * _SECONDS,
    "min_query_count": 100,
    "warmup_duration": 0.5,
    "trace_samples": 0,
    "threads": 1,  # the network computes for some 30 us a sample: more threads would only hand work over
}

Test = Callable[[str, float], DetailLog]
"""Runs a scenario at an expected or arriving rate (no meaning in SingleStream) and returns its log."""


@dataclass(frozen=True)
class _Ours:
    settings: dict[str, Settings]
    engine: Path
    samples: SampleSet

    def test(self, scenario: str, qps: float) -> DetailLog:
        settings = self.settings[scenario]
        if scenario in _EXPECTED:
            settings = settings.model_copy(update={_EXPECTED[scenario]: qps})
        return performance_test(scenario, settings, self.engine, self.samples)


def measure(store: Store, repeat: int, checkout: Path) -> Table:
    """Compare Offline samples/s, the highest valid Server rate and SingleStream's p90 latency.

    Args:
        store: Holds the network, the data and the reference harness's own cache of it.
        repeat: Rounds of all three.
        checkout: A checkout of mlcommons/inference.

    Raises:
        InputError, MissingPackageError: the reference harness cannot run.
        HarnessError: a test failed.
    """
    check(checkout)
    ours, peer = _sides(store, checkout)
    limit_ms = ours.settings["Server"].server_target_latency_ns / 1e6

    def reference(scenario: str, qps: float) -> DetailLog:
        return peer.test(scenario, _SECONDS, qps, ours.settings["Server"].server_target_latency_ns)

    figures = [
        _offline(ours.test, reference, repeat * _PAIRS, _words(ours.settings["Offline"], peer)),
        _server(ours.test, reference, repeat, f"{_words(ours.settings['Server'], peer)}; p99 within {limit_ms:g} ms"),
        _single_stream(ours.test, reference, repeat * _PAIRS, _words(ours.settings["SingleStream"], peer)),
    ]
    size = peer.model.stat().st_size / 1000
    note = f"A network of {size:.0f} kB with ResNet-50's input and outputs, generated data, tests of {_SECONDS} s."
    return table("Reference: nvkit over MLCommons' reference harness, both on onnxruntime", figures, [note])


def _sides(store: Store, checkout: Path) -> tuple[_Ours, ReferenceHarness]:
    cores = usable_cores()
    chosen: dict[str, dict[str, Any]] = {
        "Offline": {"batch_size": 8, "slots": cores},
        # Gathering scattered samples into a batch costs more than this network. While a slot waits for the
        # interpreter, another one computes: hence more slots than cores.
        "Server": {"batch_size": 1, "slots": 2 * cores, "server_coalesce_queries": True},
        "SingleStream": {"batch_size": 1},
    }
    settings = {
        scenario: nvkit.configure(
            "cpu", scenario=scenario, mode="performance", overrides={**_SHARED, **values}
        ).scenarios[scenario]
        for scenario, values in chosen.items()
    }
    shared = settings["Offline"]
    bench = benchmark("resnet50")
    data = bench.dataset(shared, store)
    peer = ReferenceHarness(
        checkout=checkout,
        model=small_network(store),
        data=data.root,
        cache=store.root / "reference" / data.digest[:24],
        batch=_PEER_BATCH,
        threads=cores,
        resident=shared.performance_sample_count,
    )
    return _Ours(settings, small_engine(store, shared).path, bench.preprocess(shared, store, data)), peer


def _words(settings: Settings, peer: ReferenceHarness) -> str:
    ours = f"batch {settings.batch_size}, {settings.slots} slots of {settings.threads} thread"
    if settings.server_coalesce_queries:
        ours += ", coalescing"
    return f"ours {ours}; peer as it comes, batch {peer.batch}, {peer.threads} threads"


def _offline(ours: Test, peer: Test, pairs: int, words: str) -> Figure:
    rates: dict[str, list[float]] = {"ours": [], "peer": []}
    expected = {"ours": _FIRST_QPS, "peer": _FIRST_QPS}
    with tqdm(total=2 * pairs, desc="bench reference: Offline", unit="run") as bar:
        for _ in range(pairs):
            for side, run in (("peer", peer), ("ours", ours)):
                expected[side] = valid_offline(run, expected[side])
                rates[side].append(expected[side])
                bar.update()
    what = "Offline, nvkit over the reference harness"
    return against_peer(what, "samples/s", rates["ours"], rates["peer"], OFFLINE_BAR, words)


def valid_offline(run: Test, expected: float) -> float:
    """Return samples/s of an Offline test that lasted long enough, expecting more of it until it does."""
    for _ in range(_OFFLINE_ATTEMPTS):
        log = run("Offline", expected)
        rate = float(log.require("result_samples_per_second"))
        if log.require("result_validity") == "VALID":
            break
        expected = 1.1 * rate
    return rate


def _server(ours: Test, peer: Test, rounds: int, words: str) -> Figure:
    rates: dict[str, list[float]] = {"ours": [], "peer": []}
    with tqdm(desc="bench reference: Server", unit="test") as bar:
        for _ in range(rounds):
            searches = {"ours": RateSearch(_FIRST_QPS), "peer": RateSearch(_FIRST_QPS)}
            while any(search.rate is not None for search in searches.values()):
                for side, run in (("peer", peer), ("ours", ours)):
                    if (rate := searches[side].rate) is not None:
                        bar.set_postfix_str(f"{side} at {rate:,.0f} queries/s")
                        searches[side].record(*server_figure(run("Server", rate)))
                        bar.update()
            for side, search in searches.items():
                if not search.best:
                    raise HarnessError(f"No Server rate was valid ({side}).", "Measure on a machine that is not busy.")
                rates[side].append(search.best)
    what = "Server, highest valid rate, nvkit over the reference harness"
    return against_peer(what, "queries/s", rates["ours"], rates["peer"], SERVER_BAR, words)


def _single_stream(ours: Test, peer: Test, pairs: int, words: str) -> Figure:
    latencies: dict[str, list[float]] = {"ours": [], "peer": []}
    with tqdm(total=2 * pairs, desc="bench reference: SingleStream", unit="run") as bar:
        for _ in range(pairs):
            for side, run in (("peer", peer), ("ours", ours)):
                latencies[side].append(
                    float(run("SingleStream", 1.0).require("result_90.00_percentile_latency_ns")) / 1e6
                )
                bar.update()
    what = "SingleStream p90, the reference harness over nvkit"
    return against_peer(
        what, "ms", latencies["ours"], latencies["peer"], SINGLE_STREAM_BAR, words, lower_is_better=True
    )
