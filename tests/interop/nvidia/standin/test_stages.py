from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import nvkit
from nvkit import stages
from nvkit.config import RunConfig, resolve
from nvkit.dry_run import dry_run
from nvkit.errors import ConfigError, EngineBuildError, ExecutionError, HarnessError, SetupError
from nvkit.interop.nvidia.stages import on_request
from nvkit.runs import RunFolder

Configure = Callable[..., RunConfig]
NAMES = ("setup", "preprocess", "calibrate", "build", "run", "report")


def _open(config: RunConfig, checkout: Path) -> RunFolder:
    return nvkit.open_run(config, checkout.parents[2] / "outputs")


def _text(result: object) -> str:
    return f"{result}"


def _files(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts}


def test_all_stages_end_in_the_same_report_as_nvkits_own(
    checkout: Path, configure: Configure, small_run: RunFolder
) -> None:
    config = configure("Offline,SingleStream", single_stream_expected_latency_ns=1_000_000)
    run = _open(config, checkout)
    report = stages.report(config, run)
    own = stages.report(small_run.config, small_run)
    assert type(report) is type(own)

    def shapes(tables: list[nvkit.StageResult]) -> list[tuple[str, tuple[str, ...]]]:
        return [(table.title, tuple(table.headings)) for table in tables]

    assert shapes(report.tables()) == shapes(own.tables())
    assert shapes([report.checks()]) == shapes([own.checks()])
    assert [row[0] for row in report.checks().rows] == ["Offline", "SingleStream"]
    assert all(row[2] > 5 and row[2] == row[3] for row in report.checks().rows)
    assert {path.name for path in (run.path / "plots").iterdir()} == {
        path.name for path in (small_run.path / "plots").iterdir() if "calibration" not in path.name
    }
    assert set(report.figures()) == set(own.figures())
    for scenario in ("Offline", "SingleStream"):
        folder = run.path / "loadgen" / scenario
        assert (folder / "accuracy" / "accuracy.txt").read_text().startswith("accuracy=76.034%")
        assert {"mlperf_log_detail.txt", "console.txt", "command.json"} <= {
            path.name for path in (folder / "performance").iterdir()
        }
        assert "PARTIAL.txt" not in {path.name for path in (folder / "performance").iterdir()}
    text = "\n".join(map(str, report.tables()))
    assert "run by NVIDIA's own code, release v3.0" in text
    assert "quick run, not an official result" in text
    assert "synthetic weights" not in text
    assert "framework: ours TensorRT 8.6.0" in text
    assert [s.accuracy["value"] for s in report.summaries if s.accuracy] == [76.034, 76.034]


def test_every_stage_shows_itself_and_is_recognised_as_finished(checkout: Path, configure: Configure) -> None:
    config = configure("Offline,Server")
    run = _open(config, checkout)
    stages.report(config, run)
    again = RunFolder(run.path, config, read_only=True)
    shown = {}
    for name in NAMES:
        result = getattr(stages, name)(config, again)
        assert result.reused
        assert "reused, finished" in result.headline()
        assert result._repr_mimebundle_()["text/html"].count("<table>") == len(result.tables()) > 0
        assert name == "report" or result.figures() == {}
        shown[name] = _text(result)
    assert "KnownSystem.L4x1" in shown["setup"]
    assert "download_model" in shown["setup"]
    assert "is left out" in shown["setup"]
    assert "parameters/gpus/l4.yaml" in shown["setup"]
    assert "make preprocess_data BENCHMARKS=resnet50" in shown["preprocess"]
    assert "own calibration cache" in shown["calibrate"]
    assert "resnet50-Server-gpu-b16-int8.default.plan" in shown["build"]
    assert "--gpu_batch_size=32" in shown["build"]
    rows = stages.run(config, again).tables()[1].rows
    assert ["Server", "PerformanceOnly", "server_target_qps", 1000.0] in [row[:4] for row in rows]
    assert (run.path / "console" / "build.txt").read_text().count("Engine written") == 2


def test_a_finished_test_is_not_run_again(
    checkout: Path, configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configure("Offline")
    run = _open(config, checkout)
    first = stages.run(config, run)
    run.stage_file("run").unlink()
    run.stage_file("run-Offline-accuracy").unlink()
    capsys.readouterr()
    second = stages.run(config, run)
    assert [test.reused for test in second.tests] == [True, False]
    assert second.tests[0].finished == first.tests[0].finished
    assert capsys.readouterr().out.count("$ make run_harness") == 1
    assert (run.path / "loadgen" / "Offline" / "accuracy.earlier-1").is_dir()


@pytest.mark.parametrize(
    ("trouble", "kind", "said"),
    [
        ("fail:generate_engines", EngineBuildError, "make generate_engines .* out of memory"),
        ("exit:generate_engines", EngineBuildError, "did nothing: Detected system did not match"),
        ("fail:run_harness", HarnessError, "make run_harness .* ended with exit code 2"),
        ("exit:run_harness", HarnessError, "did nothing"),
        ("none:run_harness", HarnessError, "wrote no LoadGen log"),
        ("other:run_harness", HarnessError, "not of Offline PerformanceOnly but of SingleStream"),
        ("cut:run_harness", HarnessError, "mlperf_log_detail.txt"),
    ],
)
def test_troubles_are_clear_errors_and_the_next_call_continues(
    checkout: Path,
    configure: Configure,
    monkeypatch: pytest.MonkeyPatch,
    trouble: str,
    kind: type[Exception],
    said: str,
) -> None:
    config = configure("Offline", mode="performance")
    run = _open(config, checkout)
    stages.preprocess(config, run)
    monkeypatch.setenv("STANDIN", trouble)
    with pytest.raises(kind, match=said):
        stages.run(config, run)
    assert not (run.path / "loadgen" / "Offline" / "performance").exists()
    if kind is HarnessError:
        partial = run.path / "loadgen" / "Offline" / "performance.partial"
        assert (partial / "PARTIAL.txt").exists()
        assert "$ make run_harness" in (partial / "console.txt").read_text()
    monkeypatch.delenv("STANDIN")
    result = stages.run(config, run)
    assert stages.preprocess(config, run).reused
    assert result.tests[0].summary.metric
    assert not (run.path / "loadgen" / "Offline" / "performance.partial").exists()


def test_old_logs_in_the_checkout_are_not_taken_for_new_ones(
    checkout: Path, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure("Offline")
    run = _open(config, checkout)
    stages.run(config, run)
    before = _files(run.path / "loadgen")
    monkeypatch.setenv("STANDIN", "none:run_harness")
    with pytest.raises(HarnessError, match="1 of earlier runs lie there"):
        stages.run(config, run, fresh=True)
    assert before.items() <= _files(run.path / "loadgen").items()


def test_an_accuracy_run_without_its_score_keeps_what_there_is(
    checkout: Path, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure("Offline")
    run = _open(config, checkout)
    stages.run(config, run)
    monkeypatch.setenv("STANDIN", "unscored:run_harness")
    with pytest.raises(
        HarnessError, match=r"left no accuracy\.txt"
    ):  # that of the first run still lies in the checkout
        stages.run(config, run, fresh=True)
    partial = run.path / "loadgen" / "Offline" / "accuracy.partial"
    assert (partial / "mlperf_log_accuracy.json").stat().st_size
    assert (run.path / "loadgen" / "Offline" / "accuracy" / "accuracy.txt").exists()
    assert (run.path / "loadgen" / "Offline" / "performance.earlier-1").is_dir()


def test_an_interrupted_make_leaves_no_process_and_the_run_continues(
    checkout: Path, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure("Offline", mode="performance")
    run = _open(config, checkout)
    stages.build(config, run)
    console = run.path / "loadgen" / "Offline" / "performance.partial" / "console.txt"

    def interrupt() -> None:
        while not (console.exists() and "waiting, process" in console.read_text()):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setenv("STANDIN", "hang:run_harness")
    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        stages.run(config, run)
    process = int(console.read_text().rpartition("process ")[2])
    assert not Path(f"/proc/{process}").exists()
    monkeypatch.delenv("STANDIN")
    assert stages.run(config, run).tests[0].summary.metric


def test_a_machine_that_the_release_does_not_know_is_described_to_it(checkout: Path, configure: Configure) -> None:
    (checkout / "MACHINE").write_text("None\n")
    config = configure("Offline")
    run = _open(config, checkout)
    result = stages.setup(config, run)
    assert result.release.system == "nvkit_l4"
    assert set(result.written) == {"code/common/systems/custom_list.py", "configs/resnet50/Offline/custom.py"}
    assert any("did not know this machine" in note for note in result.notes)
    result = stages.run(config, run)
    assert any("profile l4" in note for note in result.tests[0].summary.notes)
    assert stages.setup(config, run).reused
    (checkout / "configs/resnet50/Offline/custom.py").unlink()
    assert not stages.setup(config, run).reused
    assert (checkout / "configs/resnet50/Offline/custom.py").exists()

    other = configure("Offline,Server")  # known by then, but not with this scenario
    stages.setup(other, _open(other, checkout))
    assert (checkout / "configs/resnet50/Server/custom.py").exists()


def test_a_definition_by_somebody_else_is_not_replaced(checkout: Path, configure: Configure) -> None:
    (checkout / "MACHINE").write_text("None\n")
    mine = checkout / "code/common/systems/custom_list.py"
    mine.write_text("custom_systems = {}\n")
    config = configure("Offline")
    with pytest.raises(ConfigError, match="nvkit did not write it"):
        stages.setup(config, _open(config, checkout))
    assert mine.read_text() == "custom_systems = {}\n"


def test_a_definition_that_does_not_help_is_an_error(checkout: Path, configure: Configure) -> None:
    (checkout / "scripts/get_system_id.py").write_text("print(None)\n")
    config = configure("Offline")
    with pytest.raises(SetupError, match="does not know this machine, not even by the definition"):
        stages.setup(config, _open(config, checkout))


def test_a_script_that_does_not_answer_is_an_error(checkout: Path, configure: Configure) -> None:
    (checkout / "scripts/get_system_id.py").write_text("print('no driver')\n")
    config = configure("Offline")
    with pytest.raises(ExecutionError, match="did not say what this machine is"):
        stages.setup(config, _open(config, checkout))


def test_a_release_without_the_script_is_read_instead(checkout: Path, configure: Configure) -> None:
    (checkout / "scripts/get_system_id.py").unlink()
    config = configure("Offline")
    assert stages.setup(config, _open(config, checkout)).release.system == "L4x1"


def test_edited_code_and_rebuilt_engines_are_noticed(checkout: Path, configure: Configure) -> None:
    config = configure("Offline")
    run = _open(config, checkout)
    stages.build(config, run)
    plan = stages.build(config, run).plans[0].path
    plan.write_text("built by another run for other settings")
    assert not stages.build(config, run).reused
    assert stages.setup(config, run).reused
    cache = checkout / "code/resnet50/tensorrt/calibrator.cache"
    cache.write_text("TRT-8600-EntropyCalibration2\n")
    assert stages.calibrate(config, run).reused
    assert not stages.build(config, run).reused
    (checkout / "configs/resnet50/__init__.py").write_text("gpu_batch_size = 7\n")
    assert not stages.setup(config, run).reused


def test_retinanet_is_calibrated_once(checkout: Path, configure: Configure, capsys: pytest.CaptureFixture[str]) -> None:
    config = configure("Offline,SingleStream", benchmark="retinanet")
    run = _open(config, checkout)
    result = stages.calibrate(config, run)
    assert [step.what for step in result.steps] == ["make calibrate of retinanet Offline"]
    stages.build(config, run)
    assert stages.build(config, run).reused
    assert capsys.readouterr().out.count("$ make calibrate") == 1


def test_run_modes_by_themselves(checkout: Path, configure: Configure) -> None:
    config = configure("Offline")
    run = _open(config, checkout)
    assert "building the container" in _said(run, on_request(config, run, "prebuild"))
    assert not (checkout / "build").exists()
    on_request(config, run, "build")
    assert (checkout / "build/bin/harness_default").exists()
    stages.build(config, run)
    assert not on_request(config, run, "build_engine").reused
    assert [s.what for s in on_request(config, run, "calibrate").steps] == ["make calibrate of resnet50 Offline"]
    audit = on_request(config, run, "run_harness", audit="TEST04")
    assert audit.summaries[0].metric
    assert "make run_audit_test04_once" in _text(audit)
    assert (run.path / "loadgen/Offline/TEST04/mlperf_log_detail.txt").exists()
    with pytest.raises(ConfigError, match="no run mode 'prebuilt'"):
        on_request(config, run, "prebuilt")


def _said(run: RunFolder, result: nvkit.StageResult) -> str:
    assert result.finished
    return "".join(path.read_text() for path in (run.path / "console").iterdir())


def test_commands_run_in_the_users_container(checkout: Path, configure: Configure) -> None:
    config = configure("Offline", mode="performance", nvidia_command="env IN_CONTAINER=1 bash -c {}")
    run = _open(config, checkout)
    assert stages.run(config, run).tests[0].summary.metric
    command = json.loads((run.path / "loadgen/Offline/performance/command.json").read_text())
    assert command["line"].startswith("env IN_CONTAINER=1 bash -c ")
    assert (
        "$ env IN_CONTAINER=1 bash -c 'python3 -m scripts.get_system_id'"
        in (run.path / "console/setup.txt").read_text()
    )


def test_what_cannot_run_is_refused_before_anything(checkout: Path, configure: Configure) -> None:
    values = {"implementation": "nvidia-original", "round": "v3.0"}
    cpu = resolve("cpu", "resnet50", "Offline", **values)
    with pytest.raises(ConfigError, match="profile cpu, which is no GPU"):
        stages.setup(cpu, _open(cpu, checkout))
    nowhere = resolve("l4", "resnet50", "Offline", **values)
    with pytest.raises(ConfigError, match="needs NVIDIA's code") as caught:
        stages.setup(nowhere, _open(nowhere, checkout))
    assert "inference_results_v3.0" in caught.value.fix
    unknown = configure("Offline", extra_run_options="--gpu_batch_sise=4")
    with pytest.raises(ConfigError, match="no option --gpu_batch_sise"):
        stages.setup(unknown, _open(unknown, checkout))
    assert not (checkout / "build").exists()


def test_a_failing_download_is_an_error_of_setup(checkout: Path, configure: Configure) -> None:
    (checkout / "code/resnet50/tensorrt/download_model.sh").write_text("echo 'wget: unable to resolve host'; exit 4\n")
    config = configure("Offline")
    run = _open(config, checkout)
    with pytest.raises(ExecutionError, match=r"make download_model .* unable to resolve host"):
        stages.setup(config, run)
    assert not run.stage_file("setup").exists()


def test_a_dry_run_shows_every_command_and_touches_nothing(checkout: Path, configure: Configure) -> None:
    config = configure("Offline,Server")
    outputs = checkout.parents[2] / "outputs"
    before = _files(checkout)
    text = "\n".join(map(str, dry_run(config, outputs=outputs)))
    for part in (
        f"cd {checkout} && MLPERF_SCRATCH_PATH={config.shared.nvidia_scratch} make download_model BENCHMARKS=resnet50",
        "make preprocess_data",
        "make generate_engines RUN_ARGS='--benchmarks=resnet50 --scenarios=server",
        "--test_mode=AccuracyOnly",
        "is left out: ",
    ):
        assert part in text
    assert "make calibrate" not in text
    assert "report      60_report.ipynb      to do" in text
    assert text.count("make run_harness RUN_ARGS") == 4
    assert "make prebuild" in str(dry_run(config, "prebuild", outputs)[0])
    assert _files(checkout) == before
    assert not outputs.exists()
    with pytest.raises(ConfigError, match="no run mode 'prebuilt'"):
        dry_run(config, "prebuilt", outputs)


def test_a_dry_run_tells_what_is_finished(checkout: Path, configure: Configure) -> None:
    config = configure("Offline", mode="performance")
    run = _open(config, checkout)
    outputs = run.path.parent.parent
    stages.build(config, run)
    states = {row[0]: row[2] for row in dry_run(config, outputs=outputs)[0].rows}
    assert states["build"].startswith("finished")
    assert states["build"].endswith("reused")
    assert states["run"] == states["report"] == "to do"
    stages.report(config, run)
    table = dry_run(config, outputs=outputs)[0]
    assert {row[2] for row in table.rows} == {"again"}
    assert any("a new one" in note for note in table.notes)
