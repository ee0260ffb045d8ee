from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from nvkit.config import Settings, parameters_folder, resolve
from nvkit.errors import ConfigError

# What NVIDIA ran on one L4 in v3.0: the format must carry it without any change of code.
L4 = """\
name: l4
title: NVIDIA L4
source: NVIDIA's v3.0 configuration of L4x1
device: {kind: gpu, names: [NVIDIA L4], pci_ids: ["10de:27b8"], compute_capability: "8.9", memory_gb: 24,
         power_limit_w: 72, form_factor: pcie, precisions: [fp32, fp16, int8, fp8]}
defaults: {backend: tensorrt}
benchmarks:
  resnet50:
    defaults: {precision: int8, input_dtype: int8, input_format: linear, use_graphs: true}
    scenarios:
      Offline: {batch_size: 32, gpu_copy_streams: 2, gpu_inference_streams: 1, offline_expected_qps: 13000}
      Server:
        batch_size: 16
        gpu_copy_streams: 9
        gpu_inference_streams: 2
        active_sms: 100
        deque_timeout_usec: 2000
        use_deque_limit: true
        use_cuda_thread_per_device: true
        server_target_qps: 12200
      SingleStream: {batch_size: 1, disable_beta1_smallk: true, single_stream_expected_latency_ns: 660000}
      MultiStream: {batch_size: 8, multi_stream_expected_latency_ns: 830000}
  bert-99:
    scenarios:
      Server: {graphs_max_seqlen: 200, soft_drop: 1.0, use_small_tile_gemm_plugin: true}
  dlrm-99:
    scenarios:
      Offline: {num_staging_threads: 8, embedding_weights_on_gpu_part: 0.8, check_contiguity: true}
  rnnt:
    defaults: {audio_batch_size: 64, dali_pipeline_depth: 4, nobatch_sorting: true, num_warmups: 512}
"""


@pytest.fixture
def parameters(tmp_path: Path) -> Path:
    folder = tmp_path / "parameters"
    shutil.copytree(parameters_folder(), folder)
    (folder / "gpus" / "l4.yaml").write_text(L4, encoding="utf-8")
    return folder


def test_engines_are_built_for_the_device_of_the_profile(parameters: Path) -> None:
    config = resolve("l4", "resnet50", "Offline", round="v3.0", parameters=parameters)
    assert config.scenarios["Offline"].compute_capability == "8.9"
    (origin,) = config.origins["Offline"]["compute_capability"]
    assert (origin.layer, origin.where) == ("device", "parameters/gpus/l4.yaml:4")
    other = {"compute_capability": "9.0"}
    config = resolve("l4", "resnet50", "Offline", round="v3.0", overrides=other, parameters=parameters)
    assert config.scenarios["Offline"].compute_capability == "9.0"
    config = resolve("l4", "resnet50", "Offline", overrides={"backend": "onnxruntime"}, parameters=parameters)
    assert "compute_capability" not in config.unused["Offline"]
    assert resolve("cpu", "resnet50", "Offline").scenarios["Offline"].compute_capability is None
    with pytest.raises(ConfigError, match="compute_capability = 'sm89'"):
        resolve("l4", overrides={"compute_capability": "sm89"}, parameters=parameters)


def test_an_l4_resolves_per_scenario(parameters: Path) -> None:
    config = resolve("l4", "resnet50", round="v3.0", parameters=parameters)
    server, offline = config.scenarios["Server"], config.scenarios["Offline"]
    assert (server.batch_size, server.gpu_copy_streams, server.server_target_qps) == (16, 9, 12200)
    assert (offline.batch_size, offline.gpu_copy_streams, offline.offline_expected_qps) == (32, 2, 13000)
    assert server.server_target_latency_ns == 15_000_000
    assert server.qsl_rng_seed == 10003631887983097364
    assert config.device.compute_capability == "8.9"


def test_later_layers_win_and_the_chain_is_kept(parameters: Path) -> None:
    config = resolve("l4", "resnet50", "Server", round="v3.0", overrides={"batch_size": 64}, parameters=parameters)
    chain = config.origins["Server"]["batch_size"]
    assert [(o.layer, o.value) for o in chain] == [("profile, scenario", 16), ("user", 64)]
    assert chain[0].where == "parameters/gpus/l4.yaml:13"
    row = next(r for r in config.table("Server").rows if r[0] == "batch_size")
    assert row[1:4] == ["64", "user", "flag or notebook parameter"]
    assert "16 (parameters/gpus/l4.yaml:13)" in row[5]


def test_quick_overrides_the_round_and_the_user_overrides_quick() -> None:
    official = resolve("cpu", scenario="Offline")
    quick = resolve("cpu", scenario="Offline", quick=True)
    mine = resolve("cpu", scenario="Offline", quick=True, overrides={"min_duration": "1234"})
    assert official.shared.min_duration == 600_000
    assert quick.shared.min_duration < 600_000
    assert mine.shared.min_duration == 1234
    assert quick.official["Offline"]["min_duration"] == 600_000
    assert len({official.digest, quick.digest, mine.digest}) == 3


def test_gpu_values_of_a_profile_are_named_as_unused_on_another_backend(parameters: Path) -> None:
    config = resolve("l4", scenario="Offline", overrides={"backend": "onnxruntime"}, parameters=parameters)
    assert "gpu_copy_streams" in config.unused["Offline"]
    assert "gpu_copy_streams is set by the files but not used" in str(config.table("Offline"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"profile": "cpx"}, "Did you mean 'cpu'?"),
        ({"benchmark": "resnet51"}, "Did you mean 'resnet50'?"),
        ({"round": "v9"}, "no round 'v9'"),
        ({"scenario": "ofline"}, "Did you mean 'Offline'?"),
        ({"scenario": ","}, "No scenario"),
        ({"scenario": "Server", "round": "v6.0"}, "Round v6.0 has no Server"),
        ({"mode": "PerformanceOnl"}, "Did you mean 'PerformanceOnly'?"),
        ({"overrides": {"batchsize": 1}}, "Did you mean 'batch_size'?"),
        ({"overrides": {"batch_size": "many"}}, "batch_size = 'many'"),
        ({"overrides": {"batch_size": 0}}, "greater than or equal to 1"),
        ({"overrides": {"use_graphs": True}}, "has no effect here"),
        ({"scenario": "Offline", "overrides": {"server_target_qps": 5}}, "has no effect here"),
    ],
)
def test_a_wrong_name_or_value_is_an_error(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(**arguments)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_an_unknown_setting_in_a_file_names_file_and_line(parameters: Path) -> None:
    path = parameters / "gpus" / "l4.yaml"
    path.write_text(L4.replace("use_deque_limit", "use_deque_limits"), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        resolve("l4", round="v3.0", parameters=parameters)
    assert "l4.yaml:18: unknown setting 'use_deque_limits'. Did you mean 'use_deque_limit'" in str(caught.value)


def test_loadgens_mode_names_are_accepted() -> None:
    assert resolve(mode="SubmissionRun").mode == "submission"
    assert resolve(mode="accuracy").mode == "accuracy"


def test_a_configuration_cannot_be_changed() -> None:
    config = resolve()
    with pytest.raises(AttributeError):
        config.profile = "other"  # type: ignore[misc]
    with pytest.raises(Exception, match="frozen"):
        config.shared.batch_size = 3


def test_every_setting_has_a_description() -> None:
    assert all(declared.description for declared in Settings.model_fields.values())
