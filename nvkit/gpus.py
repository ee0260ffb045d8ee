"""The NVIDIA GPUs of this machine, as the driver's management library (NVML) answers through nvidia-ml-py.

Records are shared, so no serial number, UUID or bus address is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

_NOT_SUPPORTED = 3
_MISMATCH = 18
"""Error codes of nvml.h, where they have been the same in every release."""


@dataclass(frozen=True)
class MigSlice:
    """One MIG device: a part of a GPU that a process sees as a GPU of its own.

    Attributes:
        slices: Compute slices of the GPU instance, out of 7 (4 on an A30); None where the driver does not say.
        multiprocessors: SMs of the compute instance.
        memory_gib: Memory of the GPU instance, GiB.
    """

    slices: int | None
    multiprocessors: int | None
    memory_gib: float | None


@dataclass(frozen=True)
class Gpu:
    """One GPU as the driver sees it; None where the driver does not say (unified memory, laptops).

    Attributes:
        name: Product name, e.g. "NVIDIA L4".
        pci_id: Vendor and device as lspci prints them, e.g. "10de:27b8".
        compute_capability: e.g. "8.9".
        memory_gib: Total memory, GiB.
        power_limit_w: Enforced power limit, W.
        max_sm_clock_mhz: Highest clock of the SMs, MHz.
        unified_memory: The GPU has no memory of its own: the driver does not support the question (Jetson, GB10).
        mig: MIG mode is on, so that only `mig_slices` can be used.
        mig_slices: The MIG devices that this process may see, in the order of the driver.
    """

    name: str
    pci_id: str | None
    compute_capability: str | None
    memory_gib: float | None
    power_limit_w: float | None
    max_sm_clock_mhz: int | None
    unified_memory: bool = False
    mig: bool = False
    mig_slices: tuple[MigSlice, ...] = ()

    def __str__(self) -> str:
        facts = (
            f"{self.memory_gib:.1f} GiB" if self.memory_gib else "",
            "unified memory" if self.unified_memory else "",
            f"compute capability {self.compute_capability}" if self.compute_capability else "",
            f"{self.power_limit_w:.0f} W" if self.power_limit_w else "",
            self.pci_id or "",
            f"MIG: {len(self.mig_slices) or 'no'} slices" if self.mig else "",
        )
        return ", ".join([self.name, *filter(None, facts)])


@dataclass(frozen=True)
class Driver:
    """What the NVIDIA driver answers.

    Attributes:
        gpus: In the order of the driver (PCI bus order).
        no_gpu_reason: Why `gpus` is empty, in words; empty if it is not.
        version: Version of the driver.
        cuda: Newest CUDA version that it can serve.
    """

    gpus: tuple[Gpu, ...] = ()
    no_gpu_reason: str = ""
    version: str | None = None
    cuda: str | None = None


def ask_driver() -> Driver:
    """Ask the driver for its GPUs. Whatever is absent or does not answer is a reason, never an error."""
    try:
        import pynvml as nvml
    except ImportError:
        return Driver(no_gpu_reason="the package nvidia-ml-py is not installed, so no GPU can be looked for")
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return Driver(no_gpu_reason=_why_not(error))
    try:
        version = _ask(lambda: _text(nvml.nvmlSystemGetDriverVersion()))
        number = _ask(lambda: int(nvml.nvmlSystemGetCudaDriverVersion_v2()))
        cuda = f"{number // 1000}.{number % 1000 // 10}" if number else None
        handles = (nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount()))
        gpus = tuple(_gpu(nvml, handle) for handle in handles)
    except nvml.NVMLError as error:
        return Driver(no_gpu_reason=f"the NVIDIA driver gives an error ({error})")
    finally:
        nvml.nvmlShutdown()
    return Driver(gpus, "" if gpus else "the driver answers but shows no GPU to this process", version, cuda)


def gib(size: int) -> float:
    """Return bytes as GiB, to two places."""
    return round(size / 2**30, 2)


def _why_not(error: Exception) -> str:
    if getattr(error, "value", None) == _MISMATCH:
        return f"the NVIDIA driver was replaced while the old one was running; restart the machine ({error})"
    return f"no NVIDIA driver answers ({error})"


def _ask(question: Callable[[], T]) -> T | None:
    """Return the driver's answer, or None where it does not answer the question."""
    from pynvml import NVMLError

    try:
        return question()
    except NVMLError:
        return None


def _gpu(nvml: Any, handle: Any) -> Gpu:
    pci = _ask(lambda: int(nvml.nvmlDeviceGetPciInfo(handle).pciDeviceId))
    capability = _ask(lambda: nvml.nvmlDeviceGetCudaComputeCapability(handle))
    power = _ask(lambda: int(nvml.nvmlDeviceGetEnforcedPowerLimit(handle)))
    mode = _ask(lambda: nvml.nvmlDeviceGetMigMode(handle)[0])
    memory, unified = _memory(nvml, handle)
    return Gpu(
        name=_text(nvml.nvmlDeviceGetName(handle)),
        # NVML packs the device into the upper 16 bits and the vendor into the lower.
        pci_id=f"{pci & 0xFFFF:04x}:{pci >> 16:04x}" if pci else None,
        compute_capability=".".join(map(str, capability)) if capability else None,
        memory_gib=memory,
        power_limit_w=power / 1000 if power else None,
        max_sm_clock_mhz=_ask(lambda: int(nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM))),
        unified_memory=unified,
        mig=bool(mode),
        mig_slices=tuple(_slices(nvml, handle)) if mode else (),
    )


def _memory(nvml: Any, handle: Any) -> tuple[float | None, bool]:
    """Return the memory in GiB, and whether the GPU shares the machine's.

    Only "not supported" means unified memory: a container that holds nothing but a MIG slice has no permission to
    ask for the memory of the whole GPU, and a lost GPU does not answer either.
    """
    try:
        total = int(nvml.nvmlDeviceGetMemoryInfo(handle).total)
    except nvml.NVMLError as error:
        return None, getattr(error, "value", None) == _NOT_SUPPORTED
    return (gib(total), False) if total else (None, True)


def _slices(nvml: Any, handle: Any) -> Iterator[MigSlice]:
    for index in range(_ask(lambda: int(nvml.nvmlDeviceGetMaxMigDeviceCount(handle))) or 0):
        try:
            part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
        except nvml.NVMLError:  # fewer slices than the GPU could be cut into
            continue
        yield _slice(nvml, part)


def _slice(nvml: Any, handle: Any) -> MigSlice:
    attributes = _ask(lambda: nvml.nvmlDeviceGetAttributes(handle))
    memory, _ = _memory(nvml, handle)
    return MigSlice(
        slices=int(attributes.gpuInstanceSliceCount) if attributes else None,
        multiprocessors=int(attributes.multiprocessorCount) if attributes else None,
        memory_gib=memory,
    )


def _text(value: str | bytes) -> str:
    """Decode what old releases of nvidia-ml-py return as bytes."""
    return value.decode() if isinstance(value, bytes) else value
