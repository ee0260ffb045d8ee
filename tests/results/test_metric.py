from __future__ import annotations

from pathlib import Path

import pytest

from nvkit.errors import ConfigError, LogError
from nvkit.results.loadgen_log import DetailLog, Entry, read_detail
from nvkit.results.metric import official, round_number
from nvkit.results.published import load

KEYS = {
    "samples_per_second": "result_samples_per_second",
    "scheduled_server_qps": "result_scheduled_samples_per_sec",
    "completed_server_qps": "result_completed_samples_per_sec",
    "p90_latency_ns_early_stopping": "early_stopping_latency_ss",
    "p99_query_latency_ns_early_stopping": "early_stopping_latency_ms",
}


def test_nvidias_published_logs_give_the_published_figures(published_logs: Path, published_csv: Path) -> None:
    rows = load(published_csv)
    folders = sorted(published_logs.glob("*/*/*"))
    assert len(folders) == 5
    for folder in folders:
        (round, _, system), benchmark, scenario = folder.parts[-3].partition("-"), folder.parts[-2], folder.parts[-1]
        metric = official(read_detail(folder), round)
        wanted = ("NVIDIA", round, system, benchmark, scenario)
        (row,) = (r for r in rows if (r.submitter, r.round, r.system, r.benchmark, r.scenario) == wanted)
        assert metric.value == row.value
        assert metric.name == KEYS[row.metric]
        assert metric.higher_is_better != row.is_latency


def test_server_counts_completed_samples_from_v4_1_on(loadgen_test) -> None:
    detail = read_detail(loadgen_test("Server"))
    names = {round: official(detail, round).name for round in ("v2.1", "v4.0", "v4.1", "v6.0")}
    assert names == {
        "v2.1": "result_scheduled_samples_per_sec",
        "v4.0": "result_scheduled_samples_per_sec",
        "v4.1": "result_completed_samples_per_sec",
        "v6.0": "result_completed_samples_per_sec",
    }


def test_without_an_estimate_the_plain_percentile_is_named_as_such(loadgen_test) -> None:
    detail = read_detail(loadgen_test("few queries"))
    metric = official(detail, "v4.1")
    assert metric.value == detail.get("result_90.00_percentile_latency_ns") > 0
    assert "too few queries" in str(metric)
    assert metric.shown == (metric.value / 1e6, "ms")


def test_an_accuracy_log_has_no_metric(loadgen_test) -> None:
    with pytest.raises(LogError, match="result_samples_per_second"):
        official(read_detail(loadgen_test("accuracy")), "v4.1")


def test_round_names() -> None:
    assert round_number("v5.1") == (5, 1)
    with pytest.raises(ConfigError, match=r"Write it like v4\.1"):
        round_number("4.1")


def test_a_latency_is_labelled_with_the_percentile_of_its_log() -> None:
    values = {
        "effective_scenario": "MultiStream",
        "effective_target_latency_percentile": 0.9,
        "early_stopping_latency_ms": 5_000_000,
    }
    log = DetailLog(Path("log"), tuple(Entry(key, value, 0.0, 1, False, False) for key, value in values.items()))
    metric = official(log, "v4.1")
    assert (metric.percentile, metric.shown) == (0.9, (5.0, "ms"))
    assert metric.label == "p90 query latency, early-stopping estimate"
