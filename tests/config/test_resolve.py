from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from nvkit.config import Settings, parameters_folder, resolve
from nvkit.errors import ConfigError


def test_engines_are_built_for_the_device_of_the_profile() -> None:
    config = resolve("l4", "resnet50", "Offline", round="v3.0")
    assert config.scenarios["Offline"].compute_capability == "8.9"
    (origin,) = config.origins["Offline"]["compute_capability"]
    assert (origin.layer, origin.where) == ("device", "parameters/gpus/l4.yaml:11")
    other = {"compute_capability": "9.0"}
    config = resolve("l4", "resnet50", "Offline", round="v3.0", overrides=other)
    assert config.scenarios["Offline"].compute_capability == "9.0"
    config = resolve("l4", "resnet50", "Offline", overrides={"backend": "onnxruntime"})
    assert "compute_capability" not in config.unused["Offline"]
    assert resolve("cpu", "resnet50", "Offline").scenarios["Offline"].compute_capability is None
    with pytest.raises(ConfigError, match="compute_capability = 'sm89'"):
        resolve("l4", overrides={"compute_capability": "sm89"})


def test_an_l4_resolves_per_scenario() -> None:
    config = resolve("l4", "resnet50", round="v3.0")
    server, offline = config.scenarios["Server"], config.scenarios["Offline"]
    assert (server.batch_size, server.gpu_copy_streams, server.server_target_qps) == (16, 9, 9000)
    assert (offline.batch_size, offline.gpu_copy_streams, offline.offline_expected_qps) == (32, 2, 10500)
    assert server.server_target_latency_ns == 15_000_000
    assert server.qsl_rng_seed == 10003631887983097364
    assert config.device.compute_capability == "8.9"


def test_later_layers_win_and_the_chain_is_kept() -> None:
    config = resolve("l4", "resnet50", "Server", round="v3.0", overrides={"batch_size": 64})
    chain = config.origins["Server"]["batch_size"]
    assert [(o.layer, o.value) for o in chain] == [
        ("profile gpu_memory_24, guess, scenario", 64),
        ("NVIDIA v3.0 L4x1, scenario", 16),
        ("profile, scenario", 16),
        ("user", 64),
    ]
    assert chain[1].key == "nvidia.v3.0.benchmarks.resnet50.scenarios.Server.batch_size"
    file, line = chain[2].where.split(":")
    assert (
        "batch_size: 16" in (parameters_folder().parent / file).read_text(encoding="utf-8").splitlines()[int(line) - 1]
    )
    row = next(r for r in config.table("Server").rows if r[0] == "batch_size")
    assert row[1:4] == ["64", "user", "flag or notebook parameter"]
    assert f"16 ({chain[2].where}); 16 ({chain[1].where}); 64 ({chain[0].where})" == row[5]


def test_quick_overrides_the_round_and_the_user_overrides_quick() -> None:
    official = resolve("cpu", scenario="Offline")
    quick = resolve("cpu", scenario="Offline", quick=True)
    mine = resolve("cpu", scenario="Offline", quick=True, overrides={"min_duration": "1234"})
    assert official.shared.min_duration == 600_000
    assert quick.shared.min_duration < 600_000
    assert mine.shared.min_duration == 1234
    assert quick.official["Offline"]["min_duration"] == 600_000
    assert len({official.digest, quick.digest, mine.digest}) == 3


def test_gpu_values_of_a_profile_are_named_as_unused_on_another_backend() -> None:
    config = resolve("l4", scenario="Offline", overrides={"backend": "onnxruntime"})
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


def test_an_unknown_setting_in_a_file_names_file_and_line(tmp_path: Path) -> None:
    folder = tmp_path / "parameters"
    shutil.copytree(parameters_folder(), folder)
    path = folder / "gpus" / "cpu.yaml"
    text = path.read_text(encoding="utf-8").replace("input_dtype", "input_dtypes")
    path.write_text(text, encoding="utf-8")
    line = next(number for number, words in enumerate(text.splitlines(), 1) if "input_dtypes" in words)
    with pytest.raises(ConfigError) as caught:
        resolve("cpu", parameters=folder)
    assert f"cpu.yaml:{line}: unknown setting 'input_dtypes'. Did you mean 'input_dtype'" in str(caught.value)


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
