"""Which of a release's known systems has this GPU: read from its system list without importing it."""

from __future__ import annotations

import ast
import re

from nvkit.interop.nvidia.checkout import Checkout
from nvkit.interop.nvidia.release import parsed

_SYSTEMS = "code/common/systems"
_DEVICE = re.compile(r"[0-9A-F]{4}")


def known_system(checkout: Checkout, gpu: str, count: int, pci_id: str | None = None) -> str | None:
    """Return the release's own name for `count` GPUs of this kind, e.g. "L4x1", or None.

    A match is necessary, not sufficient: for most systems NVIDIA's code also compares processor and memory.

    Args:
        gpu: Product name as NVML gives it; decides only where the PCI id does not.
        count: GPUs in the machine.
        pci_id: Vendor and device as lspci prints them, e.g. "10de:27b8".
    """
    kinds = _kinds(checkout)
    device = pci_id.partition(":")[2].upper() if pci_id else ""
    plain = gpu.removeprefix("NVIDIA ").lower()
    matching = {kind for kind, (names, devices) in kinds.items() if device and device in devices}
    matching = matching or {
        kind
        for kind, (names, devices) in kinds.items()
        if not (device and devices) and plain in {name.removeprefix("NVIDIA ").lower() for name in names}
    }
    for call in ast.walk(parsed(checkout.root / _SYSTEMS / "system_list.py")):
        if not (isinstance(call, ast.Call) and _name(call.func) == "add_systems" and len(call.args) >= 5):
            continue
        kind = re.match(r"KnownGPU\.(\w+)\.value$", ast.unparse(call.args[3]))
        counts = {node.value for node in ast.walk(call.args[4]) if isinstance(node, ast.Constant)}
        if kind and kind[1] in matching and count in counts and isinstance(call.args[0], ast.Constant):
            return str(call.args[0].value).format(count)
    return None


def _kinds(checkout: Checkout) -> dict[str, tuple[set[str], set[str]]]:
    """Return each member of KnownGPU with its product names and its PCI device ids."""
    kinds = {}
    for node in ast.walk(parsed(checkout.root / _SYSTEMS / "known_hardware.py")):
        if isinstance(node, ast.ClassDef) and node.name == "KnownGPU":
            for member in node.body:
                if isinstance(member, ast.Assign) and isinstance(member.targets[0], ast.Name):
                    texts = {
                        str(part.value)
                        for part in ast.walk(member.value)
                        if isinstance(part, ast.Constant) and isinstance(part.value, str)
                    }
                    devices = {text.upper() for text in texts if _DEVICE.fullmatch(text.upper())}
                    kinds[member.targets[0].id] = (texts - devices, devices)
    return kinds


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""
