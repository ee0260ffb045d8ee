from __future__ import annotations

import ast
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from interop.nvidia.configs import configure, opened
from interop.nvidia.releases import ROUNDS

from nvkit.errors import ConfigError
from nvkit.interop.nvidia import MARKER, system_files
from nvkit.system import Cpu, Gpu, System

GPU = Gpu("NVIDIA GeForce RTX 4090", "10de:2684", "8.9", 23.99, 450.0, 2520)
CPU = Cpu("AMD EPYC 7313P 16-Core Processor", "x86_64", 1, 16, 32, 32, ())
MACHINE = System("3.10.12", "Ubuntu 22.04", "5.15", CPU, 125.6, 120.0, 900.0, (GPU,))
DEFINITION = Path("code/common/systems/custom_list.py")
DESCRIPTION = Path("code/common/systems/custom_list.json")


def configuration(text: str) -> dict[str, Any]:
    """Return the fields of the one class in a benchmark configuration, and what it is registered as."""
    (made,) = [node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)]
    fields = {}
    for line in made.body:
        assert isinstance(line, ast.Assign)
        assert isinstance(line.targets[0], ast.Name)
        try:
            fields[line.targets[0].id] = ast.literal_eval(line.value)
        except ValueError:
            fields[line.targets[0].id] = ast.unparse(line.value)
    (registered,) = made.decorator_list
    return {"class": made.name, "base": ast.unparse(made.bases[0]), "as": ast.unparse(registered), **fields}


@pytest.mark.parametrize("round", ROUNDS)
def test_a_configuration_holds_what_is_set_and_nothing_else(tmp_path: Path, round: str) -> None:
    files = system_files(configure(tmp_path, round), opened(tmp_path, round), "RTX_4090x1", machine=MACHINE)
    batch = {"resnet50": 64} if round >= "v4.1" else 64
    assert configuration(files[Path("configs/resnet50/Offline/custom.py")]) == {
        "class": "RTX_4090x1",
        "base": "OfflineGPUBaseConfig",
        "as": "ConfigRegistry.register(HarnessType.LWIS, AccuracyTarget.k_99, PowerSetting.MaxP)",
        "system": "KnownSystem.RTX_4090x1",
        "precision": "int8",
        "gpu_batch_size": batch,
        "gpu_copy_streams": 2,
        "use_graphs": True,
        "offline_expected_qps": 40000,
    }
    single = configuration(files[Path("configs/resnet50/SingleStream/custom.py")])
    assert single["use_graphs"] is False
    assert single["single_stream_expected_latency_ns"] == 300000
    definition = DESCRIPTION if round == "v5.0" else DEFINITION
    assert set(files) == {
        definition,
        *(Path(f"configs/resnet50/{s}/custom.py") for s in configure(tmp_path, round).scenarios),
    }
    assert all(MARKER in text for text in files.values())


def test_a_field_for_listed_systems_only_is_left_out_and_named(tmp_path: Path) -> None:
    files = system_files(configure(tmp_path, "v3.0"), opened(tmp_path, "v3.0"), "mine", machine=MACHINE)
    text = files[Path("configs/resnet50/Offline/custom.py")]
    assert "may have it: start_from_device." in text
    assert "start_from_device" not in configuration(text)


def test_high_accuracy_and_maxq_are_what_the_class_is_registered_as(tmp_path: Path) -> None:
    config = configure(tmp_path, "v3.0", "bert-99.9", "Offline", power="MaxQ")
    files = system_files(config, opened(tmp_path, "v3.0"), "mine", machine=MACHINE)
    made = configuration(files[Path("configs/bert/Offline/custom.py")])
    assert made["as"] == "ConfigRegistry.register(HarnessType.Custom, AccuracyTarget.k_99_9, PowerSetting.MaxQ)"
    assert (made["precision"], made["power_limit"], made["use_fp8"]) == ("fp16", 250, True)


def test_what_belongs_to_one_run_is_not_in_the_configuration(tmp_path: Path) -> None:
    config = configure(tmp_path, "v3.0", scenario="Offline", quick=True, devices="0", min_query_count=10)
    files = system_files(config, opened(tmp_path, "v3.0"), "mine", machine=MACHINE)
    made = configuration(files[Path("configs/resnet50/Offline/custom.py")])
    assert not {"min_duration", "min_query_count", "performance_sample_count", "devices"} & made.keys()


def test_the_definition_matches_this_machine_and_no_other_in_processor_and_gpu(tmp_path: Path) -> None:
    machine = dataclasses.replace(MACHINE, gpus=(GPU, GPU))
    files = system_files(configure(tmp_path, "v4.1"), opened(tmp_path, "v4.1"), "RTX_4090x2", machine=machine)
    calls = {
        node.func.id: {k.arg: ast.unparse(k.value) for k in node.keywords}
        for node in ast.walk(ast.parse(files[DEFINITION]))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert calls["GPU"] == {
        "name": "'NVIDIA GeForce RTX 4090'",
        "accelerator_type": "AcceleratorType.Discrete",
        "vram": "match_float_approximate(Memory(quantity=23.99, byte_suffix=ByteSuffix.GiB))",
        "max_power_limit": "MATCH_ANY",
        "pci_id": "'0x268410DE'",
        "compute_sm": "89",
    }
    assert calls["CPU"]["name"] == "'AMD EPYC 7313P 16-Core Processor'"
    assert calls["CPU"]["architecture"] == "CPUArchitecture.x86_64"
    assert calls["MemoryConfiguration"]["host_memory_capacity"].startswith("Memory(quantity=125.6,")
    assert calls["AcceleratorConfiguration"]["layout"].endswith(": 2}")
    assert calls["SystemConfiguration"]["system_id"] == "'RTX_4090x2'"


def test_v5_gets_the_system_as_json(tmp_path: Path) -> None:
    machine = dataclasses.replace(MACHINE, gpus=(GPU, GPU))
    files = system_files(configure(tmp_path, "v5.0"), opened(tmp_path, "v5.0"), "RTX_4090x2", machine=machine)
    system = json.loads(files[DESCRIPTION])["RTX_4090x2"]["data"]
    assert system["_match_ignore_fields"] == ["host_memory"]
    assert system["fields"]["cpu"]["data"]["fields"]["vendor"] == "AuthenticAMD"
    gpus, dlas = system["fields"]["accelerators"]["data"]
    assert (len(gpus["value"]), dlas["value"]) == (2, [])
    fields = gpus["value"][0]["data"]["fields"]
    assert fields["pci_id"] == "0x268410DE"
    assert fields["vram"]["data"]["start"]["data"]["num_bytes"] == round(23.99 * 2**30)


def test_without_a_gpu_the_profiles_is_described(tmp_path: Path) -> None:
    machine = dataclasses.replace(MACHINE, gpus=(), no_gpu_reason="no driver")
    files = system_files(configure(tmp_path, "v3.0"), opened(tmp_path, "v3.0"), "mine", machine=machine)
    assert '"NVIDIA GeForce RTX 4090"' in files[DEFINITION]
    assert "vram=MATCH_ANY" in files[DEFINITION]


def test_gpus_of_several_kinds_are_refused(tmp_path: Path) -> None:
    machine = dataclasses.replace(MACHINE, gpus=(GPU, dataclasses.replace(GPU, name="NVIDIA L4", pci_id="10de:27b8")))
    with pytest.raises(ConfigError, match="GPUs of several kinds"):
        system_files(configure(tmp_path, "v3.0"), opened(tmp_path, "v3.0"), "mine", machine=machine)


@pytest.mark.parametrize("path", ["code/common/systems/custom_list.py", "configs/resnet50/Server/custom.py"])
def test_a_file_of_the_users_is_never_replaced(tmp_path: Path, path: str) -> None:
    config, checkout = configure(tmp_path, "v3.0"), opened(tmp_path, "v3.0")
    files = system_files(config, checkout, "mine", machine=MACHINE)
    own = checkout.root / path
    own.write_text(files[Path(path)])
    assert system_files(config, checkout, "mine", machine=MACHINE) == files
    own.write_text("# my own work\n")
    with pytest.raises(ConfigError, match="nvkit did not write it"):
        system_files(config, checkout, "mine", machine=MACHINE)


@pytest.mark.parametrize(
    ("benchmark", "given", "message"),
    [
        ("3d-unet-99", {"batch_size": 8}, "NVIDIA's code needs offline_expected_qps for 3d-unet-99 Offline"),
        ("3d-unet-99", {"offline_expected_qps": 4}, "NVIDIA's code needs gpu_batch_size for 3d-unet-99 Offline"),
    ],
)
def test_a_value_that_nvidia_needs_and_nothing_sets_is_asked_for(
    tmp_path: Path, benchmark: str, given: dict[str, Any], message: str
) -> None:
    config = configure(tmp_path, "v3.0", benchmark, "Offline", **given)
    with pytest.raises(ConfigError, match=message):
        system_files(config, opened(tmp_path, "v3.0"), "mine", machine=MACHINE)


def test_a_name_that_python_cannot_have(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'RTX 4090' cannot name a system"):
        system_files(configure(tmp_path, "v3.0"), opened(tmp_path, "v3.0"), "RTX 4090", machine=MACHINE)
