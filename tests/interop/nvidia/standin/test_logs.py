from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nvkit.errors import HarnessError
from nvkit.interop.nvidia.accuracy import read_score
from nvkit.interop.nvidia.logs import changed, collect, state

_CHILD = Path(__file__).parents[3] / "results" / "loadgen_child.py"


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders with real logs of LoadGen."""
    root = tmp_path_factory.mktemp("loadgen")
    made = {}
    for scenario, mode in (("Offline", "PerformanceOnly"), ("Offline", "AccuracyOnly"), ("Server", "PerformanceOnly")):
        made[f"{scenario} {mode}"] = folder = root / f"{scenario}-{mode}"
        folder.mkdir()
        subprocess.run(
            [sys.executable, str(_CHILD), str(folder), scenario, mode], check=True, stdout=subprocess.DEVNULL
        )
    return made


def _place(source: Path, log_dir: Path, system: str = "L4x1_TRT") -> Path:
    """Put logs where NVIDIA's code does."""
    folder = log_dir / system / "resnet50" / "Offline"
    shutil.copytree(source, folder, dirs_exist_ok=True)
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


def test_the_new_test_is_found_whatever_the_layout_and_copied_whole(
    tmp_path: Path, target: Path, logs: dict[str, Path]
) -> None:
    before = state(tmp_path / "logs")
    folder = _place(logs["Offline PerformanceOnly"], tmp_path / "logs" / "2026.01.02-03.04.05")
    (folder / "metadata.json").write_text("{}")
    detail = collect(tmp_path / "logs", before, "Offline", "performance", target)
    assert detail.has_result
    assert {p.name for p in target.iterdir()} == {p.name for p in folder.iterdir()}
    assert "mlperf_log_trace.json" in {p.name for p in target.iterdir()}


def test_old_logs_are_never_taken(tmp_path: Path, target: Path, logs: dict[str, Path]) -> None:
    folder = _place(logs["Offline PerformanceOnly"], tmp_path / "logs")
    for path in folder.iterdir():
        os.utime(path, (time.time() - 7200, time.time() - 7200))
    before = state(tmp_path / "logs")
    with pytest.raises(
        HarnessError, match=r"wrote no LoadGen log .* 1 of earlier runs lie there, the newest 2 hours old"
    ):
        collect(tmp_path / "logs", before, "Offline", "performance", target)
    assert not list(target.iterdir())


def test_an_old_accuracy_txt_beside_new_logs_stays_there(tmp_path: Path, target: Path, logs: dict[str, Path]) -> None:
    folder = _place(logs["Offline AccuracyOnly"], tmp_path / "logs")
    (folder / "accuracy.txt").write_text("accuracy=99.9%, good=1, total=1\n")
    before = state(tmp_path / "logs")
    for path in folder.glob("mlperf_log_*"):
        os.utime(path)
    collect(tmp_path / "logs", before, "Offline", "accuracy", target)
    assert not (target / "accuracy.txt").exists()
    assert (target / "mlperf_log_accuracy.json").exists()


@pytest.mark.parametrize(
    ("scenario", "mode", "wanted"),
    [("Server", "performance", "Server PerformanceOnly"), ("Offline", "accuracy", "Offline AccuracyOnly")],
)
def test_logs_of_another_test_are_refused(
    tmp_path: Path, target: Path, logs: dict[str, Path], scenario: str, mode: str, wanted: str
) -> None:
    _place(logs["Offline PerformanceOnly"], tmp_path / "logs")
    with pytest.raises(HarnessError, match=f"not of {wanted} but of Offline PerformanceOnly"):
        collect(tmp_path / "logs", {}, scenario, mode, target)


def test_the_right_one_of_several_new_tests_is_taken(tmp_path: Path, target: Path, logs: dict[str, Path]) -> None:
    for name, folder in logs.items():
        _place(folder, tmp_path / "logs" / name.replace(" ", "-"))
    detail = collect(tmp_path / "logs", {}, "Server", "performance", target)
    assert detail.scenario == "Server"


def test_two_new_tests_of_the_same_kind_are_an_error(tmp_path: Path, target: Path, logs: dict[str, Path]) -> None:
    for system in ("L4x1_TRT", "T4x1_TRT"):
        _place(logs["Offline PerformanceOnly"], tmp_path / "logs", system)
    with pytest.raises(HarnessError, match="2 new tests of Offline PerformanceOnly"):
        collect(tmp_path / "logs", {}, "Offline", "performance", target)


def test_a_cut_off_log_is_an_error(tmp_path: Path, target: Path, logs: dict[str, Path]) -> None:
    folder = _place(logs["Offline PerformanceOnly"], tmp_path / "logs")
    detail = folder / "mlperf_log_detail.txt"
    detail.write_text(detail.read_text()[:-4000])
    with pytest.raises(HarnessError, match=r"mlperf_log_detail\.txt"):
        collect(tmp_path / "logs", {}, "Offline", "performance", target)


def test_changed_sees_new_and_rewritten_files_only(tmp_path: Path) -> None:
    for name in ("same.plan", "rewritten.plan", "other.txt"):
        (tmp_path / name).write_text("1")
    before = state(tmp_path, "*.plan")
    (tmp_path / "rewritten.plan").write_text("22")
    (tmp_path / "new.plan").write_text("3")
    assert [p.name for p in changed(tmp_path, before, "*.plan")] == ["new.plan", "rewritten.plan"]
    assert state(tmp_path / "nowhere") == {}


_SCRIPTS = {
    "acc": ("accuracy=76.034%, good=38017, total=50000", 76.034, 50000),
    "mAP": (" Average Recall = 0.678\nmAP=37.552%", 37.552, 7),
    "F1": ('Reading examples...\n{"exact_match": 83.67, "f1": 90.884}', 90.884, 7),
    "DICE": ("Accuracy: mean = 0.86246, kidney = 0.9350, tumor = 0.7899\nDone!", 0.86246, 7),
    "AUC": ("AUC=80.172%, accuracy=96.608%, good=86114135, total=89137319, queries=330067", 80.172, 330067),
    "WER": ("Word Error Rate: 7.449998872578862%, accuracy=92.55000112742113%", 92.55000112742113, 7),
}


@pytest.mark.parametrize("metric", sorted(_SCRIPTS))
def test_the_score_of_every_metric_is_read_in_the_unit_of_its_target(tmp_path: Path, metric: str) -> None:
    text, value, count = _SCRIPTS[metric]
    (tmp_path / "accuracy.txt").write_text(f"Loading...\n{text}\nhash=0123\n")
    score = read_score(tmp_path, metric, 7)
    assert (score.metric, score.value, score.count) == (metric, value, count)
    assert score.line in text


def test_every_metric_of_the_rounds_can_be_read() -> None:
    from nvkit.config.files import RoundFile, load, names

    rounds = [load(RoundFile, name)[0] for name in names(RoundFile)]
    assert {rule.metric for found in rounds for rule in found.benchmarks.values()} <= set(_SCRIPTS)


def test_a_run_that_was_not_scored_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"left no accuracy\.txt"):
        read_score(tmp_path, "acc", 64)
    (tmp_path / "accuracy.txt").write_text("FileNotFoundError: val_map.txt\n")
    with pytest.raises(HarnessError, match=r"no line of the metric acc: FileNotFoundError: val_map\.txt"):
        read_score(tmp_path, "acc", 64)
