from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
from interop.nvidia.configs import configure, opened
from interop.nvidia.releases import ROUNDS

from nvkit.errors import ConfigError
from nvkit.interop.nvidia import RUN_MODES, commands

OFFLINE = {
    **dict.fromkeys(("v2.1", "v3.0", "v3.1", "v4.0"), "64"),
    **dict.fromkeys(("v4.1", "v5.0"), "resnet50:64"),
}
"""Round to how it wants a batch size of 64."""


def golden(round: str) -> dict[str, list[str]]:
    head = "--benchmarks=resnet50 --scenarios=offline"
    tail = f"--gpu_copy_streams=2 --precision=int8 --gpu_batch_size={OFFLINE[round]}"
    build = f"{head} --offline_expected_qps=40000 {tail} --use_graphs --start_from_device"
    logs = "--log_dir=build/logs/nvkit/Offline"

    def run(test_mode: str, mode: str) -> str:
        options = f"{tail} {logs}/{mode} --use_graphs --start_from_device"
        return f"make run_harness RUN_ARGS='{head} --test_mode={test_mode} --offline_expected_qps=40000 {options}'"

    return {
        "prebuild": ["make prebuild DOCKER_DETACH=1"],
        "build": ["make build"],
        "download_model": ["make download_model BENCHMARKS=resnet50"],
        "preprocess_data": ["make preprocess_data BENCHMARKS=resnet50"],
        "calibrate": [f"make calibrate RUN_ARGS='{build}'"],
        "build_engine": [f"make generate_engines RUN_ARGS='{build}'"],
        "run_harness": [run("PerformanceOnly", "performance"), run("AccuracyOnly", "accuracy")],
    }


@pytest.mark.parametrize("round", ROUNDS)
def test_each_run_mode_is_the_releases_make_line(tmp_path: Path, round: str) -> None:
    config, checkout = configure(tmp_path, round, scenario="Offline"), opened(tmp_path, round)
    made = {mode: commands(config, mode, checkout) for mode in RUN_MODES}
    assert {mode: [c.line for c in lines] for mode, lines in made.items()} == golden(round)
    for command in (c for lines in made.values() for c in lines):
        assert command.cwd == checkout.root
        assert command.env == {"MLPERF_SCRATCH_PATH": "/scratch"}
        # The target exists there: make accepts the line.
        dry = subprocess.run(["make", "-n", "-f", "-", command.line.split()[1]], input=_rules(checkout.root), **_TEXT)
        assert dry.returncode == 0, dry.stderr


_TEXT = {"text": True, "capture_output": True}


def _rules(root: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(root.glob("Makefile*")))


@pytest.mark.parametrize(
    ("round", "verify"),
    [("v2.1", ""), *((round, " --no_audit_verify") for round in ROUNDS[1:])],
)
def test_an_audit_runs_once_without_test_mode_and_verification(tmp_path: Path, round: str, verify: str) -> None:
    config, checkout = configure(tmp_path, round, scenario="Offline"), opened(tmp_path, round)
    (command,) = commands(config, "run_harness", checkout, audit="TEST01")
    assert command.line == (
        "make run_audit_test01_once RUN_ARGS='--benchmarks=resnet50 --scenarios=offline "
        f"--offline_expected_qps=40000 --gpu_copy_streams=2 --precision=int8 --gpu_batch_size={OFFLINE[round]} "
        f"--use_graphs --start_from_device{verify}'"
    )
    assert (command.mode, command.scenario) == ("TEST01", "Offline")
    assert command.log_dir == checkout.root / "build/compliance_logs/TEST01"


def test_an_audit_without_a_once_target_and_an_unknown_one(tmp_path: Path) -> None:
    config, checkout = configure(tmp_path, "v4.1", scenario="Offline"), opened(tmp_path, "v4.1")
    assert commands(config, "run_harness", checkout, audit="test06")[0].line.startswith("make run_audit_test06 ")
    with pytest.raises(ConfigError, match=r"NVIDIA's code of v3\.0 has no audit TEST06") as caught:
        commands(configure(tmp_path, "v3.0"), "run_harness", opened(tmp_path, "v3.0"), audit="TEST06")
    assert "TEST01, TEST04, TEST05" in caught.value.fix


def test_one_command_for_each_scenario_and_test(tmp_path: Path) -> None:
    config, checkout = configure(tmp_path, "v3.0"), opened(tmp_path, "v3.0")
    run = commands(config, "run_harness", checkout, logs=tmp_path / "logs")
    scenarios = list(config.scenarios)
    assert [(c.scenario, c.mode) for c in run] == [(s, m) for s in scenarios for m in ("performance", "accuracy")]
    assert [c.log_dir for c in run[:2]] == [tmp_path / "logs" / scenarios[0] / m for m in ("performance", "accuracy")]
    assert f"--log_dir={tmp_path}/logs/{scenarios[0]}/accuracy" in shlex.split(_run_args(run[1].line))
    assert [c.scenario for c in commands(config, "build_engine", checkout)] == scenarios
    assert len(commands(config, "calibrate", checkout)) == 1


@pytest.mark.parametrize(
    ("mode", "test_mode"),
    [("performance", "PerformanceOnly"), ("accuracy", "AccuracyOnly"), ("submission", "SubmissionRun")],
)
def test_a_single_mode_is_a_single_test(tmp_path: Path, mode: str, test_mode: str) -> None:
    config = configure(tmp_path, "v3.0", scenario="Offline", mode=mode)
    (command,) = commands(config, "run_harness", opened(tmp_path, "v3.0"))
    assert f"--test_mode={test_mode}" in command.line
    assert command.mode == mode


def test_a_container_gets_the_line_quoted_and_logs_that_it_can_see(tmp_path: Path) -> None:
    config = configure(tmp_path, "v3.0", scenario="Offline", nvidia_command="docker exec mlperf bash -c {}")
    checkout = opened(tmp_path, "v3.0")
    command = commands(config, "run_harness", checkout, logs=tmp_path / "elsewhere")[0]
    *docker, inside = shlex.split(command.line)
    assert docker == ["docker", "exec", "mlperf", "bash", "-c"]
    assert inside.startswith("MLPERF_SCRATCH_PATH=/scratch make run_harness RUN_ARGS=")
    assert command.log_dir is not None
    assert command.log_dir.is_relative_to(checkout.root)
    assert f"--log_dir={command.log_dir.relative_to(checkout.root)}" in inside
    assert commands(config, "prebuild", checkout)[0].line == "make prebuild DOCKER_DETACH=1"


def test_a_container_knows_its_own_scratch_folder(tmp_path: Path) -> None:
    config = configure(tmp_path, "v3.0", scenario="Offline", nvidia_scratch=None, nvidia_command="sh -c {}")
    assert commands(config, "build", opened(tmp_path, "v3.0"))[0].line == "sh -c 'make build'"
    with pytest.raises(ConfigError, match="make prebuild needs NVIDIA's scratch folder"):
        commands(config, "prebuild", opened(tmp_path, "v3.0"))


def test_what_bash_and_make_hand_to_the_program_is_what_was_meant(tmp_path: Path) -> None:
    config = configure(
        tmp_path, "v3.0", scenario="Offline", user_conf_path=tmp_path / "it's $HOME", nvidia_command="bash -c {}"
    )
    command = commands(config, "run_harness", opened(tmp_path, "v3.0"))[0]
    (tmp_path / "Makefile").write_text("run_harness:\n\t@printf '%s\\n' $(RUN_ARGS)\n")
    done = subprocess.run(["bash", "-c", command.line], cwd=tmp_path, check=True, **_TEXT)  # type: ignore[call-overload]
    assert f"--user_conf_path={tmp_path}/it's $HOME" in done.stdout.splitlines()


def test_data_that_can_be_downloaded_is_and_the_users_own_is_linked(tmp_path: Path) -> None:
    checkout = opened(tmp_path, "v3.0")
    bert = commands(configure(tmp_path, "v3.0", "bert-99.9", "Offline"), "preprocess_data", checkout)
    assert [c.line for c in bert] == ["make download_data BENCHMARKS=bert", "make preprocess_data BENCHMARKS=bert"]

    scratch, images = tmp_path / "scratch", tmp_path / "images"
    images.mkdir()
    own = configure(tmp_path, "v3.0", scenario="Offline", data_dir=images, nvidia_scratch=scratch)
    link, preprocess = commands(own, "preprocess_data", checkout)
    subprocess.run(["bash", "-c", link.line], check=True)
    assert (scratch / "data/imagenet").resolve() == images
    assert preprocess.line == "make preprocess_data BENCHMARKS=resnet50"


def test_a_model_that_nvidia_does_not_read_is_refused(tmp_path: Path) -> None:
    config = configure(tmp_path, "v3.0", "rnnt", "Offline", model_path=tmp_path / "rnnt.onnx")
    with pytest.raises(ConfigError, match="model_path has no effect here"):
        commands(config, "download_model", opened(tmp_path, "v3.0"))


def test_a_script_that_the_release_lacks_is_said_before_make(tmp_path: Path) -> None:
    config = configure(tmp_path, "v4.1", "dlrm-v2-99", "Offline")
    with pytest.raises(ConfigError, match=r"has no download_model\.sh for dlrm-v2"):
        commands(config, "download_model", opened(tmp_path, "v4.1"))


def test_another_make_target_is_for_the_run_and_checked(tmp_path: Path) -> None:
    checkout = opened(tmp_path, "v3.0")
    config = configure(tmp_path, "v3.0", scenario="Offline", make_target="run_harness_power")
    assert commands(config, "run_harness", checkout)[0].line.startswith("make run_harness_power RUN_ARGS=")
    assert commands(config, "build_engine", checkout)[0].line.startswith("make generate_engines ")
    with pytest.raises(ConfigError, match="no make target 'run_harnes'") as caught:
        commands(configure(tmp_path, "v3.0", make_target="run_harnes"), "run_harness", checkout)
    assert "Did you mean 'run_harness'?" in caught.value.fix


@pytest.mark.parametrize(
    ("run_mode", "audit", "given", "message"),
    [
        ("run", None, {}, "There is no run mode 'run'"),
        ("build", "TEST01", {}, "TEST01 belongs to run_harness"),
        ("build", None, {"nvidia_scratch": None}, "make build needs NVIDIA's scratch folder"),
        ("build", None, {"nvidia_command": "docker exec mlperf"}, "has no {} for the line"),
    ],
)
def test_mistakes_are_said(
    tmp_path: Path, run_mode: str, audit: str | None, given: dict[str, str | None], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        commands(configure(tmp_path, "v3.0", **given), run_mode, opened(tmp_path, "v3.0"), audit=audit)


def _run_args(line: str) -> str:
    (argument,) = [word for word in shlex.split(line) if word.startswith("RUN_ARGS=")]
    return argument.removeprefix("RUN_ARGS=")
