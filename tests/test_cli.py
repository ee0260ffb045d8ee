from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from nvml_replay import replay

from nvkit.__main__ import main
from nvkit.cli import words
from nvkit.config import parameters_folder
from nvkit.errors import ConfigError
from nvkit.system import python_path

CM = "cm run script --tags=reproduce,mlperf,inference,nvidia,harness"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    shown = capsys.readouterr()
    return int(ended.value.code or 0), shown.out, shown.err


def test_help_explains_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == 0
    for command in (
        "run",
        "setup",
        "preprocess",
        "calibrate",
        "build",
        "report",
        "explain",
        "tune",
        "from-cm",
        "list",
        "doctor",
        "bench",
    ):
        assert f"  {command} " in out
        code, text, _ = run(capsys, command, "--help")
        assert code == 0
        assert "Usage: nvkit" in text


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run", "resnet50", "--profile", "cpux"], 2, "Did you mean 'cpu'?"),
        (["run", "resnet51"], 2, "Did you mean 'resnet50'?"),
        (["run", "--scenario", "Servr"], 2, "Did you mean 'Server'?"),
        (["run", "--batchsize", "3"], 2, "Did you mean 'batch_size'?"),
        (["run", "--batch-size"], 2, "--batch-size needs a value"),
        (["run", "--batch-size", "x"], 2, "batch_size = 'x'"),
        (["run", "--use-graphs"], 2, "use_graphs has no effect here"),
        (["run", "--implementation", "nvidia"], 2, "There is no implementation 'nvidia'"),
        (["run", "--implementation", "nvidia-original", "--profile", "l4"], 2, "--nvidia-code"),
        (["run", "--run-mode", "calibrate", "--dry-run"], 2, "belongs to NVIDIA's code"),
        (["run", "--power", "MaxQ", "--profile", "cpu"], 2, "Profile cpu has no MaxQ values"),
        (["setup", "rnnt", "--profile", "cpu", "--round", "v3.0"], 2, "nvkit's own harness does not have rnnt"),
        (["explain", "--profile", "rtx_409"], 2, "Did you mean 'rtx_4090'?"),
        (["tune", "--scenario", "Offlin"], 2, "Did you mean 'Offline'?"),
        (["from-cm"], 2, "No command was given"),
        (["from-cm", f"{CM},_retinant"], 2, "Did you mean 'retinanet'?"),
        (["from-cm", f"{CM},_l4,_t4"], 2, "both of the group gpu-name"),
        (["from-cm", f"{CM},_3d-unet-99,_server"], 2, "Server"),
        (["from-cm", f"{CM} --gpu_batch_size=many"], 2, "many"),
        (["list", "profile"], 2, "Did you mean 'profiles'?"),
        (["no-such-command"], 2, "No such command"),
        (["run", "stray", "words"], 2, "More than one benchmark was given: stray, words"),
    ],
)
def test_wrong_input_is_one_paragraph_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    found, _, err = run(capsys, *arguments)
    assert found == code
    assert message in " ".join(err.split())
    assert err.startswith("nvkit: ")
    assert "Traceback" not in err
    assert "\n\n" not in err


def test_explain_says_which_profile_it_found_and_why(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    replay("l4", monkeypatch)
    code, out, _ = run(capsys, "explain", "resnet50", "--scenario", "Server")
    assert code == 0
    assert "profile l4, by PCI id 10de:27b8" in out
    assert re.search(r"batch_size +16 +profile, scenario +parameters/gpus/l4.yaml:\d+", out)


def test_explain_shows_guesses_and_values_that_nothing_sets(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "explain", "resnet50", "--profile", "rtx_5090", "--scenario", "Offline")
    assert re.search(r"batch_size +2048 +profile gpu_memory_32, guess, scenario", out)
    _, out, _ = run(capsys, "explain", "bert-99", "--profile", "rtx_5090", "--scenario", "Server")
    assert re.search(r"batch_size +1 +default", out)


def test_a_dry_run_of_nvkit_itself_writes_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = run(capsys, "run", "--profile", "cpu", "--dry-run", "--outputs", str(tmp_path / "outputs"))
    assert code == 0
    assert re.search(r"calibrate +30_calibrate.ipynb +to do", out)
    assert list(tmp_path.iterdir()) == []


def test_from_cm_prints_the_command_and_can_run_it(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "from-cm", f"{CM},_rtx_4090,_bert-99,_server --gpu_batch_size=128")
    line = "nvkit run bert-99 --profile=rtx_4090 --scenario=Server --mode=performance --round=v3.0 --batch-size=128"
    assert code == 0
    assert line in out
    code, out, err = run(capsys, "from-cm", "--run", f"{CM},_rtx_4090,_bert-99,_server")
    assert code != 0
    assert "bert" in err  # it went as far as the machine and the kit allow


def test_data_errors_have_exit_code_2_before_any_work(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    empty, outputs = tmp_path / "empty", tmp_path / "out"
    empty.mkdir()
    code, _, err = run(capsys, "setup", "--data-dir", str(empty), "--outputs", str(outputs))
    assert (code, "Traceback" in err) == (2, False)
    assert "val_map.txt" in err
    model = tmp_path / "model.onnx"
    model.write_bytes(b"\x08\x07\x12")
    code, _, err = run(
        capsys, "setup", "--model-path", str(model), "--outputs", str(outputs), "--generated-images", "16"
    )
    assert (code, "Traceback" in err) == (2, False)
    assert "model.onnx" in err


def test_a_wrong_checksum_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "resnet50_v1.onnx"
    path.write_bytes(b"\x08\x07\x12")
    code, _, err = run(
        capsys, "setup", f"--model-path={path}", f"--outputs={tmp_path / 'out'}", "--quick", "--generated-images=16"
    )
    assert code == 2
    assert "Traceback" not in err
    assert "a638cf028b5870da29e09ccc2f7182e7" in err


def test_an_audit_config_in_the_working_directory_is_refused_first(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("audit.config").write_text("*.*.mode = 2\n")
    code, _, err = run(capsys, "run", "--quick", f"--outputs={tmp_path / 'out'}")
    assert code == 2
    assert "audit.config lies in" in " ".join(err.split())
    assert not (tmp_path / "out").exists()


def test_a_profile_with_a_duplicate_key_names_the_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "parameters"
    shutil.copytree(parameters_folder(), folder)
    path = folder / "gpus" / "cpu.yaml"
    path.write_text(path.read_text() + "title: again\n")
    monkeypatch.setattr("nvkit.config.files.parameters_folder", lambda: folder)
    code, _, err = run(capsys, "run", "--quick", f"--outputs={tmp_path / 'out'}")
    assert code == 2
    assert "parameters/gpus/cpu.yaml:" in err
    assert "duplicate key" in " ".join(err.split())


def test_explain_shows_file_key_and_layer(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "explain", "--scenario", "Server", "--quick", "--batch-size=2")
    assert code == 0
    row = next(line for line in out.splitlines() if line.startswith("batch_size"))
    assert "flag or notebook parameter" in row
    assert "parameters/rounds/v4.1.yaml:" in out
    _, everything, _ = run(capsys, "explain", "--scenario", "Server", "--all")
    assert "nvkit/config/settings.py" in everything


def test_list_shows_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "list")
    for word in ("cpu", "resnet50", "MultiStream", "v2.1", "v6.0"):
        assert word in out
    _, settings, _ = run(capsys, "list", "settings")
    assert "gpu_copy_streams" in settings


def test_doctor_never_fails(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = run(capsys, "doctor", "--outputs", str(tmp_path), "--data-dir", str(tmp_path / "none"))
    assert code == 0
    for word in ("Python", "Memory", "Disk", "TensorRT", "LoadGen"):
        assert word.lower() in out.lower()


def test_words_are_a_benchmark_and_settings_in_any_spelling() -> None:
    assert words(["--batch-size", "4", "--use-graphs", "resnet50", "--min_duration=10"], "x") == (
        "resnet50",
        {"batch_size": "4", "use_graphs": True, "min_duration": "10"},
    )
    assert words(["--download-model"], "x") == ("x", {"download_model": True})
    with pytest.raises(ConfigError, match="no flag or setting '-x'"):
        words(["-x"], "")


def test_a_defect_shows_its_traceback_and_has_exit_code_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nvkit.catalogue.profiles", lambda: 1 / 0)
    monkeypatch.setitem(__import__("nvkit.catalogue").catalogue.CATALOGUE, "profiles", lambda: 1 / 0)
    code, _, err = run(capsys, "list", "profiles")
    assert code == 1
    assert "ZeroDivisionError" in err
    assert "defect of nvkit" in err


def test_a_full_disk_is_one_paragraph_with_exit_code_3(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting a tmpfs needs root")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "nvkit", "run", "--quick", "--outputs", str(disk)],
            env={**os.environ, "PYTHONPATH": python_path()},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 3, done.stderr
        assert "is full" in " ".join(done.stderr.split())  # the paragraph is wrapped
        assert "Traceback" not in done.stderr
        (run_folder,) = (disk / "runs").iterdir()
        assert json.loads((run_folder / "config.json").read_text())["profile"] == "cpu"
        assert not list((run_folder / "stages").glob("*.json"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)
