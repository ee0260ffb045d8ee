from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from interop.nvidia.configs import configure, opened

from nvkit.errors import ConfigError
from nvkit.interop.nvidia import left_out
from nvkit.interop.nvidia.options import passed, run_args, written


@pytest.mark.parametrize(
    ("round", "spelled"),
    [
        ("v2.1", "--gpu_batch_size=64"),
        ("v3.0", "--gpu_batch_size=64"),
        ("v3.1", "--gpu_batch_size=64"),
        ("v4.0", "--gpu_batch_size=64"),
        ("v4.1", "--gpu_batch_size=resnet50:64"),
        ("v5.0", "--gpu_batch_size=resnet50:64"),
    ],
)
def test_the_batch_size_is_spelled_as_the_release_wants_it(tmp_path: Path, round: str, spelled: str) -> None:
    args = run_args(configure(tmp_path, round, scenario="Offline"), "Offline", opened(tmp_path, round))
    assert spelled in args


def test_the_batch_size_names_the_folder_of_the_benchmark(tmp_path: Path) -> None:
    config = configure(tmp_path, "v4.1", "bert-99.9", "Offline")
    assert "--gpu_batch_size=bert:16" in run_args(config, "Offline", opened(tmp_path, "v4.1"))


def test_the_order_is_that_of_the_cm_script(tmp_path: Path) -> None:
    config = configure(tmp_path, "v3.0", scenario="Server", devices="0,1", extra_build_engine_options="--active_sms=80")
    args = run_args(config, "Server", opened(tmp_path, "v3.0"), running=True, test_mode="PerformanceOnly", log_dir="l")
    assert [arg.partition("=")[0] for arg in args] == [
        "--benchmarks",
        "--scenarios",
        "--test_mode",
        "--server_target_qps",
        "--precision",
        "--gpu_batch_size",
        "--devices",
        "--log_dir",
        "--use_deque_limit",
        "--deque_timeout_usec",
        "--server_num_issue_query_threads",
        "--active_sms",
    ]


def test_numbers_keep_their_value_and_flags_have_none(tmp_path: Path) -> None:
    config, checkout = configure(tmp_path, "v3.0"), opened(tmp_path, "v3.0")
    assert "--server_target_qps=30000.5" in run_args(config, "Server", checkout)
    assert "--offline_expected_qps=40000" in run_args(config, "Offline", checkout)
    assert "--use_graphs" in run_args(config, "Offline", checkout)


def test_percentiles_become_percent(tmp_path: Path) -> None:
    config = configure(tmp_path, "v3.0", scenario="Server", server_target_latency_percentile=0.97)
    assert passed(config, "Server", opened(tmp_path, "v3.0"))["server_target_latency_percentile"] == 97


def test_the_rounds_own_rules_are_left_to_its_mlperf_conf(tmp_path: Path) -> None:
    checkout = opened(tmp_path, "v3.0")
    official = passed(configure(tmp_path, "v3.0", scenario="Server"), "Server", checkout)
    assert not {"min_duration", "qsl_rng_seed", "server_target_latency_ns"} & official.keys()
    quick = passed(configure(tmp_path, "v3.0", scenario="Server", quick=True), "Server", checkout)
    assert quick["min_duration"] == 10_000


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"benchmark": "bert-99.9"}, "high_accuracy"),
        ({"power": "MaxQ"}, "maxq"),
        ({"benchmark": "bert-99.9", "power": "MaxQ"}, "maxq_high_accuracy"),
        ({"use_triton": True}, "triton"),
    ],
)
def test_accuracy_power_and_triton_are_the_config_ver(tmp_path: Path, given: dict[str, Any], expected: str) -> None:
    config = configure(tmp_path, "v3.0", scenario="Offline", **given)
    assert f"--config_ver={expected}" in run_args(config, "Offline", opened(tmp_path, "v3.0"))


def test_the_power_setting_is_for_the_run_alone(tmp_path: Path) -> None:
    config, checkout = configure(tmp_path, "v3.0", power="MaxQ"), opened(tmp_path, "v3.0")
    assert "--power_setting=MaxQ" in run_args(config, "Offline", checkout, running=True)
    assert "--power_setting=MaxQ" not in run_args(config, "Offline", checkout)
    assert passed(config, "Offline", checkout)["power_limit"] == 250


def test_an_option_of_the_users_that_the_release_lacks_is_refused_with_the_nearest(tmp_path: Path) -> None:
    config = configure(tmp_path, "v2.1", "bert-99.9", "Offline", use_fp8=True)
    with pytest.raises(ConfigError, match=r"NVIDIA's code of v2\.1 has no option --use_fp8") as caught:
        run_args(config, "Offline", opened(tmp_path, "v2.1"))
    assert "Did you mean 'use_" in caught.value.fix


def test_an_option_that_only_arguments_py_lists_is_refused_and_said_to_be_dropped(tmp_path: Path) -> None:
    config = configure(tmp_path, "v3.0", scenario="Server", server_coalesce_queries=True)
    with pytest.raises(
        ConfigError, match=r"--server_coalesce_queries \(its arguments\.py lists it, its main\.py drops"
    ):
        run_args(config, "Server", opened(tmp_path, "v3.0"))


def test_a_power_limit_at_full_power_would_be_ignored_and_is_refused(tmp_path: Path) -> None:
    config = configure(tmp_path, "v3.0", scenario="Offline", power_limit=300)
    with pytest.raises(ConfigError, match=r"power_limit has no effect here.*power setting MaxQ"):
        run_args(config, "Offline", opened(tmp_path, "v3.0"))


def test_a_files_value_that_the_release_lacks_is_left_out_and_listed(tmp_path: Path) -> None:
    config, checkout = configure(tmp_path, "v2.1", "bert-99.9", "Offline"), opened(tmp_path, "v2.1")
    assert "use_fp8" not in passed(config, "Offline", checkout)
    assert "use_fp8 = True is left out: NVIDIA's code of v2.1 has no option --use_fp8 (Offline)." in left_out(
        config, checkout
    )


def test_false_cannot_be_said_and_is_listed(tmp_path: Path) -> None:
    config, checkout = configure(tmp_path, "v3.0"), opened(tmp_path, "v3.0")
    assert not any("use_graphs" in arg for arg in run_args(config, "SingleStream", checkout))
    notes = [note for note in left_out(config, checkout) if note.startswith("use_graphs = False")]
    assert len(notes) == 1
    assert notes[0].endswith("(SingleStream).")
    assert written(config, "SingleStream", checkout)["use_graphs"] is False


def test_paths_are_absolute_and_quoted(tmp_path: Path) -> None:
    cache, conf = tmp_path / "my cache", tmp_path / "user.conf"
    config = configure(tmp_path, "v3.0", scenario="Offline", calibration_cache=cache, user_conf_path=conf)
    checkout = opened(tmp_path, "v3.0")
    building, running = run_args(config, "Offline", checkout), run_args(config, "Offline", checkout, running=True)
    assert shlex.split(" ".join(building))[-1] == f"--cache_file={cache}"
    assert f"--user_conf_path={conf}" in running
    assert not any("user_conf_path" in arg for arg in building)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("--num_issue_query_threads=2", "extra_run_options: .* has no option --num_issue_query_threads"),
        ("--soft_drop=0.9", "--soft_drop belongs to BERT; this is resnet50 Server"),
        ("numa_config=1", "'numa_config=1' is not an option"),
        ("--log_dir='x", "No closing quotation"),
    ],
)
def test_the_users_own_run_args_are_checked_too(tmp_path: Path, extra: str, message: str) -> None:
    config = configure(tmp_path, "v3.0", scenario="Server", extra_run_options=extra)
    with pytest.raises(ConfigError, match=message):
        run_args(config, "Server", opened(tmp_path, "v3.0"), running=True)


def test_the_users_own_run_args_come_last_and_only_where_they_belong(tmp_path: Path) -> None:
    config = configure(
        tmp_path,
        "v3.0",
        scenario="Server",
        extra_build_engine_options="--workspace_size 1000 --use_graphs",
        extra_run_options="--numa_config='0:0-3&1:4-7'",
    )
    checkout = opened(tmp_path, "v3.0")
    assert run_args(config, "Server", checkout)[-3:] == ["--workspace_size", "1000", "--use_graphs"]
    last = run_args(config, "Server", checkout, running=True)[-1]
    assert shlex.split(last) == ["--numa_config=0:0-3&1:4-7"]
