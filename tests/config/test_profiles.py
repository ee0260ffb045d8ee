from __future__ import annotations

import functools
import re
import shutil
from pathlib import Path

import pytest

from nvkit.config import BenchmarkFile, ProfileFile, RoundFile, Settings, files, load, names, parameters_folder, resolve
from nvkit.config.settings import not_applicable
from nvkit.errors import ConfigError

# Batch sizes that the CM script resolves, from a table made with that script: resnet50, retinanet, bert, 3d-unet, rnnt,
# dlrm-v2; None where it leaves the choice to NVIDIA's configuration.
BENCHMARKS = ("resnet50", "retinanet", "bert-99.9", "3d-unet-99.9", "rnnt", "dlrm-v2-99.9")
OFFLINE: dict[str, tuple[int | None, ...]] = {
    "gpu_memory_8": (64, 2, 256, 4, None, None),  # the script has none, its successor has these
    "gpu_memory_16": (1024, 2, 256, 4, 1024, 1400),
    "gpu_memory_24": (64, 2, 256, 8, 2048, 1400),
    "gpu_memory_32": (2048, 4, 256, 8, 2048, 1400),
    "gpu_memory_40": (2048, 4, 256, 8, 2048, 1400),
    "gpu_memory_48": (2048, 4, 1024, 8, 2048, 1400),
    "gpu_memory_80": (2048, 8, None, 8, 2048, 1400),
    "a100_sxm": (2048, 32, 256, 8, 2048, 1400),
    "a100_sxm_40": (2048, 32, 256, 8, 2048, 1400),
    "a100_pcie": (None,) * 6,
    "a100_pcie_40": (None,) * 6,
    "l4": (32, 2, 16, 1, 512, 1400),
    "t4": (256, 4, 256, 8, 2048, 1400),
    "rtx_4090": (64, 2, 256, 8, 2048, 1400),
    "rtx_6000_ada": (64, 2, 256, 8, 512, 1400),
    "rtx_a6000": (64, 2, 256, 8, 2048, 1400),
    "orin": (None,) * 6,
    "custom": (None,) * 6,
}
SERVER: dict[str, tuple[int | None, ...]] = {
    **dict.fromkeys(OFFLINE, (64, 8, None, None, None, None)),
    "gpu_memory_80": (64, 8, 64, None, None, None),
    "l4": (16, 2, 16, None, 512, None),
    "t4": (26, 2, 4, None, 2048, None),
    "rtx_4090": (32, 2, 256, 8, 2048, None),
    "rtx_6000_ada": (32, 2, 256, 8, 512, None),
    "rtx_a6000": (32, 2, 256, 8, 512, None),
}


@pytest.fixture(autouse=True)
def _each_file_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "read_yaml", _read_once)


_read_once = functools.lru_cache(maxsize=None)(files.read_yaml)


def profiles() -> list[ProfileFile]:
    return [load(ProfileFile, name)[0] for name in names(ProfileFile)]


def own(profile: str, benchmark: str, scenario: str) -> dict[str, object]:
    """Return the values that the profile itself has for a scenario."""
    section = load(ProfileFile, profile)[0].benchmarks.get(benchmark)
    return section.scenarios.get(scenario, {}) if section else {}  # type: ignore[call-overload,no-any-return]


def test_every_profile_resolves_with_every_benchmark_of_every_round() -> None:
    rounds = [load(RoundFile, name)[0] for name in names(RoundFile)]
    for profile in names(ProfileFile):
        for round in rounds:
            for benchmark in names(BenchmarkFile):
                if benchmark in round.benchmarks and round.benchmarks[benchmark].allowed:
                    config = resolve(profile, benchmark, round=round.name)
                    assert set(config.scenarios) == set(round.benchmarks[benchmark].allowed)
                    assert config.shared.backend == ("onnxruntime" if profile == "cpu" else "tensorrt")


def test_the_benchmarks_are_those_of_the_rounds_and_of_the_cm_script() -> None:
    both_targets = {f"{m}-{a}" for m in ("bert", "3d-unet", "dlrm", "dlrm-v2") for a in ("99", "99.9")}
    assert set(names(BenchmarkFile)) == {"resnet50", "retinanet", "rnnt", *both_targets}
    assert set(names(BenchmarkFile)) <= {b for r in names(RoundFile) for b in load(RoundFile, r)[0].benchmarks}


@pytest.mark.parametrize("benchmark", names(BenchmarkFile))
def test_quick_runs_are_short_and_use_only_what_applies(benchmark: str) -> None:
    round = "v3.0" if benchmark in load(RoundFile, "v3.0")[0].benchmarks else "v4.1"
    config, official = resolve("l4", benchmark, round=round, quick=True), resolve("l4", benchmark, round=round)
    for scenario, settings in config.scenarios.items():
        assert settings.min_duration == 10_000 < official.scenarios[scenario].min_duration
        assert settings.min_query_count < official.scenarios[scenario].min_query_count
        for key, chain in config.origins[scenario].items():
            if chain[-1].layer.startswith(("quick", "benchmark")):
                reason = not_applicable(key, "tensorrt", benchmark, scenario, "nvidia-original")
                assert reason is None, f"{benchmark} {scenario} {key}: {reason}"


def test_what_identifies_a_gpu_is_complete_and_unambiguous() -> None:
    ids = [i for profile in profiles() for i in profile.device.pci_ids]
    assert len(ids) == len(set(ids)) >= 24
    assert all(re.fullmatch("10de:[0-9a-f]{4}", i) for i in ids)
    for profile in profiles():
        device = profile.device
        if device.kind == "gpu" and not device.memory_class and profile.name != "custom":
            assert device.names, profile.name
            assert device.pci_ids or device.form_factor == "soc", profile.name
            assert device.memory_gb, profile.name
            assert device.compute_capability, profile.name
            has_fp8 = tuple(map(int, device.compute_capability.split("."))) >= (8, 9)
            assert ("fp8" in device.precisions) is has_fp8, profile.name
            assert (device.dla_cores > 0) is (device.form_factor == "soc"), profile.name
            assert not any(name.startswith("NVIDIA ") for name in device.names), profile.name


def test_a_gpu_is_based_on_the_largest_memory_class_that_fits() -> None:
    classes = {p.name: p.device.memory_gb or 0 for p in profiles() if p.device.memory_class}
    assert sorted(classes.values()) == [8, 16, 24, 32, 40, 48, 80]
    for profile in profiles():
        if profile.device.memory_class or profile.name in ("cpu", "custom"):
            assert profile.based_on is None
        else:
            fits = {name: size for name, size in classes.items() if size <= (profile.device.memory_gb or 0)}
            assert profile.based_on == max(fits, key=fits.__getitem__), profile.name


@pytest.mark.parametrize("profile", SERVER)
def test_the_cm_scripts_batch_sizes_are_the_profiles_own(profile: str) -> None:
    for index, benchmark in enumerate(BENCHMARKS):
        assert own(profile, benchmark, "Offline").get("batch_size") == OFFLINE[profile][index], benchmark
        assert own(profile, benchmark, "Server").get("batch_size") == SERVER[profile][index], benchmark
        assert own(profile, benchmark, "SingleStream")["batch_size"] == 1
        assert own(profile, benchmark.replace("99.9", "99"), "Offline") == own(profile, benchmark, "Offline")
    assert own(profile, "resnet50", "MultiStream")["batch_size"] == 8
    assert own(profile, "retinanet", "MultiStream")["batch_size"] == 2
    assert "batch_size" not in own(profile, "dlrm-99", "Offline")


def test_the_cm_scripts_other_values_are_the_profiles_own() -> None:
    assert own("a100_sxm", "resnet50", "Offline")["performance_sample_count"] == 2048
    assert own("a100_sxm", "retinanet", "Offline")["workspace_size"] == 300_000_000_000
    assert own("gpu_memory_16", "resnet50", "Offline")["gpu_copy_streams"] == 4
    assert own("l4", "rnnt", "Server") == {
        "batch_size": 512, "audio_batch_size": 64, "audio_buffer_num_lines": 1024, "num_warmups": 1024,
    }  # fmt: skip
    assert own("l4", "bert-99", "Server")["server_num_issue_query_threads"] == 1
    assert own("t4", "bert-99", "Server")["server_num_issue_query_threads"] == 0
    assert own("t4", "bert-99", "Server")["use_small_tile_gemm_plugin"] is False
    assert own("t4", "rnnt", "Offline")["disable_encoder_plugin"] is True
    assert own("orin", "rnnt", "SingleStream")["num_warmups"] == 1
    targets = {
        "l4": {"Offline": 10500, "Server": 9000, "SingleStream": 350_000, "MultiStream": 1_000_000},
        "t4": {"Offline": 4900, "Server": 4000, "SingleStream": 600_000, "MultiStream": 2_000_000},
    }
    keys = ("offline_expected_qps", "server_target_qps")
    latencies = ("single_stream_expected_latency_ns", "multi_stream_expected_latency_ns")
    for profile, values in targets.items():
        for (scenario, value), key in zip(values.items(), keys + latencies, strict=True):
            assert own(profile, "resnet50", scenario)[key] == value


def test_a_value_without_effect_is_named() -> None:
    assert "soft_drop" in resolve("t4", "resnet50", "Server", round="v3.0").unused["Server"]


def test_nvidias_values_win_over_the_memory_class_and_lose_to_the_profiles_own() -> None:
    """Also of a key that the block has in `defaults` and the class by scenario."""
    for profile in profiles():
        for round, configured in profile.nvidia.items():
            allowed = load(RoundFile, round)[0].benchmarks
            for benchmark, section in configured.benchmarks.items():
                config = resolve(profile.name, benchmark, round=round)
                for scenario in set(allowed[benchmark].allowed) & set(section.scenarios):
                    for key, value in (section.defaults | section.scenarios[scenario]).items():
                        last = config.origins[scenario][key][-1]
                        expected = own(profile.name, benchmark, scenario).get(key, value)
                        assert last.value == expected, (profile.name, round, benchmark, scenario, key)
                        assert "guess" not in last.layer


def test_the_nearest_round_of_nvidia_is_picked() -> None:
    def layer(profile: str, benchmark: str, round: str) -> tuple[str, object]:
        last = resolve(profile, benchmark, "Offline", round=round).origins["Offline"]["offline_expected_qps"][-1]
        return last.layer, last.value

    assert layer("l4", "retinanet", "v3.0") == ("NVIDIA v3.0 L4x1, scenario", 170)
    assert layer("l4", "retinanet", "v3.1") == ("NVIDIA v3.0 L4x1, scenario", 170)
    assert layer("l4", "retinanet", "v5.0") == ("NVIDIA v4.1 L4x1, scenario", 220)
    assert layer("l4", "retinanet", "v4.1") == ("NVIDIA v4.1 L4x1, scenario", 220)
    assert layer("l4", "retinanet", "v2.1") == ("NVIDIA v3.0 L4x1, scenario", 170)
    assert layer("l4", "3d-unet-99.9", "v4.1")[0] == "NVIDIA v3.0 L4x1, scenario"


def test_a_gpu_without_values_runs_on_guesses_that_say_so() -> None:
    config = resolve("rtx_5090", "retinanet", "Offline")
    origin = config.origins["Offline"]["batch_size"][-1]
    assert (origin.layer, origin.value) == ("profile gpu_memory_32, guess, scenario", 4)
    assert origin.where.startswith("parameters/gpus/gpu_memory_32.yaml:")
    assert all("guess" not in o.layer for o in resolve("custom", "retinanet").origins["Server"]["batch_size"])


def test_precision_of_the_high_accuracy_targets() -> None:
    precision = {b: resolve("rtx_4090", b, "Offline", round="v4.0").shared.precision for b in names(BenchmarkFile) if
                 b in load(RoundFile, "v4.0")[0].benchmarks}  # fmt: skip
    assert {b for b, p in precision.items() if p == "fp16"} == {"bert-99.9", "rnnt"}
    assert resolve("h100_sxm", "bert-99.9", "Offline").shared.use_fp8
    assert resolve("l4", "dlrm-v2-99.9", "Offline").shared.interaction_op_precision == "fp16"
    assert resolve("l4", "dlrm-v2-99", "Offline").shared.interaction_op_precision == "int8"


def test_maxq_lowers_power_and_targets() -> None:
    full, least = (resolve("h100_sxm", "resnet50", "Server", power=mode) for mode in ("MaxP", "MaxQ"))
    assert (full.shared.power_limit, least.shared.power_limit) == (None, 300)
    assert (full.shared.server_target_qps or 0) > (least.shared.server_target_qps or 0) == 50_000
    assert least.origins["Server"]["power_limit"][-1].layer == "NVIDIA v4.1 H100_SXM_80GBx8 MaxQ"
    orin = resolve("orin", "resnet50", "Offline", round="v3.0", power="MaxQ").shared
    assert (orin.soc_gpu_freq, orin.soc_cpu_freq, orin.orin_num_cores) == (624_750_000, 576_000, 4)
    for profile in profiles():
        for round, configured in profile.nvidia.items():
            for benchmark, section in configured.maxq.items():
                config = resolve(profile.name, benchmark, round=round, power="MaxQ")
                for scenario in set(config.scenarios) & set(section.scenarios):
                    settings = config.scenarios[scenario]
                    assert (settings.power_limit or settings.soc_gpu_freq or 0) > 0
                    assert (settings.power_limit or 0) < (profile.device.power_limit_w or 1)


def test_maxn_is_the_gpus_own_limit() -> None:
    for profile in profiles():
        if "MaxN" in profile.power:
            limit = resolve(profile.name, "resnet50", "Offline", power="MaxN").shared.power_limit
            assert limit == profile.device.power_limit_w
    with pytest.raises(ConfigError, match="no MaxN values"):
        resolve("cpu", power="MaxN")


def test_every_value_of_a_profile_has_its_type_where_it_is_used() -> None:
    """NVIDIA's percentages and places of files would not pass, or would point nowhere."""
    for profile in profiles():
        for configured in profile.nvidia.values():
            for section in (*configured.benchmarks.values(), *configured.maxq.values()):
                for values in (section.defaults, *section.scenarios.values()):
                    assert not [key for key in values if key.endswith(("_path", "_percentile"))]
                    Settings.model_validate(values)


def test_the_readme_adds_a_gpu_in_one_yaml(tmp_path: Path) -> None:
    folder = tmp_path / "parameters"
    shutil.copytree(parameters_folder(), folder)
    (example,) = re.findall(r"```yaml\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    name = re.match(r"name: (\w+)", example).group(1)  # type: ignore[union-attr]
    (folder / "gpus" / f"{name}.yaml").write_text(example, encoding="utf-8")
    config = resolve(name, "resnet50", parameters=folder)
    assert config.scenarios["Offline"].batch_size == 128
    assert config.origins["Server"]["batch_size"][-1].layer == "profile gpu_memory_24, guess, scenario"
    assert config.scenarios["Server"].input_dtype == "int8"
    assert resolve(name, "bert-99", "Offline", parameters=folder).shared.batch_size == 256
    assert resolve(name, "resnet50", power="MaxQ", parameters=folder).shared.power_limit == 130
    assert name not in names(ProfileFile)
