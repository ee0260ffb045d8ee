"""A machine in the words of NVIDIA's code: custom_list.py of v2.1 to v4.1, custom_list.json of v5.0."""

from __future__ import annotations

import json
from typing import Any

from nvkit.system import Gpu, System

MARKER = "written by nvkit"
"""Words in each file by which nvkit knows that it may replace it."""

_VENDORS = {"AMD": "AuthenticAMD", "Intel": "GenuineIntel"}


def definition(name: str, machine: System, gpu: Gpu, count: int) -> str:
    """Return custom_list.py (v2.1 to v4.1).

    The processor's name is given, or a system that differs from a known one only in it would be its alias in
    NVIDIA's enum; cores, sockets and the power limit may be any.
    """
    cpu = (
        f"CPU(name={_text(machine.cpu.model)}, architecture=CPUArchitecture.{_arch(machine)}, "
        "core_count=MATCH_ANY, threads_per_core=MATCH_ANY)"
    )
    vram = (
        f"match_float_approximate(Memory(quantity={gpu.memory_gib}, byte_suffix=ByteSuffix.GiB))"
        if gpu.memory_gib
        else "MATCH_ANY"
    )
    kind = "Discrete" if gpu.memory_gib or gpu.pci_id else "Integrated"
    return "\n".join(
        [
            f"# {MARKER} for this machine; it replaces the file when it runs again.",
            "from code.common.constants import *",
            "from code.common.systems.accelerator import AcceleratorConfiguration, GPU",
            "from code.common.systems.base import *",
            "from code.common.systems.cpu import CPU, CPUConfiguration",
            "from code.common.systems.known_hardware import *",
            "from code.common.systems.memory import MemoryConfiguration",
            "from code.common.systems.systems import SystemConfiguration",
            "",
            "custom_systems = {",
            f"    {_text(name)}: SystemConfiguration(",
            f"        host_cpu_conf=CPUConfiguration(layout={{{cpu}: MATCH_ANY}}),",
            "        host_mem_conf=MemoryConfiguration(",
            f"            host_memory_capacity=Memory(quantity={machine.ram_gib}, byte_suffix=ByteSuffix.GiB),",
            "            comparison_tolerance=0.05,",
            "        ),",
            "        accelerator_conf=AcceleratorConfiguration(layout={",
            "            GPU(",
            f"                name={_text(gpu.name)},",
            f"                accelerator_type=AcceleratorType.{kind},",
            f"                vram={vram},",
            "                max_power_limit=MATCH_ANY,",
            f"                pci_id={_text(_pci(gpu)) if gpu.pci_id else 'MATCH_ANY'},",
            f"                compute_sm={_sm(gpu)},",
            f"            ): {count},",
            "        }),",
            "        numa_conf=None,",
            f"        system_id={_text(name)},",
            "    ),",
            "}",
            "",
        ]
    )


def description(name: str, machine: System, gpu: Gpu, count: int) -> str:
    """Return custom_list.json (v5.0), the form in which nvmitten stores a system.

    Memory of the host is there but not compared; a field that a component does not have is not compared either.
    """
    vendor = next((vendor for word, vendor in _VENDORS.items() if word in machine.cpu.model), None)
    cpu: dict[str, Any] = {
        "architecture": {"__ENUM__": ["nvmitten.constants", "CPUArchitecture"], "name": _arch(machine)},
        **({"vendor": vendor} if vendor else {}),
    }
    one: dict[str, Any] = {**({"pci_id": _pci(gpu)} if gpu.pci_id else {}), "is_integrated": False}
    if gpu.memory_gib:
        start = _memory(gpu.memory_gib, 1024)
        one["vram"] = {
            "__obj_class__": "<class 'nvmitten.interval.NumericRange'>",
            "data": {"start": start, "rel_tol": 0.05},
        }
    devices = [
        {
            "key.module": "nvmitten.nvidia.accelerator",
            "key.name": "GPU",
            "value": [_component("nvmitten.nvidia.accelerator", "GPU", one) for _ in range(count)],
        },
        {"key.module": "nvmitten.nvidia.accelerator", "key.name": "DLA", "value": []},
    ]
    fields = {
        "cpu": _component("nvmitten.system.cpu", "CPU", cpu),
        "host_memory": _component("nvmitten.system.memory", "HostMemory", {"capacity": _memory(machine.ram_gib, 1000)}),
        "accelerators": {"__obj_class__": "<class 'nvmitten.json_utils.ClassKeyedDict'>", "data": devices},
        "extras": {},
    }
    system = _component("nvmitten.system.system", "System", fields, ignore=["host_memory"])
    return json.dumps({name: system}, indent=2) + "\n"


def _component(module: str, kind: str, fields: dict[str, Any], ignore: list[str] | None = None) -> dict[str, Any]:
    return {
        "__obj_class__": "<class 'nvmitten.system.component.Description'>",
        "data": {
            "_component_module": module,
            "_component_classname": kind,
            "_match_ignore_fields": ignore or [],
            "fields": fields,
        },
    }


def _memory(gib: float, base: int) -> dict[str, Any]:
    # JSON has no comments: the words that mark the file stand in the one text that nvmitten does not read.
    text = f"{gib} GiB, {MARKER}"
    return {
        "__obj_class__": "<class 'nvmitten.memory.Memory'>",
        "data": {"num_bytes": round(gib * 2**30), "base": base, "human_readable_UNUSED": text},
    }


def _text(value: str) -> str:
    return json.dumps(value)


def _arch(machine: System) -> str:
    return "aarch64" if machine.cpu.architecture in ("aarch64", "arm64") else "x86_64"


def _pci(gpu: Gpu) -> str:
    vendor, _, device = (gpu.pci_id or "").partition(":")
    return f"0x{device.upper()}{vendor.upper()}"


def _sm(gpu: Gpu) -> str:
    return gpu.compute_capability.replace(".", "") if gpu.compute_capability else "MATCH_ANY"
