from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from nvkit.errors import LogError
from nvkit.results.raw_log import TRACE_FILE
from nvkit.results.summary import TestSummary, results_table, summarise


@pytest.mark.parametrize("name", ["Offline", "Server", "SingleStream", "MultiStream", "accuracy", "ran out"])
def test_a_summary_survives_json(loadgen_test, name: str) -> None:
    summary = summarise(loadgen_test(name), "v4.1", ["quick run"], rules={"min_duration": 600_000})
    again = TestSummary.from_json(json.loads(json.dumps(summary.to_json())))
    assert again == summary
    assert bool(summary.departures) == (name != "accuracy")


def test_server_summary(loadgen_test) -> None:
    summary = summarise(loadgen_test("Server"), "v4.1")
    assert summary.metric.name == "result_completed_samples_per_sec"
    assert list(summary.percentiles_ns) == ["min", "p50", "p90", "p95", "p97", "p99", "p99.9", "max"]
    assert list(summary.percentiles_ns.values()) == sorted(summary.percentiles_ns.values())
    assert summary.counts["queries"] == summary.counts["samples"] > 500
    assert len(summary.checks) == 10
    assert summary.differing == ()


def test_multistream_percentiles_are_of_queries(loadgen_test) -> None:
    summary = summarise(loadgen_test("MultiStream"), "v4.1")
    checked = {row.name: row.ours for row in summary.checks}
    assert summary.percentiles_ns["p90"] == checked["result_90.00_percentile_per_query_latency_ns"]
    assert summary.counts["samples"] == 8 * summary.counts["queries"]


def test_without_a_trace_there_is_nothing_to_check(loadgen_test, tmp_path: Path) -> None:
    shutil.copytree(loadgen_test("Server"), tmp_path, dirs_exist_ok=True)
    (tmp_path / TRACE_FILE).write_text("")
    assert summarise(tmp_path, "v4.1").checks == ()
    (tmp_path / TRACE_FILE).unlink()
    assert summarise(tmp_path, "v4.1").checks == ()


def test_table_joins_accuracy_to_performance_and_says_what_is_wrong(loadgen_test) -> None:
    score = {"metric": "acc", "value": 71.25}
    tests = [
        summarise(loadgen_test("Server"), "v4.1", ["synthetic weights"]),
        summarise(loadgen_test("small query"), "v4.1", ["synthetic weights"]),
        summarise(loadgen_test("accuracy"), "v4.1", ["synthetic weights"], accuracy=score),
    ]
    table = results_table(tests)
    assert [row[0] for row in table.rows] == ["Server", "Offline"]
    assert [row[4] for row in table.rows] == ["VALID", "INVALID"]
    assert [row[9] for row in table.rows] == ["", "acc 71.25"]
    assert table.rows[0][5] == tests[0].percentiles_ns["p50"] / 1e6
    assert str(table).count("synthetic weights") == 1
    assert "Raise offline_expected_qps from 10" in str(table)
    assert [row[0] for row in results_table(tests[2:]).rows] == ["Offline"]


def test_table_says_when_the_trace_disagrees(loadgen_test) -> None:
    summary = summarise(loadgen_test("Server"), "v4.1")
    wrong = replace(summary.checks[0], ours=1)
    text = str(results_table([replace(summary, checks=(wrong,))]))
    assert "the trace gives 1" in text


def test_a_stored_summary_of_another_form(loadgen_test) -> None:
    value = summarise(loadgen_test("Server"), "v4.1").to_json()
    del value["verdict"]
    with pytest.raises(LogError, match="Run the run stage again"):
        TestSummary.from_json(value)
