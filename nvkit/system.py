"""What this machine is: processor, memory, GPUs, driver and the versions that a result depends on.

Records are shared, so nothing here names the host, its user or a path.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from nvkit.gpus import Gpu as Gpu
from nvkit.gpus import ask_driver, gib
from nvkit.tables import Table

PACKAGES = (
    "nvkit",
    "numpy",
    "onnx",
    "onnxruntime",
    "mlcommons-loadgen",
    "opencv-python-headless",
    "pycocotools",
    "tokenizers",
    "papermill",
    "jupyterlab",
    "ipywidgets",
    "nvidia-ml-py",
    "cuda-python",
    "cuda-bindings",
    "tensorrt",
    "tensorrt-cu12",
    "tensorrt-cu13",
    "tensorrt-cu12-bindings",
    "tensorrt-cu13-bindings",
    "tensorrt-rtx",
    "tensorrt-rtx-cu13-bindings",
    "tensorrt-rtx-cu13-libs",
)
"""Distributions whose version a result or a notebook depends on."""

CPU_FLAGS = (
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
)
"""Instruction sets that decide how fast ONNX Runtime multiplies, x86-64 then Arm; names as in lscpu."""


@dataclass(frozen=True)
class Cpu:
    """The processor: `cores` are physical, `threads` logical, `usable` those this process may run on."""

    model: str
    architecture: str
    sockets: int | None
    cores: int | None
    threads: int
    usable: int
    flags: tuple[str, ...]


@dataclass(frozen=True)
class System:
    """This machine and its software.

    Attributes:
        os: Name and version of the distribution.
        ram_gib: Total memory, GiB.
        ram_available_gib: Memory that could be used now, GiB.
        disk_free_gib: Free space of the file system asked about, GiB.
        gpus: In the order of the driver.
        no_gpu_reason: Why `gpus` is empty, in words; empty if it is not.
        driver: Version of the NVIDIA driver.
        cuda: Newest CUDA version that the driver can serve.
        packages: Installed distributions out of `PACKAGES`, with versions.
    """

    python: str
    os: str
    kernel: str
    cpu: Cpu
    ram_gib: float
    ram_available_gib: float
    disk_free_gib: float
    gpus: tuple[Gpu, ...] = ()
    no_gpu_reason: str = ""
    driver: str | None = None
    cuda: str | None = None
    packages: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON-serialisable values, keys as the attributes."""
        return asdict(self)

    def table(self) -> Table:
        """Return one row for each fact."""
        cpu = self.cpu
        cores = f"{cpu.cores or '?'} cores, {cpu.threads} threads" + (
            f", {cpu.usable} usable" if cpu.usable != cpu.threads else ""
        )
        rows: list[tuple[str, str]] = [
            ("Operating system", f"{self.os}, kernel {self.kernel}"),
            ("Python", self.python),
            ("Processor", f"{cpu.model} ({cpu.architecture}), {cores}"),
            ("Instruction sets", ", ".join(cpu.flags) or "none of interest"),
            ("Memory", f"{self.ram_gib:.1f} GiB, {self.ram_available_gib:.1f} GiB available"),
            ("Disk", f"{self.disk_free_gib:.1f} GiB free"),
        ]
        rows += [("GPU", str(gpu)) for gpu in self.gpus] or [("GPU", f"none: {self.no_gpu_reason}")]
        if self.driver:
            rows.append(("NVIDIA driver", f"{self.driver}, CUDA up to {self.cuda or '?'}"))
        rows += [(name, version) for name, version in self.packages.items()]
        return Table(("What", "Found"), rows, title="This machine")


def describe(disk: Path | None = None) -> System:
    """Examine this machine. A part that is absent or does not answer is None or left out, never an error.

    Args:
        disk: A folder, which need not exist yet, on the file system whose free space is wanted; the working
            directory if None.
    """
    memory = psutil.virtual_memory()
    driver = ask_driver()
    return System(
        python=platform.python_version(),
        os=_os_name(),
        kernel=platform.release(),
        cpu=_cpu(),
        ram_gib=gib(memory.total),
        ram_available_gib=gib(memory.available),
        disk_free_gib=gib(free_bytes(disk or Path())),
        gpus=driver.gpus,
        no_gpu_reason=driver.no_gpu_reason,
        driver=driver.version,
        cuda=driver.cuda,
        packages=installed(PACKAGES),
    )


def installed(names: tuple[str, ...]) -> dict[str, str]:
    """Return the versions of those distributions that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def free_bytes(folder: Path) -> int:
    """Return the free space of the file system on which a folder is or would be made."""
    folder = folder.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def _cpu() -> Cpu:
    facts = _lscpu() or _cpuinfo()
    flags = set(facts.get("Flags", "").split())
    sockets = facts.get("Socket(s)", "")
    threads = psutil.cpu_count() or 1
    return Cpu(
        model=facts.get("Model name") or platform.processor() or "unknown",
        architecture=platform.machine(),
        sockets=int(sockets) if sockets.isdigit() else None,
        cores=psutil.cpu_count(logical=False),
        threads=threads,
        usable=usable_cores(),
        flags=tuple(flag for flag in CPU_FLAGS if flag in flags),
    )


def _lscpu() -> dict[str, str]:
    """Return lscpu's fields; it knows the names of Arm processors, which /proc/cpuinfo does not."""
    try:
        done = subprocess.run(
            ["lscpu", "-J"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
            env={**os.environ, "LC_ALL": "C"},
        )
        entries = json.loads(done.stdout)["lscpu"]
    except (OSError, subprocess.SubprocessError, ValueError, KeyError):
        return {}
    facts: dict[str, str] = {}
    while entries:  # some releases of util-linux nest fields under "children"
        entry = entries.pop(0)
        facts.setdefault(entry["field"].rstrip(":"), entry.get("data") or "")
        entries = entry.get("children", []) + entries
    return facts


def _cpuinfo() -> dict[str, str]:
    """Return the fields of the first processor in /proc/cpuinfo, flags under lscpu's name."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    names = {"model name": "Model name", "flags": "Flags", "Features": "Flags"}
    return {names.get(key.strip(), key.strip()): value.strip() for key, _, value in pairs}


def python_path() -> str:
    """Return a PYTHONPATH by which a child process in any working directory finds this nvkit, installed or not."""
    kit = str(Path(__file__).resolve().parents[1])
    return os.pathsep.join(dict.fromkeys([kit, *os.environ.get("PYTHONPATH", "").split(os.pathsep)])).strip(os.pathsep)


def usable_cores() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
