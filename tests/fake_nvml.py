"""A stand-in for nvidia-ml-py, for the process that samples."""

from __future__ import annotations

# Two GPUs: the first works at its power cap beside a stranger's process, the second idles and does not tell its power.
FAKE_NVML = """\
from types import SimpleNamespace as N
NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
class NVMLError(Exception): pass
def nvmlInit(): pass
def nvmlDeviceGetCount(): return 2
def nvmlDeviceGetHandleByIndex(i): return i
def nvmlDeviceGetMemoryInfo(h): return N(used=3 * 2**30)
def nvmlDeviceGetUtilizationRates(h): return N(gpu=97 if h == 0 else 0)
def nvmlDeviceGetCurrentClocksThrottleReasons(h): return 0x4 if h == 0 else 0x1
def nvmlDeviceGetComputeRunningProcesses(h): return [N(pid=1)] if h == 0 else []
def nvmlDeviceGetPowerUsage(h):
    if h: raise NVMLError("not supported")
    return 700_000
def nvmlDeviceGetEnforcedPowerLimit(h): return 700_000
def nvmlDeviceGetClockInfo(h, kind): return 1980 if kind == 1 else 3201
def nvmlDeviceGetTemperature(h, sensor): return 61
"""
