"""The machine in MLPerf's schema of a system description (systems/<system>.json of a submission), from the machine.

The fields are those that the submission checkers of v3.0 to v6.1 ask for. What no program can find out (cooling, the
configuration of memory modules) says so; what is not the machine's to say (submitter, division, status, system
type) is empty, for the submission to fill in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil

from nvkit.record.machine_state import gpu_state
from nvkit.system import System

UNKNOWN = "not known to the operating system"
_NONE = "N/A"
_FRAMEWORKS = {"onnxruntime": "ONNX Runtime", "tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT for RTX"}


def system_description(system: System, framework: str, folder: Path) -> dict[str, Any]:
    """Return the 35 fields.

    Args:
        system: The machine and its software.
        framework: The backend, or what ran the model in words.
        folder: A folder on the storage that the run used.
    """
    cpu, gpus = system.cpu, system.gpus
    names = [gpu.name for gpu in gpus]
    accelerators = ", ".join(dict.fromkeys(names))
    capacity, kind = _storage(folder)
    packages = system.packages
    others = {"driver": system.driver, "CUDA": system.cuda, "Python": system.python}
    others |= {name: packages.get(name) for name in ("mlcommons-loadgen", "onnxruntime", "nvkit")}
    software = framework
    longer = tuple(name for name in _FRAMEWORKS if name != framework and name.startswith(framework))
    own = [name for name in packages if name.startswith(framework) and not (longer and name.startswith(longer))]
    for package in own[:1]:
        software = f"{_FRAMEWORKS.get(framework, framework)} {packages[package]}"
    if gpus and system.cuda:
        software += f", CUDA {system.cuda}"
    cards = _network()
    return {
        "division": "",
        "submitter": "",
        "status": "",
        "system_type": "",
        "system_type_detail": "",
        "system_name": f"{len(names)}x {accelerators}" if gpus else f"{cpu.sockets or 1}x {cpu.model}",
        "number_of_nodes": "1",
        "host_processor_model_name": cpu.model,
        "host_processors_per_node": str(cpu.sockets or 1),
        "host_processor_core_count": str((cpu.cores or cpu.threads) // (cpu.sockets or 1)),
        "host_processor_frequency": _frequency(),
        "host_processor_caches": _caches(),
        "host_processor_interconnect": "",
        "host_memory_capacity": f"{system.ram_gib:.0f} GiB",
        "host_memory_configuration": UNKNOWN,
        "host_storage_type": kind,
        "host_storage_capacity": capacity,
        "host_networking": "; ".join(dict.fromkeys(cards)) or _NONE,
        "host_networking_topology": _NONE,
        "host_network_card_count": str(len(cards)),
        # A checker of some rounds takes 0 for a missing value, so numbers are strings.
        "accelerators_per_node": str(len(names)),
        "accelerator_model_name": accelerators or _NONE,
        "accelerator_memory_capacity": _memory(system) or _NONE,
        "accelerator_memory_configuration": UNKNOWN if gpus else _NONE,
        "accelerator_frequency": "; ".join(
            dict.fromkeys(f"{g.max_sm_clock_mhz} MHz" for g in gpus if g.max_sm_clock_mhz)
        ),
        "accelerator_host_interconnect": _link() or (UNKNOWN if gpus else _NONE),
        "accelerator_interconnect": UNKNOWN if len(names) > 1 else _NONE,
        "accelerator_interconnect_topology": "",
        "accelerator_on-chip_memories": "",
        "cooling": UNKNOWN,
        "framework": software,
        "operating_system": f"{system.os}, kernel {system.kernel}",
        "other_software_stack": ", ".join(f"{name} {version}" for name, version in others.items() if version),
        "hw_notes": "",
        "sw_notes": "",
    }


def _memory(system: System) -> str:
    return "; ".join(dict.fromkeys(f"{gpu.memory_gib:.0f} GiB" for gpu in system.gpus if gpu.memory_gib))


def _link() -> str:
    """Return the fastest PCIe link that the GPUs and the board can make."""
    links = [
        f"PCIe Gen{gpu['pcie_generation']} x{gpu['pcie_width']}"
        for gpu in gpu_state()
        if "pcie_generation" in gpu and "pcie_width" in gpu
    ]
    return "; ".join(dict.fromkeys(links))


def _frequency() -> str:
    clock = psutil.cpu_freq()
    return f"{clock.max or clock.current:.0f} MHz" if clock else ""


def _caches() -> str:
    found = []
    for cache in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, size = (
                (cache / name).read_text(encoding="utf-8").strip() for name in ("level", "type", "size")
            )
        except OSError:
            continue
        found.append(f"L{level}{ {'Data': 'd', 'Instruction': 'i'}.get(kind, '') } {size}")
    return ", ".join(found)


def _storage(folder: Path) -> tuple[str, str]:
    """Return capacity and kind of the storage below a folder."""
    here = folder.resolve()
    mounts = [part for part in psutil.disk_partitions(all=True) if here.is_relative_to(part.mountpoint)]
    capacity = f"{psutil.disk_usage(str(here)).total / 1e9:.0f} GB"
    if not mounts:
        return capacity, UNKNOWN
    mount = max(mounts, key=lambda part: len(part.mountpoint))
    if not mount.device.startswith("/dev/"):
        return capacity, mount.fstype
    device = Path("/sys/class/block") / Path(mount.device).resolve().name
    for place in (device, device.resolve().parent):  # a partition's disk is the folder above it
        try:
            rotates = (place / "queue" / "rotational").read_text(encoding="utf-8").strip() == "1"
        except OSError:
            continue
        return capacity, "NVMe SSD" if place.name.startswith("nvme") else "hard disk" if rotates else "SSD"
    return capacity, mount.fstype


def _network() -> list[str]:
    """Return one entry for each network card with a link, without its name or addresses."""
    cards = []
    for name, facts in psutil.net_if_stats().items():
        if facts.isup and (Path("/sys/class/net") / name / "device").exists():
            cards.append(f"Ethernet {facts.speed / 1000:g} Gb/s" if facts.speed > 0 else "Ethernet")
    return cards
