from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

import nvkit
from nvkit.config import ProfileFile, Settings, names, parameters_folder, resolve
from nvkit.config.settings import field, instead, not_applicable
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


def test_values_of_nvidias_harness_that_nvkits_does_without_are_listed_with_the_reason() -> None:
    config = resolve("l4", "resnet50", "Server", round="v3.0")
    unused = config.unused["Server"]
    assert unused["use_deque_limit"] == (
        "only NVIDIA's own code reads it; nvkit takes at most one batch from the queue at a time anyway"
    )
    assert "thread of its own" in unused["use_cuda_thread_per_device"]
    assert "use_deque_limit is set by the files but not used: only" in str(config.table("Server"))
    theirs = resolve("l4", "resnet50", "Server", round="v3.0", implementation="nvidia-original")
    assert "use_deque_limit" not in theirs.unused["Server"]
    assert theirs.scenarios["Server"].use_deque_limit


def test_every_gpu_knob_is_read_or_says_what_nvkit_does_instead() -> None:
    """A setting of resnet50 on a GPU that no module of nvkit's own harness names is refused with a reason."""
    package = Path(nvkit.__file__).parent
    own = [p for part in ("engine", "harness", "stages", "power", "results") for p in (package / part).rglob("*.py")]
    words = set(re.findall(r"\w+", "\n".join(p.read_text(encoding="utf-8") for p in own)))
    read = instead_of = 0
    for key in Settings.model_fields:
        reasons = [not_applicable(key, "tensorrt", "resnet50", s, "nvkit") for s in ("Offline", "Server")]
        if None in reasons and field(key).json_schema_extra["backends"]:  # type: ignore[index, call-overload]
            assert key in words, f"{key} is accepted, and nothing reads it"
            read += 1
        elif instead(key):
            assert any(instead(key) in str(reason) for reason in reasons)
            instead_of += 1
    assert read > 15
    assert instead_of > 15


def test_a_setting_without_effect_beside_others_is_refused() -> None:
    config = resolve("orin", "resnet50", "Offline", round="v3.0")
    assert config.shared.dla_core is None
    assert "without dla_core" in config.unused["Offline"]["dla_batch_size"]
    on_dla = {"dla_core": 0, "dla_batch_size": 8}
    config = resolve("orin", "resnet50", "Offline", round="v3.0", overrides=on_dla)
    assert "dla_batch_size" not in config.unused["Offline"]
    assert config.shared.dla_batch_size == 8
    theirs = resolve("orin", "resnet50", "Offline", round="v3.0", implementation="nvidia-original")
    assert not {"dla_batch_size", "dla_copy_streams"} & set(theirs.unused["Offline"])
    with pytest.raises(
        ConfigError, match=r"gpu_inference_streams has no effect here: run_infer_on_copy_streams is true"
    ):
        resolve("l4", "resnet50", "Offline", overrides={"run_infer_on_copy_streams": True, "gpu_inference_streams": 2})


def test_server_coalesces_queries_on_every_gpu_as_nvidias_harnesses_do() -> None:
    for profile in names(ProfileFile):
        settings = resolve(profile, "resnet50", "Server", round="v3.0").shared
        assert settings.server_coalesce_queries is (settings.backend != "onnxruntime"), profile
    layers = {o.layer for o in resolve("l4", "resnet50", "Server").origins["Server"]["server_coalesce_queries"]}
    assert "profile, scenario" in layers
    off = resolve("l4", "resnet50", "Server", overrides={"server_coalesce_queries": False})
    assert not off.shared.server_coalesce_queries


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
        ({"profile": "l4", "overrides": {"use_deque_limit": True}}, "takes at most one batch from the queue"),
        ({"profile": "l4", "overrides": {"eviction_last": 0.2}}, "leaves the L2 cache to CUDA"),
        ({"profile": "l4", "overrides": {"server_num_issue_query_threads": 2}}, "RegisterIssueQueryThread"),
        ({"profile": "orin", "overrides": {"dla_batch_size": 4}}, "without dla_core the engine is built for the GPU"),
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
