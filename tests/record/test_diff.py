from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from nvkit.errors import InputError
from nvkit.record.diff import Diff, diff
from nvkit.record.diff_plots import speed_of_b


@pytest.fixture
def other(complied: Any, tmp_path: Path) -> Path:
    """A copy of the run: slower, on another machine, with another batch size."""
    run = Path(shutil.copytree(complied.run.path, tmp_path / "runs" / complied.run.path.name))
    stages, config = run / "stages", json.loads((run / "config.json").read_text())
    setup, results = json.loads((stages / "setup.json").read_text()), json.loads((stages / "run.json").read_text())
    setup["system"]["cpu"]["model"] = "Another CPU"
    setup["system"]["ram_available_gib"] = -1.0
    setup["system"]["packages"]["onnxruntime"] = "0.0.1"
    config["scenarios"]["Offline"]["batch_size"] = 77
    for test in results["tests"]:
        if metric := test["summary"]["metric"]:
            metric["value"] *= 0.9 if metric["higher_is_better"] else 1.01
    (run / "config.json").write_text(json.dumps(config))
    (stages / "setup.json").write_text(json.dumps(setup))
    (stages / "run.json").write_text(json.dumps(results))
    return run


def _rows(found: Diff, title: str) -> dict[str, tuple[Any, ...]]:
    table = next(table for table in found.tables() if table.title == title)
    return {row[0]: tuple(row[1:]) for row in table.rows}


def test_a_run_is_equal_to_itself(complied: Any) -> None:
    same = diff(complied.run.path, complied.run.path)
    assert same.equal
    assert same.headline() == "All results are within 2%."
    assert same.differences == ()
    assert "none in" in str(same)


def test_gaps_are_judged_by_the_2_percent(complied: Any, other: Path) -> None:
    found = diff(complied.run.path, other)
    assert not found.equal
    pairs = {pair.scenario: pair for pair in found.pairs}
    assert not pairs["Offline"].within
    assert pairs["Offline"].faster == pytest.approx(-0.1)
    assert pairs["SingleStream"].within
    assert pairs["SingleStream"].faster == pytest.approx(1 / 1.01 - 1)
    assert "Offline -10.0%" in found.headline()
    assert "SingleStream" not in found.headline()


def test_what_differs_is_named_once_and_only_what_differs(complied: Any, other: Path) -> None:
    found = diff(complied.run.path, other)
    assert _rows(found, "Parameters that differ") == {
        "Offline batch_size": (str(complied.config.scenarios["Offline"].batch_size), "77")
    }
    assert set(_rows(found, "The machine")) == {"cpu model"}
    assert _rows(found, "Versions")["onnxruntime"][1] == "0.0.1"
    assert [one.kind for one in found.differences] == ["parameter", "machine", "version"]


def test_notes_of_both_runs_stand_below_the_results(complied: Any, other: Path) -> None:
    text = str(diff(complied.run.path, other))
    assert text.count("synthetic weights") == 1
    assert f"A is {complied.run.path.name}" in text


def test_plots_overlay_both_runs(complied: Any, other: Path) -> None:
    figures = diff(complied.run.path, other).figures()
    assert set(figures) == {"diff-results", "diff-Offline-progress", "diff-SingleStream-latency-percentiles"}
    labels = [text.get_text() for text in figures["diff-SingleStream-latency-percentiles"].axes[0].get_legend().texts]
    assert [label.split(",")[0] for label in labels] == ["A", "B"]
    assert "-10.0 %" in [text.get_text() for text in figures["diff-results"].axes[0].texts]


def test_runs_without_a_trace_have_the_plot_of_results_only(complied: Any, other: Path) -> None:
    for trace in other.rglob("mlperf_log_trace.json"):
        trace.write_text("")
    assert set(diff(complied.run.path, other).figures()) == {"diff-results"}


@pytest.mark.parametrize("faster", [{"Offline": 0.001}, {"Offline": 9.0, "Server": -0.95}, {"Offline": -0.3}])
def test_the_axis_of_gaps_is_readable_at_any_size(faster: dict[str, float]) -> None:
    axes = speed_of_b(faster, 0.02).axes[0]
    low, high = axes.get_xlim()
    ticks = sorted(float(tick) for tick in axes.get_xticks())
    assert 2 <= len(ticks) <= 5
    assert all(low < tick < high for tick in ticks)
    assert min(b - a for a, b in itertools.pairwise(ticks)) > 0.03 * (high - low)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, complied: Any) -> None:
    with pytest.raises(InputError, match=r"There is no .*config\.json"):
        diff(complied.run.path, tmp_path)
