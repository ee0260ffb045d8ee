from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import nvkit
from nvkit.errors import InputError, UnfinishedStageError
from nvkit.runs import RunFolder, StageResult, find_runs, open_run


class Counted(StageResult):
    value: int


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return open_run(nvkit.configure("cpu", scenario="Offline"), tmp_path)


def test_the_folders_name_says_what_it_is(run: RunFolder) -> None:
    assert re.fullmatch(r"\d{8}T\d{6}Z-cpu-resnet50-[0-9a-f]{8}", run.path.name)
    config = json.loads((run.path / "config.json").read_text())
    assert config["scenarios"]["Offline"]["min_duration"] == 600_000
    assert config["origins"]["Offline"]["min_duration"][0]["where"].startswith("parameters/rounds/v4.1.yaml:")


def test_the_newest_folder_of_a_configuration_is_continued(tmp_path: Path, run: RunFolder) -> None:
    assert open_run(run.config, tmp_path).path == run.path
    other = open_run(nvkit.configure("cpu", scenario="Server"), tmp_path)
    assert other.path != run.path
    newer = open_run(run.config, tmp_path, new=True)
    assert newer.path != run.path
    assert open_run(run.config, tmp_path).path == newer.path
    assert len(find_runs(tmp_path)) == 3


def test_a_given_folder_must_be_of_the_configuration(tmp_path: Path, run: RunFolder) -> None:
    assert open_run(run.config, run_dir=run.path).path == run.path
    with pytest.raises(InputError, match="not a run of this configuration"):
        open_run(nvkit.configure("cpu", scenario="Server"), run_dir=run.path)


def test_a_stage_is_done_once_and_reused_by_key(run: RunFolder) -> None:
    calls = []

    def work() -> Counted:
        calls.append(1)
        return Counted(value=len(calls))

    first = run.stage(Counted, "s", {"a": 1}, work)
    again = run.stage(Counted, "s", {"a": 1}, work)
    assert (first.value, first.reused, again.value, again.reused) == (1, False, 1, True)
    assert again.headline().startswith("s: reused, finished ")
    assert run.stage(Counted, "s", {"a": 2}, work).value == 2
    assert run.stage(Counted, "s", {"a": 2}, work, fresh=True).value == 3


def test_an_unfinished_stage_of_a_read_only_folder_is_an_error(run: RunFolder) -> None:
    frozen = RunFolder(run.path, run.config, read_only=True)
    with pytest.raises(UnfinishedStageError, match="Stage s of"):
        frozen.stage(Counted, "s", {}, lambda: Counted(value=1))


def test_a_stage_that_fails_leaves_no_result_not_even_its_old_one(run: RunFolder) -> None:
    run.stage(Counted, "s", {"a": 1}, lambda: Counted(value=1))

    def fail() -> Counted:
        raise RuntimeError("crash")

    with pytest.raises(RuntimeError):
        run.stage(Counted, "s", {"a": 2}, fail)
    assert not run.stage_file("s").exists()


def test_a_damaged_result_is_not_reused(run: RunFolder) -> None:
    run.stage(Counted, "s", {}, lambda: Counted(value=1))
    run.stage_file("s").write_text('{"value": ')
    assert run.stage(Counted, "s", {}, lambda: Counted(value=2)).value == 2
