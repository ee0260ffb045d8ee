"""The system definition and benchmark configuration that NVIDIA's code wants for a machine it does not know.

NVIDIA's add_custom_system asks questions, then lists every field with an empty value, which override the good values
of its base configuration. The files written here hold what is set, nothing else.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from nvkit.config import RunConfig
from nvkit.errors import ConfigError
from nvkit.interop.nvidia.checkout import Checkout
from nvkit.interop.nvidia.definition import MARKER as MARKER
from nvkit.interop.nvidia.definition import definition, description
from nvkit.interop.nvidia.options import RUN_ONLY, written
from nvkit.system import Gpu, System, describe

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_LWIS = ("resnet50", "retinanet")
_TARGETS = {
    "Offline": "offline_expected_qps",
    "Server": "server_target_qps",
    "SingleStream": "single_stream_expected_latency_ns",
    "MultiStream": "multi_stream_expected_latency_ns",
}
_COMMAND_LINE = RUN_ONLY | {
    "devices",
    "min_duration",
    "max_duration",
    "min_query_count",
    "max_query_count",
    "performance_sample_count",
    "qsl_rng_seed",
    "sample_index_rng_seed",
    "schedule_rng_seed",
}
"""Options of one run that do not belong in a configuration; add_custom_system leaves them out too."""
_ANY_GPU = {"gpu_based"}
_BASE_HAS_BATCH = ("SingleStream", "MultiStream")
"""Scenarios for which NVIDIA's base configurations have a batch size: one sample, or one query."""


def system_files(
    config: RunConfig, checkout: Checkout, system_name: str, *, machine: System | None = None
) -> dict[Path, str]:
    """Return the files that make this machine known to NVIDIA's code: path relative to `checkout.root`, and content.

    Args:
        system_name: Name of the system in NVIDIA's results, e.g. "RTX_4090x1".
        machine: The machine; examined now if None. Without a GPU, the GPU of the profile is taken, once.

    Raises:
        ConfigError: a file is there that nvkit did not write, a bad name, no GPU, GPUs of several kinds, or no target.
    """
    if not _NAME.fullmatch(system_name):
        raise ConfigError(
            f"'{system_name}' cannot name a system: it becomes a name in NVIDIA's Python code.",
            "Use letters, digits and underscores, a letter first.",
        )
    machine = machine or describe()
    gpu, count = _gpu(config, machine)
    benchmark = checkout.benchmark(config.benchmark)
    if checkout.number >= (5, 0):
        files = {Path("code/common/systems/custom_list.json"): description(system_name, machine, gpu, count)}
    else:
        files = {Path("code/common/systems/custom_list.py"): definition(system_name, machine, gpu, count)}
    for scenario in config.scenarios:
        path = Path("configs") / benchmark / scenario / "custom.py"
        files[path] = _configuration(config, scenario, checkout, system_name, count)
    for path in files:
        there = checkout.root / path
        if there.exists() and MARKER not in there.read_text(encoding="utf-8", errors="replace"):
            raise ConfigError(
                f"{there} is there and nvkit did not write it.",
                "Keep it and run with a system that it defines, or move it away.",
            )
    return files


def _gpu(config: RunConfig, machine: System) -> tuple[Gpu, int]:
    kinds = {(gpu.name, gpu.pci_id) for gpu in machine.gpus}
    if len(kinds) > 1:
        raise ConfigError(
            f"This machine has GPUs of several kinds ({', '.join(sorted(name for name, _ in kinds))}); "
            "NVIDIA's code runs on one kind.",
            "Hide the others: CUDA_VISIBLE_DEVICES for NVIDIA's code, and for nvkit.",
        )
    if machine.gpus:
        return machine.gpus[0], len(machine.gpus)
    device = config.device
    if device.kind != "gpu" or not device.names:
        raise ConfigError(
            f"There is nothing to write a system definition from: {machine.no_gpu_reason or 'no GPU'}, "
            f"and profile {config.profile} names no GPU.",
            "Choose the profile of a GPU, or run on the machine that has one.",
        )
    pci_id = device.pci_ids[0] if device.pci_ids else None
    # The profile knows the memory that the product is sold with, which is not what the driver reports.
    return Gpu(f"NVIDIA {device.names[0]}", pci_id, device.compute_capability, None, None, None), 1


def _configuration(config: RunConfig, scenario: str, checkout: Checkout, system_name: str, count: int) -> str:
    """Return configs/<benchmark>/<scenario>/custom.py with one class for this machine."""
    benchmark, settings = checkout.benchmark(config.benchmark), config.scenarios[scenario]
    systems = _ANY_GPU | ({"multi_gpu"} if count > 1 else set())
    values, elsewhere = {}, []
    for name, value in written(config, scenario, checkout).items():
        if name in _COMMAND_LINE:
            continue
        # A field for other systems than this one would make NVIDIA's code refuse the whole configuration.
        if (checkout.fields[name].systems or systems) <= systems:
            values[name] = value
        else:
            elsewhere.append(name)
    if "gpu_batch_size" not in values and scenario not in _BASE_HAS_BATCH:
        raise ConfigError(
            f"NVIDIA's code needs gpu_batch_size for {config.benchmark} {scenario}, and nothing sets it.",
            "Give --batch-size.",
        )
    if not values.get(_TARGETS[scenario]):
        raise ConfigError(
            f"NVIDIA's code needs {_TARGETS[scenario]} for {config.benchmark} {scenario}, and nothing sets it.",
            f"Give --{_TARGETS[scenario].replace('_', '-')}, or let nvkit tune find it.",
        )
    if checkout.named_batches:
        for name in ("gpu_batch_size", "dla_batch_size"):
            if name in values:
                values[name] = {benchmark: values[name]}
    harness = "Triton" if settings.use_triton else "LWIS" if benchmark in _LWIS else "Custom"
    accuracy = "k_99_9" if config.benchmark.endswith("-99.9") else "k_99"
    power = "MaxQ" if config.power == "MaxQ" else "MaxP"
    lines = [
        f"# {MARKER} for this machine; it replaces the file when it runs again.",
        *(
            [f"# Left out, since only systems that NVIDIA lists may have it: {', '.join(elsewhere)}."]
            if elsewhere
            else []
        ),
        "from . import *",
        "",
        "",
        f"@ConfigRegistry.register(HarnessType.{harness}, AccuracyTarget.{accuracy}, PowerSetting.{power})",
        f"class {system_name}({scenario}GPUBaseConfig):",
        f"    system = KnownSystem.{system_name}",
        *(f"    {name} = {_literal(value)}" for name, value in values.items()),
        "",
    ]
    return "\n".join(lines)


def _literal(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return repr(str(value.expanduser().absolute()) if isinstance(value, Path) else value)
