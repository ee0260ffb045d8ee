"""A stand-in for nvidia-ml-py that gives the answers recorded in tests/data/nvml/.

A file names NVML's functions with their answers; `{"NVMLError": code}` is an error, and what the file's source does not
show is answered with "Unknown Error". Each file says where its figures come from.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import psutil
import pytest

RECORDED = Path(__file__).parent / "data" / "nvml"
_WORDS = {
    3: "Not Supported",
    4: "Insufficient Permissions",
    6: "Not Found",
    9: "Driver Not Loaded",
    12: "NVML Shared Library Not Found",
    15: "GPU is lost",
    18: "RM has detected an NVML/RM version mismatch.",
    999: "Unknown Error",
}


class NVMLError(Exception):
    """As in nvidia-ml-py: a code, and NVML's words for it."""

    def __init__(self, value: int) -> None:
        super().__init__(value)
        self.value = value

    def __str__(self) -> str:
        return _WORDS[self.value]


class Replay(types.ModuleType):
    """The module `pynvml` of a recorded machine."""

    NVMLError = NVMLError
    NVML_CLOCK_SM = 1

    def __init__(self, recorded: dict[str, Any]) -> None:
        super().__init__("pynvml")
        self.recorded, self.shut_down = recorded, False

    def nvmlInit(self) -> None:  # noqa: N802
        _answer(self.recorded, "nvmlInit", None)

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.shut_down = True

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.recorded["gpus"])

    def nvmlDeviceGetHandleByIndex(self, index: int) -> dict[str, Any]:  # noqa: N802
        return self.recorded["gpus"][index]  # type: ignore[no-any-return]

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: dict[str, Any], index: int) -> dict[str, Any]:  # noqa: N802
        if index >= len(handle["slices"]):
            raise NVMLError(6)
        return handle["slices"][index]  # type: ignore[no-any-return]

    def nvmlDeviceGetPciInfo(self, handle: dict[str, Any]) -> Any:  # noqa: N802
        return types.SimpleNamespace(pciDeviceId=int(_answer(handle, "nvmlDeviceGetPciInfo").pciDeviceId, 16))

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvml"):
            raise AttributeError(name)
        return lambda *arguments: _answer(arguments[0] if arguments else self.recorded, name)


def replay(stem: str, monkeypatch: pytest.MonkeyPatch) -> Replay:
    """Put the machine of tests/data/nvml/<stem>.json in the place of this one."""
    recorded = json.loads((RECORDED / f"{stem}.json").read_text(encoding="utf-8"))
    module = Replay(recorded)
    monkeypatch.setitem(sys.modules, "pynvml", module)
    if ram := recorded.get("ram_bytes"):
        memory = psutil.virtual_memory()._replace(total=ram)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    return module


def _answer(answers: dict[str, Any], name: str, otherwise: Any = {"NVMLError": 999}) -> Any:  # noqa: B006
    answer = answers.get(name, otherwise)
    if isinstance(answer, dict):
        if "NVMLError" in answer:
            raise NVMLError(answer["NVMLError"])
        return types.SimpleNamespace(**answer)
    return answer
