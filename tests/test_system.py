from __future__ import annotations

import getpass
import json
import platform
import socket
import sys
import types
from pathlib import Path

import pytest

from nvkit import system
from nvkit.system import Gpu, describe, free_bytes, installed


class FakeNvml(types.ModuleType):
    """An L4 and a GPU with unified memory, which does not answer questions about its memory and power."""

    NVML_CLOCK_SM = 1

    class NVMLError(Exception):
        pass

    def __init__(self, gpus: int = 2, init_error: str = "") -> None:
        super().__init__("pynvml")
        self.gpus, self.init_error, self.shut_down = gpus, init_error, False

    def nvmlInit(self) -> None:  # noqa: N802
        if self.init_error:
            raise self.NVMLError(self.init_error)

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.shut_down = True

    def __getattr__(self, name: str) -> object:
        answers = {
            "nvmlSystemGetDriverVersion": lambda: b"550.54.15",
            "nvmlSystemGetCudaDriverVersion_v2": lambda: 12040,
            "nvmlDeviceGetCount": lambda: self.gpus,
            "nvmlDeviceGetHandleByIndex": lambda index: index,
            "nvmlDeviceGetName": lambda index: ["NVIDIA L4", "NVIDIA GB10"][index],
            "nvmlDeviceGetPciInfo": lambda index: types.SimpleNamespace(pciDeviceId=0x27B810DE),
            "nvmlDeviceGetCudaComputeCapability": lambda index: [(8, 9), (12, 1)][index],
            "nvmlDeviceGetMemoryInfo": self.only_first(types.SimpleNamespace(total=24 * 2**30)),
            "nvmlDeviceGetEnforcedPowerLimit": self.only_first(72_000),
            "nvmlDeviceGetMaxClockInfo": lambda index, clock: 2040,
        }
        if name not in answers:
            raise AttributeError(name)
        return answers[name]

    def only_first(self, answer: object) -> object:
        def ask(index: int) -> object:
            if index:
                raise self.NVMLError("Not Supported")
            return answer

        return ask


def test_this_machine_is_described_and_named_nowhere(tmp_path: Path) -> None:
    found = describe(tmp_path)
    text = json.dumps(found.to_json())

    assert found.python == platform.python_version()
    assert found.cpu.threads >= found.cpu.usable >= 1
    assert 0 < found.ram_available_gib <= found.ram_gib
    assert found.disk_free_gib > 0
    assert found.packages["onnxruntime"]
    assert bool(found.gpus) != bool(found.no_gpu_reason)
    assert str(tmp_path) not in text
    for private in (socket.gethostname(), getpass.getuser()):
        assert f'"{private}"' not in text


def test_gpus_and_driver_are_read_and_unsupported_questions_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)

    found = describe()

    assert found.gpus == (
        Gpu("NVIDIA L4", "10de:27b8", "8.9", 24.0, 72.0, 2040),
        Gpu("NVIDIA GB10", "10de:27b8", "12.1", None, None, 2040),
    )
    assert (found.driver, found.cuda, found.no_gpu_reason) == ("550.54.15", "12.4", "")
    assert nvml.shut_down
    assert "NVIDIA L4, 24.0 GiB, compute capability 8.9, 72 W, 10de:27b8" in str(found.table())


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (None, "nvidia-ml-py is not installed"),
        (FakeNvml(init_error="Driver Not Loaded"), "no NVIDIA driver answers (Driver Not Loaded)"),
        (FakeNvml(gpus=0), "shows no GPU"),
    ],
)
def test_want_of_a_gpu_is_a_reason_and_not_an_error(
    module: FakeNvml | None, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", module)

    found = describe()

    assert found.gpus == ()
    assert reason in found.no_gpu_reason
    assert reason in str(found.table())


def test_lscpu_is_read_flat_and_nested_and_replaced_by_cpuinfo(monkeypatch: pytest.MonkeyPatch) -> None:
    flat = [{"field": "Model name:", "data": "Chip"}, {"field": "Flags:", "data": "fpu avx2 amx_int8"}]
    nested = [{"field": "Vendor ID:", "data": "Maker", "children": flat}]
    for entries in (flat, nested):
        answer = types.SimpleNamespace(stdout=json.dumps({"lscpu": entries}))
        monkeypatch.setattr(system.subprocess, "run", lambda *args, answer=answer, **kwargs: answer)
        cpu = describe().cpu
        assert (cpu.model, cpu.flags) == ("Chip", ("avx2", "amx_int8"))

    def absent(*args: object, **kwargs: object) -> None:
        raise FileNotFoundError("lscpu")

    monkeypatch.setattr(system.subprocess, "run", absent)
    monkeypatch.setattr(
        Path, "read_text", lambda *args, **kwargs: "model name\t: Slow\nflags\t: avx2\n\nmodel name\t: Other\n"
    )
    cpu = describe().cpu
    assert (cpu.model, cpu.flags) == ("Slow", ("avx2",))


def test_free_space_of_a_folder_that_does_not_exist_yet(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "not" / "yet") > 0


def test_only_installed_packages_have_versions() -> None:
    assert set(installed(("numpy", "no-such-distribution"))) == {"numpy"}
