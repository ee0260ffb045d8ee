"""Power limits of the GPUs, read and set through NVML (nvidia-ml-py)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from nvkit.errors import BackendUnavailableError, MissingPackageError


@dataclass(frozen=True)
class Limits:
    """Power limits of one GPU, W; None where the driver does not support the question.

    Attributes:
        gpu: Its number, as in `nvidia-smi -i`.
        name: Product name.
        pci_id: Vendor and device as lspci prints them.
        set_w: What was asked for last (nvidia-smi -pl), or the default.
        enforced_w: What holds: the least of all limits, also those of the machine.
        default_w: The limit after a restart.
        least_w: The lowest that the GPU takes.
        most_w: The highest that the GPU takes.
        persistent: Persistence mode is on; without it a limit is lost when the last program leaves the driver.
    """

    gpu: int
    name: str
    pci_id: str | None
    set_w: float | None
    enforced_w: float | None
    default_w: float | None
    least_w: float | None
    most_w: float | None
    persistent: bool | None

    @property
    def title(self) -> str:
        """The GPU in words, e.g. "GPU 0 (NVIDIA L4)"."""
        return f"GPU {self.gpu} ({self.name})"


@contextmanager
def session() -> Iterator[Any]:
    """Yield nvidia-ml-py, ready for use; the driver stays loaded, and with it the limits, until the block ends.

    Raises:
        MissingPackageError: nvidia-ml-py is not installed.
        BackendUnavailableError: no driver answers, or one gives an error inside the block.
    """
    try:
        import pynvml as nvml
    except ImportError:
        raise MissingPackageError(
            "Power limits are read through nvidia-ml-py, which is not installed.",
            'Install it: pip install "nvkit[gpu]".',
        ) from None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise _driver_error(error) from error
    try:
        yield nvml
    except nvml.NVMLError as error:
        raise _driver_error(error) from error
    finally:
        nvml.nvmlShutdown()


def read(nvml: Any) -> tuple[Limits, ...]:
    """Return the limits of all GPUs, in the order of the driver."""
    from nvkit.gpus import ask_driver

    return tuple(_one(nvml, number, gpu.name, gpu.pci_id) for number, gpu in enumerate(ask_driver().gpus))


def enforced(nvml: Any, gpu: int) -> float | None:
    """Return the limit that holds for a GPU, W."""
    handle = nvml.nvmlDeviceGetHandleByIndex(gpu)
    return _watts(_supported(nvml, lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle)))


def asked_for(nvml: Any, gpu: int) -> float | None:
    """Return the limit that was asked for last, W."""
    handle = nvml.nvmlDeviceGetHandleByIndex(gpu)
    return _watts(_supported(nvml, lambda: nvml.nvmlDeviceGetPowerManagementLimit(handle)))


def same(one: float | None, other: float) -> bool:
    """Whether two limits in W are the same; the driver keeps milliwatts, users give watts."""
    return one is not None and abs(one - other) < 0.5


def is_set(nvml: Any, gpu: int, watts: float) -> bool:
    """Whether this limit is what was asked for last; a driver that does not answer says no."""
    try:
        return same(asked_for(nvml, gpu), watts)
    except nvml.NVMLError:
        return False


def set_limit(nvml: Any, gpu: int, watts: float) -> None:
    """Set the power limit of a GPU.

    Raises:
        BackendUnavailableError: this user may not (root only), or the driver refuses.
    """
    try:
        nvml.nvmlDeviceSetPowerManagementLimit(nvml.nvmlDeviceGetHandleByIndex(gpu), round(watts * 1000))
    except nvml.NVMLError as error:
        if error.value == nvml.NVML_ERROR_NO_PERMISSION:
            what = f"Only root may set the power limit of GPU {gpu}."
            fix = f"Give {limit_command(gpu, watts)}, then run again without --apply-power."
        else:
            what = f"The driver does not set the power limit of GPU {gpu} to {watts:g} W: {error}."
            fix = f"nvidia-smi -i {gpu} -q -d POWER shows what it takes."
        raise BackendUnavailableError(what, fix) from error


def limit_command(gpu: int, watts: float) -> str:
    """Return the command that sets a power limit."""
    return f"sudo nvidia-smi -i {gpu} -pl {watts:g}"


def _one(nvml: Any, gpu: int, name: str, pci_id: str | None) -> Limits:
    handle = nvml.nvmlDeviceGetHandleByIndex(gpu)
    bounds = _supported(nvml, lambda: nvml.nvmlDeviceGetPowerManagementLimitConstraints(handle)) or (None, None)
    mode = _supported(nvml, lambda: nvml.nvmlDeviceGetPersistenceMode(handle))
    return Limits(
        gpu=gpu,
        name=name,
        pci_id=pci_id,
        set_w=asked_for(nvml, gpu),
        enforced_w=enforced(nvml, gpu),
        default_w=_watts(_supported(nvml, lambda: nvml.nvmlDeviceGetPowerManagementDefaultLimit(handle))),
        least_w=_watts(bounds[0]),
        most_w=_watts(bounds[1]),
        persistent=None if mode is None else bool(mode),
    )


def _supported(nvml: Any, question: Callable[[], Any]) -> Any:
    """Return the answer, or None where this GPU has none or this container (a MIG slice) may not ask."""
    try:
        return question()
    except nvml.NVMLError as error:
        if error.value in (nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_NO_PERMISSION):
            return None
        raise


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000


def _driver_error(error: Exception) -> BackendUnavailableError:
    return BackendUnavailableError(
        f"The NVIDIA driver does not answer about power limits: {error}.", "See what nvidia-smi says."
    )
