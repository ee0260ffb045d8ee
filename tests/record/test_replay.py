from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nvkit.errors import InputError
from nvkit.record.diff import compared
from nvkit.record.replay import Replay, arguments, replay
from nvkit.record.stored_run import open_stored


def test_a_record_is_run_again_as_a_run_of_its_own(made: Any, outputs: Path) -> None:
    found = replay(made.run, str(outputs))
    assert found.path != made.run
    assert (found.path / "60_report.ipynb").is_file()
    again = open_stored(found.path)
    before = found.diff.a
    for scenario, test in before.measured().items():
        assert {key: value.value for key, value in test.expectations.items()} == {
            key: value.value for key, value in again.measured()[scenario].expectations.items()
        }
    kinds = {one.kind for one in found.diff.differences}
    assert "parameter" not in kinds
    assert "artefact" not in kinds
    verdicts = {row[0]: row[-1] for row in found.tables()[0].rows}
    assert set(verdicts) == {"Offline", "SingleStream"}
    assert found.reproduced is all(verdict == "equal" for verdict in verdicts.values())
    assert ("NOT reproduced" in found.headline()) is not found.reproduced


def test_the_names_and_the_users_values_are_those_of_the_record(complied: Any) -> None:
    names, values = arguments(open_stored(complied.run.path), {"batch_size": 3})
    assert names["scenario"] == "Offline,SingleStream"
    assert (names["quick"], names["round"], names["profile"]) == (True, "v4.1", "cpu")
    assert values["synthetic_width"] == 0.125
    assert values["batch_size"] == 3
    assert isinstance(values["single_stream_expected_latency_ns"], int)


def test_files_of_the_records_machine_must_be_said_again(complied: Any, tmp_path: Path) -> None:
    run = open_stored(complied.run.path)
    origin = [{"layer": "user", "where": "flag", "key": "data_dir", "value": "$DATA_DIR"}]
    moved = replace(run, config={**run.config, "origins": {"Offline": {"data_dir": origin}}})
    with pytest.raises(InputError, match="Say where they are here: --data-dir"):
        arguments(moved, {})
    assert arguments(moved, {"data_dir": str(tmp_path)})[1]["data_dir"] == str(tmp_path)


def test_a_gap_is_explained_by_what_differs_or_by_chance(complied: Any) -> None:
    run = open_stored(complied.run.path)
    same = Replay(compared(run, run), run.path)
    assert same.reproduced
    assert "variation from run to run" in str(same)
    setup = {**run.stages["setup"], "system": {**run.system, "kernel": "9.9"}}
    other = replace(run, stages={**run.stages, "setup": setup})
    assert f"kernel {run.system['kernel']} -> 9.9" in str(Replay(compared(run, other), run.path))
