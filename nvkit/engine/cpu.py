"""Which CPU this is, and how much of it: engines laid out for one CPU's instructions do not suit another's."""

from __future__ import annotations

import functools
import hashlib
import platform
from pathlib import Path
from typing import Any

from nvkit.system import usable_cores

_CPUINFO = Path("/proc/cpuinfo")


@functools.lru_cache(maxsize=1)
def cpu_identity() -> dict[str, str]:
    """Return the model name and a digest of the instruction-set flags of the first processor."""
    fields: dict[str, str] = {}
    if _CPUINFO.is_file():
        first = _CPUINFO.read_text(encoding="utf-8", errors="replace").split("\n\n", 1)[0]
        fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}
    name = fields.get("model name") or platform.processor() or platform.machine()
    flags = " ".join(sorted((fields.get("flags") or fields.get("Features") or platform.machine()).split()))
    return {"cpu": name, "cpu_flags": hashlib.sha256(flags.encode()).hexdigest()[:16]}


def slots_of(settings: Any) -> int:
    """Return how many batches `settings.slots` asks for: 0 stands for one on each core."""
    return int(settings.slots) or usable_cores()
