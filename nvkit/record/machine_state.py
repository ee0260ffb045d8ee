"""In which state of power and clocks the machine is: what decides, beside the hardware, how fast it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from nvkit.errors import SetupError
from nvkit.power import limits

_CPU = Path("/sys/devices/system/cpu")
_CPU_FILES = {
    "governor": "cpu0/cpufreq/scaling_governor",
    "driver": "cpu0/cpufreq/scaling_driver",
    "energy preference": "cpu0/cpufreq/energy_performance_preference",
    "max clock kHz": "cpu0/cpufreq/scaling_max_freq",
    "boost": "cpufreq/boost",
    "no turbo": "intel_pstate/no_turbo",
    "hyper-threading": "smt/control",
}


def cpu_state(folder: Path = _CPU) -> dict[str, str]:
    """Return what Linux says of the processor's clocks; a virtual machine says little or nothing.

    Args:
        folder: The folder of the processors in sysfs.
    """
    found = {}
    for name, file in _CPU_FILES.items():
        try:
            found[name] = (folder / file).read_text(encoding="utf-8").strip()
        except OSError:
            continue
    return found


def gpu_state() -> list[dict[str, Any]]:
    """Return for each GPU its power limits (W), clocks (MHz), modes, and PCIe link; empty without a driver.

    What a GPU does not support is left out. Serial numbers and UUIDs are not asked for: records are shared.
    """
    try:
        with limits.session() as nvml:
            return [_one(nvml, number) for number in range(nvml.nvmlDeviceGetCount())]
    except SetupError:
        return []


def _one(nvml: Any, number: int) -> dict[str, Any]:
    gpu = nvml.nvmlDeviceGetHandleByIndex(number)
    # Numbers of nvml.h, the same in every release: clocks 0 graphics, 1 SM, 2 memory; temperature sensor 0 the GPU.
    asked: dict[str, Callable[[], Any]] = {
        "name": lambda: nvml.nvmlDeviceGetName(gpu),
        "power_limit_w": lambda: nvml.nvmlDeviceGetPowerManagementLimit(gpu) / 1000,
        "enforced_power_limit_w": lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(gpu) / 1000,
        "default_power_limit_w": lambda: nvml.nvmlDeviceGetPowerManagementDefaultLimit(gpu) / 1000,
        "persistence_mode": lambda: bool(nvml.nvmlDeviceGetPersistenceMode(gpu)),
        "sm_clock_mhz": lambda: nvml.nvmlDeviceGetClockInfo(gpu, 1),
        "memory_clock_mhz": lambda: nvml.nvmlDeviceGetClockInfo(gpu, 2),
        "max_sm_clock_mhz": lambda: nvml.nvmlDeviceGetMaxClockInfo(gpu, 1),
        "max_memory_clock_mhz": lambda: nvml.nvmlDeviceGetMaxClockInfo(gpu, 2),
        "application_graphics_clock_mhz": lambda: nvml.nvmlDeviceGetApplicationsClock(gpu, 0),
        "application_memory_clock_mhz": lambda: nvml.nvmlDeviceGetApplicationsClock(gpu, 2),
        "performance_state": lambda: nvml.nvmlDeviceGetPerformanceState(gpu),
        "temperature_c": lambda: nvml.nvmlDeviceGetTemperature(gpu, 0),
        "compute_mode": lambda: nvml.nvmlDeviceGetComputeMode(gpu),
        "ecc": lambda: bool(nvml.nvmlDeviceGetEccMode(gpu)[0]),
        "vbios": lambda: nvml.nvmlDeviceGetVbiosVersion(gpu),
        "pcie_generation": lambda: nvml.nvmlDeviceGetMaxPcieLinkGeneration(gpu),
        "pcie_width": lambda: nvml.nvmlDeviceGetMaxPcieLinkWidth(gpu),
    }
    found = {}
    for name, ask in asked.items():
        try:
            value = ask()
        except nvml.NVMLError:
            continue
        found[name] = value.decode() if isinstance(value, bytes) else value
    return found
