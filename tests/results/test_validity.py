from __future__ import annotations

import re
from pathlib import Path

import pytest

from nvkit.results.loadgen_log import DETAIL_FILE, read_detail
from nvkit.results.validity import against_round, verdict


@pytest.mark.parametrize(
    ("name", "what", "change"),
    [
        ("over limit", "The p99 latency is .* ms; the limit is 0.2 ms", "Lower server_target_qps|No rate meets"),
        ("over limit", "queries were above the latency limit", "follows from the latency"),
        ("few queries", "too few for an early-stopping estimate of p90, which takes 64", "Raise min_query_count to 64"),
        ("capped", "had to last 0.3 s", "Remove max_query_count 500"),
        ("ran out", "had to last 0.3 s", "Lower multi_stream_expected_latency_ns from 30,000,000 to at most"),
        ("ran out", "LoadGen logged an error: Ending early", "rejects a log with errors"),
        ("small query", "had to last 0.3 s; it took", "Raise offline_expected_qps from 10 to about"),
    ],
)
def test_reasons_name_the_figures_and_the_parameter(loadgen_test, name: str, what: str, change: str) -> None:
    found = verdict(read_detail(loadgen_test(name)))
    assert not found.valid
    assert any(re.search(what, reason.what) and re.search(change, reason.change) for reason in found.reasons), found


@pytest.mark.parametrize("name", ["Server", "SingleStream", "accuracy", "submission"])
def test_good_runs_are_valid(loadgen_test, name: str) -> None:
    found = verdict(read_detail(loadgen_test(name)))
    assert found.valid, str(found)
    assert str(found) == "VALID"


def test_published_runs_are_valid_and_keep_the_rules(published_logs: Path) -> None:
    seeds = ("qsl_rng_seed", "sample_index_rng_seed", "schedule_rng_seed")
    v30 = dict(zip(seeds, (10003631887983097364, 17183018601990103738, 12134888396634371638), strict=True))
    v41 = dict(zip(seeds, (3066443479025735752, 10688027786191513374, 14962580496156340209), strict=True))
    for folder in sorted(published_logs.glob("*/*/*")):
        detail = read_detail(folder)
        assert verdict(detail).valid
        rules = {**(v30 if folder.parts[-3].startswith("v3.0") else v41), "min_duration": 600_000}
        limit = 130_000_000 if "bert" in folder.parts[-2] else 15_000_000
        rules |= {"performance_sample_count": 1024, "server_target_latency_ns": limit, "min_query_count": 24576}
        assert against_round(detail, rules) == ()
        assert len(against_round(detail, {**rules, **(v41 if rules["qsl_rng_seed"] == v30[seeds[0]] else v30)})) == 3


def test_what_departs_from_the_round(loadgen_test) -> None:
    rules = {
        "min_duration": 600_000,
        "performance_sample_count": 1024,
        "server_target_latency_ns": 10_000_000,
        "min_query_count": 24576,
        "qsl_rng_seed": None,
        "server_target_latency_percentile": 0.97,
    }
    server = [str(reason) for reason in against_round(read_detail(loadgen_test("Server")), rules)]
    assert server == [
        "min_duration is 300 ms; the round asks for 600,000 ms. Raise min_duration to 600,000.",
        "10 samples were in memory; the round asks for 1,024. Raise performance_sample_count to 1,024.",
        "The latency is judged at p99; the round judges it at p97. Set server_target_latency_percentile to 0.97.",
        "The latency limit is 1000 ms; the round's is 10 ms. Lower server_target_latency_ns to 10000000.",
    ]
    offline = [str(reason) for reason in against_round(read_detail(loadgen_test("Offline")), rules)]
    assert (
        offline[2] == "The Offline query had 990 samples; the round asks for 24,576. Raise min_query_count to 24,576."
    )
    assert against_round(read_detail(loadgen_test("accuracy")), rules) == ()


def _changed(folder: Path, target: Path, *changes: tuple[str, str]) -> Path:
    text = (folder / DETAIL_FILE).read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (target / DETAIL_FILE).write_text(text)
    return target


def test_an_audit_config_is_a_reason(published_logs: Path, tmp_path: Path) -> None:
    server = next(published_logs.glob("v4.1*/resnet50/Server"))
    found = "Found Audit Config file (audit.config). Overriding TestSettings from audit.config file."
    old = "Logging allocation detected: tid: 52819 reserved_entries: 1024 max_entries: 1933"
    (reason,) = verdict(read_detail(_changed(server, tmp_path, (old, found)))).reasons
    assert "audit.config" in reason.what
    assert "Remove the file" in reason.change


def test_a_run_a_little_above_the_limit_is_told_how_long_to_run(published_logs: Path, tmp_path: Path) -> None:
    server = next(published_logs.glob("v3.0-DGX*/bert-99/Server"))
    changes = [
        ('"early_stopping_met", "value": true', '"early_stopping_met", "value": false'),
        ('"result_validity", "value": "VALID"', '"result_validity", "value": "INVALID"'),
        ('"result_query_count", "value": 4501806', '"result_query_count", "value": 43000'),
    ]
    (reason,) = verdict(read_detail(_changed(server, tmp_path, *changes))).reasons
    assert reason.what.startswith("Early stopping: 410 of 43,000 queries were above the latency limit")
    assert "Raise min_query_count to 45," in reason.change
    assert "or min_duration to about" in reason.change
    assert reason.change.endswith("or lower server_target_qps.")


def test_a_saturated_server_is_told_the_rate_it_reaches(loadgen_test, tmp_path: Path) -> None:
    detail = read_detail(loadgen_test("over limit"))
    done = f'"result_completed_samples_per_sec", "value": {detail.get("result_completed_samples_per_sec")}'
    folder = _changed(loadgen_test("over limit"), tmp_path, (done, '"result_completed_samples_per_sec", "value": 1000'))
    assert "server_target_qps from 3000 to at most 900" in verdict(read_detail(folder)).reasons[0].change
