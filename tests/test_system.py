from __future__ import annotations

import getpass
import json
import platform
import socket
import sys
import types
from pathlib import Path

import pytest
from nvml_replay import replay
from pydantic import TypeAdapter

from nvkit import system
from nvkit.gpus import MigSlice
from nvkit.system import Gpu, System, describe, free_bytes, installed


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


def test_gpus_and_driver_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = replay("t4", monkeypatch)

    found = describe()

    assert found.gpus == (Gpu("Tesla T4", "10de:1eb8", "7.5", 15.0, 70.0, 1590),)
    assert (found.driver, found.cuda, found.no_gpu_reason) == ("515.105.01", "11.7", "")
    assert nvml.shut_down
    assert "Tesla T4, 15.0 GiB, compute capability 7.5, 70 W, 10de:1eb8" in str(found.table())


def test_what_old_releases_of_nvidia_ml_py_give_as_bytes_is_text(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = replay("t4", monkeypatch)
    nvml.recorded["nvmlSystemGetDriverVersion"] = b"515.105.01"
    nvml.recorded["gpus"][0]["nvmlDeviceGetName"] = b"Tesla T4"

    found = describe()

    assert (found.driver, found.gpus[0].name) == ("515.105.01", "Tesla T4")


def test_unsupported_questions_are_none_and_unified_memory_is_told_from_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replay("gb10", monkeypatch)
    (unified,) = describe().gpus
    assert unified == Gpu("NVIDIA GB10", "10de:2e12", "12.1", None, None, None, unified_memory=True)

    replay("mig_container", monkeypatch)
    (forbidden,) = describe().gpus
    assert (forbidden.memory_gib, forbidden.unified_memory) == (None, False)
    assert forbidden.mig_slices == (MigSlice(1, 16, 9.75),)


def test_mig_slices_are_read_and_survive_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    replay("h200_mig", monkeypatch)
    found = describe()
    (gpu,) = found.gpus

    assert gpu.memory_gib == 140.4
    assert gpu.mig
    assert [part.memory_gib for part in gpu.mig_slices] == [69.75, 69.75, 32.5, 16.0, 16.0]
    assert [part.multiprocessors for part in gpu.mig_slices] == [16, 32, 32, 16, 16]
    assert "MIG: 5 slices" in str(found.table())
    assert TypeAdapter(System).validate_json(json.dumps(found.to_json())) == found

    replay("h200", monkeypatch)
    (whole,) = describe().gpus
    assert (whole.mig, whole.mig_slices) == (False, ())


def test_a_record_from_before_mig_was_asked_for_is_still_read() -> None:
    old = {"name": "NVIDIA L4", "pci_id": "10de:27b8", "compute_capability": "8.9", "memory_gib": 22.49}
    assert TypeAdapter(Gpu).validate_python({**old, "power_limit_w": 72.0, "max_sm_clock_mhz": 2040}).mig_slices == ()


@pytest.mark.parametrize(
    ("recording", "reason"),
    [
        ("no_driver", "no NVIDIA driver answers (Driver Not Loaded)"),
        ("no_library", "no NVIDIA driver answers (NVML Shared Library Not Found)"),
        ("mismatch", "the NVIDIA driver was replaced while the old one was running; restart the machine"),
        ("gpu_lost", "the NVIDIA driver gives an error (GPU is lost)"),
    ],
)
def test_want_of_a_gpu_is_a_reason_and_not_an_error(
    recording: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    replay(recording, monkeypatch)

    found = describe()

    assert found.gpus == ()
    assert reason in found.no_gpu_reason
    assert reason in str(found.table())


def test_want_of_nvidia_ml_py_or_of_a_visible_gpu_is_a_reason_too(monkeypatch: pytest.MonkeyPatch) -> None:
    replay("t4", monkeypatch).recorded["gpus"] = []
    assert "shows no GPU" in describe().no_gpu_reason

    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert "nvidia-ml-py is not installed" in describe().no_gpu_reason


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


def test_the_wheels_of_tensorrt_are_named_with_their_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    here = {"tensorrt": "10.9.0", "tensorrt-rtx-cu13-bindings": "1.7.1", "tensorrt-rtx-cu13-libs": "1.7.1"}

    def version(name: str) -> str:
        if name not in here:
            raise system.metadata.PackageNotFoundError(name)
        return here[name]

    monkeypatch.setattr(system.metadata, "version", version)
    assert describe().packages == here
