from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nvkit.errors import LogError
from nvkit.results.raw_log import ACCURACY_FILE, TRACE_FILE, read_accuracy, read_trace


def test_responses_are_those_that_the_sut_gave(loadgen_test) -> None:
    responses = read_accuracy(loadgen_test("accuracy"))
    assert responses == {index: index.to_bytes(4, "little") for index in range(100)}


def test_a_performance_run_logs_no_responses(loadgen_test) -> None:
    assert read_accuracy(loadgen_test("Server")) == {}


def test_the_first_response_of_a_repeated_sample_counts(tmp_path: Path) -> None:
    lines = [f'{{ "seq_id" : {i}, "qsl_idx" : 7, "data" : "0{i}" }}' for i in (1, 2)]
    (tmp_path / ACCURACY_FILE).write_text("[\n" + ",\n".join(lines) + "\n]\n")
    assert read_accuracy(tmp_path) == {7: b"\x01"}


def test_token_counts_beside_the_data_are_ignored(tmp_path: Path) -> None:
    text = '[\n{ "seq_id" : 0, "qsl_idx" : 3, "data" : "0A", "token_data" : "01", "token_count" : 1 }\n]\n'
    (tmp_path / ACCURACY_FILE).write_text(text)
    assert read_accuracy(tmp_path) == {3: b"\n"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[\n{ "seq_id" : 0, "qsl_idx" : 3, "data" : "0A0B" },\n{ "seq_id" : 1, "qsl', "cut off.*1 whole responses"),
        ('[\n{ "seq_id" : 0, "qsl_idx" : 3, "data" : "0A0X" }\n]\n', "cut off or damaged; 0 whole"),
        ('[\n{ "seq_id" : 0, "qsl_idx" : 3, "data" : "0A0" }\n]\n', "sample 3 has half a byte"),
        ('[\n{ "seq_id" : 0, "qs\n\n...\n\na" : "0A" }\n]\n', "shortened for submission"),
        ("hello", "not a LoadGen accuracy log"),
        ("", "is empty"),
    ],
)
def test_damaged_accuracy_logs(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / ACCURACY_FILE).write_text(text)
    with pytest.raises(LogError, match=message):
        read_accuracy(tmp_path)


def test_a_trace_read_by_patterns_equals_one_read_as_json(loadgen_test) -> None:
    folder = loadgen_test("MultiStream")
    lines = (folder / TRACE_FILE).read_text().splitlines()  # not JSON as a whole: some events lack a comma
    begins = [json.loads(line.rstrip(",")) for line in lines if '"Sample"' in line and '"ph":"b"' in line]
    begins.sort(key=lambda e: e["args"]["sample_seq"])
    raw = read_trace(folder)
    assert raw.sample_seq.tolist() == list(range(len(begins)))
    assert raw.scheduled_ns.tolist() == [round(e["ts"] * 1000) for e in begins]
    names = {"query_seq": raw.query_seq, "sample_idx": raw.sample_idx, "complete_ns": raw.latency_ns}
    for name, array in {**names, "issue_start_ns": raw.issue_delay_ns}.items():
        assert array.tolist() == [e["args"][name] for e in begins]
    assert (np.bincount(raw.query_seq) == 8).all()
    assert raw.query_latency_ns.tolist() == raw.latency_ns.reshape(-1, 8).max(axis=1).tolist()


def test_chunks_may_end_anywhere(loadgen_test, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read_trace(loadgen_test("Server"))
    for size in (61, 997):  # shorter and longer than a line
        monkeypatch.setattr("nvkit.results.raw_log._CHUNK", size)
        assert read_trace(loadgen_test("Server")).latency_ns.tolist() == whole.latency_ns.tolist()


def test_damaged_traces(loadgen_test, tmp_path: Path) -> None:
    data = (loadgen_test("Server") / TRACE_FILE).read_bytes()
    cases = {
        "ends before LoadGen's last event": data[: len(data) // 2],
        "not a LoadGen trace": b"[1, 2]",
        "tracing was off": b"",
        "1 sample events are not in the known form": data.replace(b'"sample_idx"', b'"other"', 1),
        "holds no samples": data.replace(b'"name":"Sample"', b'"name":"Sheep"'),
    }
    for message, content in cases.items():
        (tmp_path / TRACE_FILE).write_bytes(content)
        with pytest.raises(LogError, match=message):
            read_trace(tmp_path)
    with pytest.raises(LogError, match="no LoadGen log"):
        read_trace(tmp_path / "absent")
