from __future__ import annotations

import pytest

import nvkit
from nvkit.cli import words as cli_words
from nvkit.errors import ConfigError
from nvkit.interop.cm import Translation, from_cm, translate
from nvkit.interop.cm.outcomes import LEFT_OUT, NOTHING

SCRIPT = "reproduce,mlperf,inference,nvidia,harness"


def cm(tags: str, *flags: str, code: str = "") -> Translation:
    return translate(["cm", "run", "script", f"--tags={SCRIPT},{tags}", *flags], code)


def outcome(found: Translation, word: str) -> tuple[str, str]:
    (row,) = [row for row in found.outcomes.rows if row[0] == word]
    return row[2], row[3]


def decided(found: Translation) -> list[str]:
    return [decision.name for decision in found.decisions]


def test_the_command_and_the_parameters_configure_the_same_run() -> None:
    found = cm("_l4,_bert-99,_server", "--gpu_batch_size=128", "--soft_drop=0.99")
    assert found.shell_line() == (
        "nvkit run bert-99 --profile=l4 --scenario=Server --mode=performance --round=v3.0 "
        "--batch-size=128 --soft-drop=0.99"
    )
    benchmark, overrides = cli_words([found.command[2], *found.command[7:]], "")
    by_flags = nvkit.configure(**{**found.names, "benchmark": benchmark}, overrides=overrides)  # type: ignore[arg-type]
    assert by_flags.digest == nvkit.configure(**found.parameters()).digest
    settings = by_flags.scenarios["Server"]
    assert (settings.batch_size, settings.soft_drop, settings.graphs_max_seqlen) == (128, 0.99, 200)


def test_defaults_are_those_of_the_script() -> None:
    found = cm("_rtx_4090")
    assert found.selected == (
        *("rtx_4090", "cuda", "tensorrt", "resnet50", "run_harness", "offline"),
        "rtx_4090,resnet50,offline,run_harness",
    )
    assert found.names == {
        "profile": "rtx_4090",
        "benchmark": "resnet50",
        "scenario": "Offline",
        "mode": "performance",
        "round": "v3.0",
    }
    assert found.overrides == {}


def test_every_word_has_an_outcome() -> None:
    flags = ("--gpu_batch_size=64", "--quiet", "--adr.compiler.tags=gcc", "--env.FOO=1", "--docker_cache=no")
    found = cm("_t4,_rnnt,_offline,_maxn", *flags)
    told = [row[0] for row in found.outcomes.rows]
    assert {*flags, "_t4", "_rnnt", "_offline", "_maxn"} <= set(told)
    assert found.names["power"] == "MaxN"
    assert outcome(found, "--adr.compiler.tags=gcc")[0] == LEFT_OUT
    assert any("--env.FOO=1" in note for note in found.outcomes.notes)


@pytest.mark.parametrize(
    ("tags", "flags", "overrides"),
    [
        ("_l4,_resnet50,_server", ("--target_qps=500.5",), {"server_target_qps": 500.5}),
        ("_l4,_resnet50", ("--target_qps=500",), {"offline_expected_qps": 500}),
        ("_l4,_resnet50,_singlestream", ("--target_latency=0.5",), {"single_stream_expected_latency_ns": 500_000}),
        (
            "_l4,_resnet50,_multistream",
            ("--multistream_target_latency=2",),
            {"multi_stream_expected_latency_ns": 2_000_000},
        ),
        ("_l4,_resnet50", ("--use_graphs=no",), {"use_graphs": False}),
        ("_l4,_resnet50", ("--start_from_device",), {"start_from_device": True}),
        ("_l4,_resnet50", ("--gpu_batch_size=resnet50:48",), {"batch_size": 48}),
        ("_l4,_resnet50", ("--gpu_batch_size=32",), {}),
        ("_l4,_resnet50", ("--max_batchsize=48",), {"batch_size": 48}),
        ("_l4,_resnet50", ("--max_batchsize=48", "--gpu_batch_size=24"), {"batch_size": 24}),
        ("_l4,_resnet50", ("--count=5000",), {"min_query_count": 5000, "max_query_count": 5000}),
        ("_l4,_resnet50", ("--performance_sample_count=512",), {"performance_sample_count": 512}),
        ("_l4,_bert-99,_server", ("--num_issue_query_threads=4",), {}),
        (
            "_l4,_resnet50",
            ("--run_infer_on_copy_streams", "--gpu_inference_streams=3"),
            {"run_infer_on_copy_streams": True},
        ),
        ("_l4,_resnet50", ("--imagenet_path=/data/imagenet",), {"data_dir": "/data/imagenet"}),
        ("_resnet50,_server", (), {"batch_size": 64}),
        ("_l4,_resnet50,_use-graphs,_num-gpus.1", ("--use_graphs=false",), {"use_graphs": False}),
        ("_custom,_bert-99,_batch_size.16", (), {"batch_size": 16}),
        ("_batch_size.16,_custom,_bert-99", (), {}),
    ],
)
def test_flags_become_settings(tags: str, flags: tuple[str, ...], overrides: dict[str, object]) -> None:
    found = cm(tags, *flags)
    if "_custom" not in tags:
        assert found.overrides == overrides
    else:
        assert found.env.get("CM_MODEL_BATCH_SIZE", "") == str(overrides.get("batch_size", ""))


def test_precedence_is_the_scripts() -> None:
    variable = "CM_MLPERF_NVIDIA_HARNESS_GPU_BATCH_SIZE"
    lost = cm("_l4,_resnet50,_batch_size.99", f"--env.{variable}=77")
    assert lost.env[variable] == "32"
    assert outcome(lost, "_batch_size.99") == (NOTHING, "overridden by _l4,resnet50,offline,run_harness")
    assert outcome(lost, f"--env.{variable}=77")[0] == NOTHING
    assert "batch size of a tag loses" in decided(lost)
    assert cm("_l4,_resnet50,_batch_size.99", "--gpu_batch_size=7").env[variable] == "7"
    assert cm("_bert-99", f"--env.{variable}=77").env[variable] == "77"
    assert cm("_l4", f"--env.MLC_{variable.removeprefix('CM_')}=77", f"--const.{variable}=9").env[variable] == "9"


def test_the_older_edition_is_chosen_by_what_only_it_has() -> None:
    found = cm("_dlrm-99", "--scenario=Server", "--use_triton")
    assert (found.seed, found.names["round"], found.names["profile"]) == ("v2.1", "v2.1", "auto")
    assert cm("_dlrm-v2-99,_l4").names["round"] == "v3.1"
    assert cm("_v4.1,_bert-99,_l4").names["round"] == "v4.1"


@pytest.mark.parametrize(
    ("tags", "profile"),
    [
        ("_a100", "a100_sxm"),
        ("_a100,_pcie", "a100_pcie"),
        ("_a6000", "rtx_a6000"),
        ("_custom,_gpu_memory.24", "gpu_memory_24"),
        ("_gpu_memory.80", "gpu_memory_80"),
        ("_cpu", "cpu"),
        ("_resnet50", "auto"),
    ],
)
def test_a_profile_stands_for_the_gpu(tags: str, profile: str) -> None:
    assert cm(tags).names["profile"] == profile


def test_a_plain_a100_has_the_values_of_sxm() -> None:
    found = cm("_a100,_retinanet")
    assert "a100,sxm,retinanet,offline,run_harness" in found.selected
    assert "a100 without connection" in decided(found)
    assert "a100 without connection" not in decided(cm("_a100,_sxm,_retinanet"))


def test_a_scenario_flag_brings_the_values_of_its_scenario() -> None:
    found = cm("_rtx_4090,_bert-99", "--scenario=Server")
    assert "rtx_4090,bert_,server,run_harness" in found.selected
    assert "scenario as a flag" in decided(found)
    with pytest.raises(ConfigError, match="of the group loadgen-scenario"):
        cm("_rtx_4090,_bert-99,_offline", "--scenario=Server")


@pytest.mark.parametrize(
    ("tags", "flags", "line"),
    [
        ("_build_engine,_l4", (), "nvkit build resnet50"),
        ("_build-engine,_l4", (), "nvkit build resnet50"),
        ("_calibrate,_l4", (), "nvkit calibrate resnet50"),
        ("_preprocess_data,_l4", (), "nvkit preprocess resnet50"),
        ("_download_model,_l4", (), "nvkit setup resnet50"),
        ("_l4", ("--make_cmd=generate_engines",), "nvkit build resnet50"),
        ("_l4", ("--env.CM_MLPERF_SKIP_RUN=yes",), "nvkit build resnet50"),
        ("_l4", ("--mode=accuracy", "--output_dir=out", "--rerun"), "nvkit run resnet50"),
    ],
)
def test_run_modes_are_stages(tags: str, flags: tuple[str, ...], line: str) -> None:
    assert cm(tags, *flags).shell_line().startswith(line)


def test_options_of_the_command() -> None:
    found = cm("_l4", "--mode=accuracy", "--output_dir=out", "--log_dir=logs", "--rerun=yes", "--fake_run")
    assert found.options == {"outputs": "out", "fresh": True, "dry_run": True}
    assert found.names["mode"] == "accuracy"
    assert outcome(found, "--log_dir=logs") == (NOTHING, "--outputs is out")
    assert "fresh" not in cm("_l4", "--rerun=no").options
    assert outcome(cm("_build_engine,_l4", "--fake_run"), "--fake_run")[0] == LEFT_OUT


def test_an_engine_is_built_with_the_values_of_the_run() -> None:
    assert cm("_build_engine,_resnet50,_server").overrides == {"batch_size": 64}


def test_what_nvkits_harness_does_without_is_left_out_with_the_reason() -> None:
    flags = {
        "--use_deque_limit": "at most one batch from the queue at a time",
        "--use_cuda_thread_per_device": "each slot has a thread of its own",
        "--end_on_device": "reads responses from host memory",
        "--num_issue_query_threads=4": "RegisterIssueQueryThread",
    }
    found = cm("_rtx_4090,_resnet50,_server", *flags)
    for flag, reason in flags.items():
        became, note = outcome(found, flag)
        assert became == LEFT_OUT
        assert reason in note
    assert {"issue threads of Server", "parts that only NVIDIA's harness has"} <= set(decided(found))
    dla = cm("_orin,_resnet50", "--dla_batch_size=4", "--dla_copy_streams=1", "--max_dlas=1")
    assert "without dla_core" in outcome(dla, "--dla_batch_size=4")[1]
    assert "gpu_copy_streams counts" in outcome(dla, "--dla_copy_streams=1")[1]
    assert dla.overrides == {}
    assert nvkit.configure(**{**found.parameters(), **dla.parameters()}).profile == "orin"  # type: ignore[arg-type]
    theirs = cm("_rtx_4090,_resnet50,_server", *flags, code="/code")
    assert {"use_deque_limit", "end_on_device", "server_num_issue_query_threads"} <= set(theirs.overrides)


def test_nvidias_own_code_takes_what_only_it_knows() -> None:
    flags = ("--use_triton", "--extra_run_options=--foo --bar", "--user_conf=/u.conf")
    own = cm("_l4", *flags)
    assert own.overrides == {}
    assert len(own.outcomes.notes) == 3
    theirs = cm("_l4", *flags, code="/code")
    assert theirs.overrides == {
        "nvidia_code": "/code",
        "use_triton": True,
        "extra_run_options": "--foo --bar",
        "user_conf_path": "/u.conf",
    }
    assert "--implementation=nvidia-original" in theirs.command
    assert nvkit.configure(**theirs.parameters()).implementation == "nvidia-original"
    assert cm("_prebuild,_l4", code="/code").command[-2:] == ["--run-mode=prebuild", "--nvidia-code=/code"]
    target = cm("_l4", "--make_cmd=clean_shm", code="/code")
    assert target.overrides["make_target"] == "clean_shm"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (f"cmr {SCRIPT},_l4,_a100", "_l4 and _a100 are both of the group gpu-name"),
        (f"cmr {SCRIPT},_resnet50,_rnnt", "both of the group model"),
        (f"cmr {SCRIPT},_rtx4090", "Did you mean 'rtx_4090'"),
        (f"cmr {SCRIPT},_l4,resnet50,_offline", "no variation '_l4'|no tag 'resnet50'"),
        (f"cmr {SCRIPT},_h100", "profiles of nvkit are h100"),
        (f"cmr {SCRIPT},_gptj-99", "came after the script"),
        (f"cmr {SCRIPT},_batch_size", "needs a value"),
        (f"cmr {SCRIPT},_-cuda", "excludes a variation"),
        (f"cmr {SCRIPT},_l4,_3d-unet-99,_server", "No round has Server for 3d-unet-99. It has Offline, SingleStream"),
        (f"cmr {SCRIPT},_l4,_sxm", "exclude each other"),
        (f"cmr {SCRIPT},_l4,_cpu", "exclude each other"),
        (f"cmr {SCRIPT},_dlrm-99,_l4", "only in edition v2.1"),
        (f"cmr {SCRIPT},_l4,_build", "Give --nvidia-code PATH"),
        (f"cmr {SCRIPT},_l4 --make_cmd=clean_shm", "make target of NVIDIA's code only"),
        (f"cmr {SCRIPT},_l4 --gpu_batchsize=1", "Did you mean 'gpu_batch_size'"),
        (f"cmr {SCRIPT},_l4 --gpu_batch_size=many", "--gpu_batch_size: 'many' is not a whole number"),
        (f"cmr {SCRIPT},_l4 --gpu_batch_size=1.5", "not a whole number"),
        (f"cmr {SCRIPT},_l4 --gpu_batch_size=bert:16", "for this benchmark"),
        (f"cmr {SCRIPT},_l4 --gpu_batch_size=0", "--gpu_batch_size: batch_size = 0"),
        (f"cmr {SCRIPT},_l4 --use_graphs=perhaps", "not yes or no"),
        (f"cmr {SCRIPT},_l4 --offline_target_qps=fast", "not a number"),
        (f"cmr {SCRIPT},_l4 --target_qps=-3", "offline_expected_qps = -3"),
        (f"cmr {SCRIPT},_l4 --scenario=Serve", "Did you mean 'Server'"),
        (f"cmr {SCRIPT},_l4 --mode=acuracy", "Did you mean 'accuracy'"),
        (f"cmr {SCRIPT},_l4 --power_setting=MaxX", "no power mode 'MaxX'"),
        (f"cmr {SCRIPT},_l4,_maxq --power_setting=MaxN", "different power modes"),
        (f"cmr {SCRIPT},_l4 --env.CM_MLPERF_NVIDIA_HARNES_GPU_BATCH_SIZE=1", "knows no variable"),
        ("cmr get,cudnn --tar_file=x", "of the script get-cudnn"),
        ("cmr build,nvidia,inference,server", "of the script build-mlperf-inference-server-nvidia"),
        ("cmr run-mlperf,inference,_full", "of the script run-mlperf-inference-app"),
        ("cmr mlperf,inference,_full", "of many scripts"),
        ("cmr reproduce-mlperf-inference-intel", "of the script 'reproduce-mlperf-inference-intel'"),
        (f"cmr {SCRIPT.replace('harness', 'harnes')},_l4", "Did you mean 'harness'"),
    ],
)
def test_errors_name_what_is_wrong_and_what_is_near(command: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        translate([command])


def test_the_script_may_be_chosen_by_its_uid() -> None:
    assert translate(["cm run script bc3b17fb430f4732 --gpu_batch_size=8"]).names["profile"] == "auto"


def test_from_cm_prints_outcomes_decisions_command_and_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    found = from_cm([f"cmr {SCRIPT},_a6000,_rnnt --use_triton"])
    printed = capsys.readouterr().out
    assert f"\n{found.shell_line()}\n" in printed
    assert "rtx_a6000 undeclared (mended)." in printed
    assert "LEFT OUT: --use_triton" in printed
    assert "benchmark = 'rnnt'" in printed


def test_from_cm_runs_exactly_the_printed_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr("nvkit.cli.app", lambda words, **_: ran.append(words))
    found = from_cm([f"cmr {SCRIPT},_cpu,_preprocess_data"], run=True)
    assert ran == [found.command[1:]]
    assert ran[0][:2] == ["preprocess", "resnet50"]
