from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from small import SMALL

import nvkit
from nvkit.errors import ConfigError
from nvkit.results.loadgen_log import read_detail
from nvkit.results.user_conf import loadgen_model, user_conf

CHILD = Path(__file__).with_name("user_conf_child.py")


def settings_of(text: str) -> dict[str, str]:
    pairs = (line.split(" = ") for line in text.splitlines() if not line.startswith("#"))
    return dict(pairs)


@pytest.fixture(scope="module")
def null_run(outputs: Path) -> nvkit.RunFolder:
    values = {**SMALL, "backend": "null", "server_target_qps": 1234.5678, "server_coalesce_queries": True}
    values |= {"single_stream_expected_latency_ns": 12_345, "multi_stream_expected_latency_ns": 23_456}
    values |= {"max_duration": 5_000, "offline_expected_qps": 20_000.0}
    config = nvkit.configure(profile="cpu", mode="both", quick=True, overrides=values)
    run = nvkit.open_run(config, outputs)
    nvkit.stages.run(config, run)
    return run


@pytest.mark.parametrize("mode", ["performance", "accuracy"])
@pytest.mark.parametrize("scenario", ["Offline", "Server", "SingleStream", "MultiStream"])
def test_loadgen_reads_back_what_the_harness_used(
    null_run: nvkit.RunFolder, tmp_path: Path, scenario: str, mode: str
) -> None:
    logs = null_run.path / "loadgen" / scenario / mode
    shutil.copy(logs / "user.conf", tmp_path)
    ours = read_detail(logs)
    count = str(ours.require("qsl_reported_total_count"))
    subprocess.run([sys.executable, str(CHILD), str(tmp_path), scenario, ours.mode, count], check=True, timeout=60)
    theirs = read_detail(tmp_path)
    assert not [error for error in theirs.errors if "Ending early" not in error]  # this SUT answers at once
    # The seeds of a round stand in its mlperf.conf only, and the LoadGen of this environment is that of one round.
    keys = {e.key for e in ours.entries if e.key.startswith("effective_") and "seed" not in e.key}
    assert len(keys) > 15
    assert {key: theirs.get(key) for key in keys} == {key: ours.get(key) for key in keys}


def test_the_rounds_own_values_are_not_repeated() -> None:
    config = nvkit.configure(profile="cpu", scenario="all", overrides={"offline_expected_qps": 50.0})
    assert settings_of(user_conf(config, "Offline")) == {"resnet50.Offline.target_qps": "50"}
    server = config.scenarios["Server"].model_copy(update={"server_target_qps": 9000.5})
    assert settings_of(user_conf(config, "Server", server)) == {"resnet50.Server.target_qps": "9000.5"}
    single = config.scenarios["SingleStream"].model_copy(update={"single_stream_expected_latency_ns": 420_000})
    assert settings_of(user_conf(config, "SingleStream", single)) == {"resnet50.SingleStream.target_latency": "0.42"}


def test_what_differs_from_the_round_is_told() -> None:
    values: dict[str, Any] = {"server_target_qps": 100, "performance_sample_count": 2048, "min_duration": 10_000}
    values |= {"server_target_latency_ns": 20_000_000, "server_target_latency_percentile": 0.97}
    config = nvkit.configure(profile="cpu", scenario="Server", overrides=values)
    prefix = "resnet50.Server."
    assert settings_of(user_conf(config, "Server")) == {
        f"{prefix}target_qps": "100",
        f"{prefix}target_latency": "20",
        f"{prefix}target_latency_percentile": "97",
        f"{prefix}performance_sample_count_override": "2048",
        f"{prefix}min_duration": "10000",
    }
    fewer = settings_of(user_conf(config, "Server", samples=64))
    assert fewer[f"{prefix}performance_sample_count_override"] == "64"


def test_a_limit_that_loadgen_cannot_read_is_named() -> None:
    values = {"server_target_qps": 100, "server_target_latency_ns": 15_500_000}
    text = user_conf(nvkit.configure(profile="cpu", scenario="Server", overrides=values), "Server")
    assert "# not told: the latency limit of 15500000 ns" in text
    assert "Server.target_latency " not in text


def test_without_an_expectation_there_is_no_user_conf() -> None:
    config = nvkit.configure(profile="cpu", scenario="Server")
    with pytest.raises(ConfigError, match="server_target_qps is not set"):
        user_conf(config, "Server")


def test_loadgens_names_are_without_the_accuracy_level() -> None:
    names = ["resnet50", "bert-99", "bert-99.9", "3d-unet-99", "dlrm-v2-99.9"]
    assert [loadgen_model(name) for name in names] == ["resnet50", "bert", "bert", "3d-unet", "dlrm-v2"]


def test_it_needs_no_loadgen() -> None:
    code = "import sys, nvkit.results.user_conf; sys.exit('mlperf_loadgen' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(nvkit.__file__).parents[1], timeout=60)
