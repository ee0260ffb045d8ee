"""Clocks and cores of a Jetson Orin: the files in which Linux keeps them, and the commands that write them.

Facts: the nvpmodel template of NVIDIA's code (closed/NVIDIA/code/common/nvpmodel_orin.py of v4.1) for JetPack 5; the
output of nvpmodel on JetPack 6, which moved some of the files. A DLA's and the PVA's controller runs at half their
clock, as there. nvkit only reads these files: writing them needs root.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nvkit.errors import BackendUnavailableError

ROOT = Path("/")
_GPU = "sys/class/devfreq/17000000.*/"
_CPU = "sys/devices/system/cpu"
_HOSTS = ("sys/devices/platform/*.host1x", "sys/devices/platform/bus@0/*.host1x")
_DLA = "{host}/15[8c]*.nvdla?/{cap}/dla?_"
_PVA = "{host}/16000000.pva0/{cap}/pva0_"


@dataclass(frozen=True)
class Clock:
    """A clock limit of the board.

    Attributes:
        what: Its name for people.
        unit: Unit of its files and of its setting.
        patterns: Its files below the root; which of them exist depends on the JetPack.
        share: Its value as a part of the setting's.
    """

    what: str
    unit: str
    patterns: tuple[str, ...]
    share: float = 1

    def files(self) -> tuple[Path, ...]:
        """Return the files that this board has."""
        return tuple(sorted(path for pattern in self.patterns for path in ROOT.glob(pattern)))


def _capped(pattern: str, name: str) -> tuple[str, ...]:
    return tuple(pattern.format(host=host, cap=cap) + name for host in _HOSTS for cap in ("clk_cap", "acm/clk_cap"))


CLOCKS: dict[str, tuple[Clock, ...]] = {
    "soc_gpu_freq": (Clock("highest GPU clock", "Hz", (_GPU + "max_freq",)),),
    "soc_cpu_freq": (Clock("highest CPU clock", "kHz", (f"{_CPU}/cpufreq/policy*/scaling_max_freq",)),),
    "soc_emc_freq": (
        Clock(
            "highest memory clock",
            "Hz",
            ("sys/kernel/nvpmodel_clk_cap/emc", "sys/kernel/nvpmodel_emc_cap/emc_iso_cap"),
        ),
    ),
    "soc_dla_freq": (
        Clock("highest DLA clock", "Hz", _capped(_DLA, "core")),
        Clock("highest DLA controller clock", "Hz", _capped(_DLA, "falcon"), 0.5),
    ),
    "soc_pva_freq": (
        Clock("highest PVA clock", "Hz", _capped(_PVA, "vps")),
        Clock("highest PVA controller clock", "Hz", _capped(_PVA, "cpu_axi"), 0.5),
    ),
}


def require_board() -> None:
    """Raise a BackendUnavailableError unless this machine is a Jetson Orin."""
    if not list(ROOT.glob(_GPU)):
        raise BackendUnavailableError(
            f"This machine is no Jetson Orin: it has no /{_GPU.rstrip('/')}.",
            "Run on the board (in a container, with /sys), or choose the profile of this machine.",
        )


def fastest_gpu_clock() -> int | None:
    """Return the highest GPU clock that the board offers, Hz; None if it does not say."""
    tables = (path.read_text(encoding="ascii") for path in ROOT.glob(_GPU + "available_frequencies"))
    return max((int(clock) for table in tables for clock in table.split()), default=None)


def cores_file() -> Path:
    """Return the file that lists the CPU cores that are on."""
    return ROOT / _CPU / "online"


def cores(file: str = "present") -> int:
    """Return how many CPU cores the board has ("present") or has on ("online")."""
    return len(_numbers((ROOT / _CPU / file).read_text(encoding="ascii")))


def core_commands(wanted: int) -> tuple[str, ...]:
    """Return the commands that leave the first `wanted` cores on and turn the others off; core 0 is always on."""
    return tuple(
        f"echo {int(core < wanted)} | sudo tee /{_CPU}/cpu{core}/online" for core in range(1, max(cores(), wanted))
    )


def write_commands(files: tuple[Path, ...], value: float) -> tuple[str, ...]:
    """Return the commands that write a value to files."""
    return tuple(f"echo {value:.0f} | sudo tee {path}" for path in files)


def value_of(path: Path) -> float | None:
    """Return the number in a file, or how many cores its list has; None if there is none that this user may read."""
    try:
        text = path.read_text(encoding="ascii").strip()
        return len(_numbers(text)) if path == cores_file() else float(text)
    except (OSError, ValueError):
        return None


def _numbers(text: str) -> list[int]:
    """Return the numbers of a list of Linux, such as "0-3,8"."""

    def parts() -> Iterator[range]:
        for first, last in re.findall(r"(\d+)(?:-(\d+))?", text):
            yield range(int(first), int(last or first) + 1)

    return [number for part in parts() for number in part]
