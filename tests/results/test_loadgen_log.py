from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path

import pytest

from nvkit.errors import LogError
from nvkit.results.loadgen_log import DETAIL_FILE, SUMMARY_FILE, read_detail, read_summary


def test_a_log_of_the_installed_loadgen(loadgen_test) -> None:
    detail = read_detail(loadgen_test("Server"))
    assert (detail.scenario, detail.mode) == ("Server", "PerformanceOnly")
    assert detail.loadgen_version.startswith("6.")
    assert detail.get("effective_target_qps") == 3000
    assert detail.errors == ()
    assert detail.duration_s == pytest.approx(0.3, abs=0.1)
    assert len(detail.all("loaded_qsl_set")[0]) == 10
    assert detail.get("no such key", 7) == 7
    assert read_detail(loadgen_test("Server") / DETAIL_FILE).sample_count == detail.sample_count


def test_an_accuracy_log_has_no_result(loadgen_test) -> None:
    detail = read_detail(loadgen_test("accuracy"))
    assert detail.mode == "AccuracyOnly"
    assert not detail.has_result
    with pytest.raises(LogError, match="result_samples_per_second"):
        detail.require("result_samples_per_second")
    assert read_summary(loadgen_test("accuracy")) == {}


def test_the_span_is_in_utc_and_over_all_parts(loadgen_test, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        folder = loadgen_test("accuracy")
        detail = read_detail(folder)
        begin, end = detail.span
        assert (folder / DETAIL_FILE).stat().st_mtime == pytest.approx(end, abs=5)
        parts = detail.all("power_begin")
        assert len(parts) == 10  # sets of ten of a hundred samples
        assert end > begin
        assert end - begin >= detail.duration_s  # the last part's, which may take less than LoadGen's millisecond
        performance = read_detail(loadgen_test("Server"))
        begin, end = performance.span
        assert end - begin == pytest.approx(performance.duration_s)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_published_logs_of_three_loadgen_versions(published_logs: Path) -> None:
    versions = {}
    for folder in sorted(published_logs.glob("*/*/*")):
        detail = read_detail(folder)
        versions[detail.scenario, detail.loadgen_version.split(" ")[0]] = detail.get("result_validity")
        assert detail.scenario == folder.name
        assert detail.duration_s == pytest.approx(600, abs=30)
        assert read_summary(folder)["Result is"] == "VALID"
    assert versions == {
        ("MultiStream", "3.0"): "VALID",
        ("Offline", "4.0"): "VALID",
        ("Server", "3.0"): "VALID",
        ("Server", "4.1"): "VALID",
        ("SingleStream", "3.0"): "VALID",
    }


def test_errors_and_warnings(loadgen_test, tmp_path: Path) -> None:
    assert any("Ran out of generated queries" in text for text in read_detail(loadgen_test("ran out")).errors)
    server = read_detail(next((Path(__file__).parents[1] / "data" / "logs").glob("v4.1*/resnet50/Server")))
    assert len(server.warnings) == 9
    assert all("Logging allocation" in text for text in server.warnings)


@pytest.mark.parametrize(
    ("value", "expected"),
    [('"a "quoted" file"', 'a "quoted" file'), ("-nan", "nan"), ("inf", "inf"), ("-inf", "-inf")],
)
def test_values_that_loadgen_writes_and_json_forbids(loadgen_test, tmp_path: Path, value: str, expected: str) -> None:
    text = (loadgen_test("Server") / DETAIL_FILE).read_text()
    file = tmp_path / DETAIL_FILE
    file.write_text(re.sub(r'("key": "result_completed_samples_per_sec", "value": )[^,]+', rf"\g<1>{value}", text))
    assert str(read_detail(file).get("result_completed_samples_per_sec")) == expected


def test_a_log_cut_off_between_lines_or_inside_one(loadgen_test, tmp_path: Path) -> None:
    lines = (loadgen_test("Server") / DETAIL_FILE).read_text().splitlines(keepends=True)
    end = next(i for i, line in enumerate(lines) if '"result_validity"' in line)
    file = tmp_path / DETAIL_FILE
    file.write_text("".join(lines[:end]))
    with pytest.raises(LogError, match=rf"ends at line {end} without result_validity.*run it again"):
        read_detail(tmp_path)
    file.write_text("".join(lines[:20]) + lines[20][:50])
    with pytest.raises(LogError, match="line 21: the line is cut off"):
        read_detail(tmp_path)
    file.write_text("".join(lines[:20]) + lines[20][:4])
    with pytest.raises(LogError, match="line 21: the line is cut off"):
        read_detail(tmp_path)
    file.write_text("".join(lines[:5]))
    with pytest.raises(LogError, match="ends at line 5, before LoadGen's settings"):
        read_detail(tmp_path)


def test_an_accuracy_log_cut_off_between_two_sets(loadgen_test, tmp_path: Path) -> None:
    lines = (loadgen_test("accuracy") / DETAIL_FILE).read_text().splitlines(keepends=True)
    loads = [i for i, line in enumerate(lines) if '"loaded_qsl_set"' in line]
    (tmp_path / DETAIL_FILE).write_text("".join(lines[: loads[4]]))
    with pytest.raises(LogError, match="with 40 of 100 samples issued"):
        read_detail(tmp_path)
    (tmp_path / DETAIL_FILE).write_text("".join(lines[: loads[-1] + 1]))
    with pytest.raises(LogError, match="100 of 100 samples issued and the last ones not completed"):
        read_detail(tmp_path)


def test_missing_empty_and_alien_files(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="no LoadGen log"):
        read_detail(tmp_path)
    (tmp_path / DETAIL_FILE).write_text("")
    with pytest.raises(LogError, match="is empty"):
        read_detail(tmp_path)
    (tmp_path / DETAIL_FILE).write_text("pid 12, tid 3: hello\n")
    with pytest.raises(LogError, match="line 1: not a line of a LoadGen detail log"):
        read_detail(tmp_path)
    (tmp_path / DETAIL_FILE).write_bytes(b"\x89PNG\r\n\x1a\n\x00\xff")
    with pytest.raises(LogError, match="line 1: not a line"):
        read_detail(tmp_path)


def test_a_summary_that_ends_early(loadgen_test, tmp_path: Path) -> None:
    text = (loadgen_test("Server") / SUMMARY_FILE).read_text()
    (tmp_path / SUMMARY_FILE).write_text(text[: len(text) // 2])
    with pytest.raises(LogError, match="without LoadGen's count of errors"):
        read_summary(tmp_path)
    shutil.copy(loadgen_test("Server") / SUMMARY_FILE, tmp_path)
    assert read_summary(tmp_path)["Scenario"] == "Server"


def test_every_line_of_a_log_is_an_entry(loadgen_test) -> None:
    detail = read_detail(loadgen_test("Offline"))
    lines = detail.path.read_text().splitlines()
    assert [entry.line for entry in detail.entries] == list(range(1, len(lines) + 1))
    assert detail.entries[-1].value == json.loads(lines[-1].removeprefix(":::MLLOG "))["value"]
