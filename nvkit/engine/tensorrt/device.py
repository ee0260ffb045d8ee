"""The GPU that CUDA puts first in this process, asked of the driver itself.

NVML numbers GPUs its own way and does not know CUDA_VISIBLE_DEVICES; the CUDA driver does. It is asked through ctypes,
so that engines can be built and cards be checked where cuda-python is not installed.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from dataclasses import dataclass

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*

# CUDA puts the fastest GPU first unless told otherwise; nvidia-smi, NVML and the setting `devices` count by PCI bus.
os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")


@dataclass(frozen=True)
class Gpu:
    """A GPU.

    Attributes:
        name: Product name, e.g. "NVIDIA H200".
        compute_capability: e.g. "9.0".
        memory: Bytes.
    """

    name: str
    compute_capability: str
    memory: int


class NoGpu(Exception):  # noqa: N818 - an answer, not an error of the run
    """There is no GPU to use; the text says why."""


@functools.lru_cache(maxsize=1)
def gpu() -> Gpu:
    """Return CUDA's first GPU.

    Raises:
        NoGpu: there is no driver, or it shows no GPU to this process.
    """
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(name)
    except OSError:
        raise NoGpu("no NVIDIA driver is installed here") from None
    if status := driver.cuInit(0):
        raise NoGpu(f"the NVIDIA driver shows no GPU to this process (cuInit gives error {status})")
    handle, text, size = ctypes.c_int(), ctypes.create_string_buffer(256), ctypes.c_size_t()
    numbers = ctypes.c_int(), ctypes.c_int()
    for status in (
        driver.cuDeviceGet(ctypes.byref(handle), 0),
        driver.cuDeviceGetName(text, len(text), handle),
        driver.cuDeviceGetAttribute(ctypes.byref(numbers[0]), _MAJOR, handle),
        driver.cuDeviceGetAttribute(ctypes.byref(numbers[1]), _MINOR, handle),
        driver.cuDeviceTotalMem_v2(ctypes.byref(size), handle),
    ):
        if status:
            raise NoGpu(f"the NVIDIA driver does not describe its first GPU (error {status})")
    return Gpu(text.value.decode(errors="replace"), f"{numbers[0].value}.{numbers[1].value}", size.value)
