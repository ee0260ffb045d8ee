"""From a `RunConfig` to NVIDIA's own commands and configuration files."""

from nvkit.interop.nvidia.checkout import Checkout, open_checkout
from nvkit.interop.nvidia.commands import RUN_MODES, Command, commands
from nvkit.interop.nvidia.definition import MARKER
from nvkit.interop.nvidia.known import known_system
from nvkit.interop.nvidia.options import left_out
from nvkit.interop.nvidia.system_files import system_files

__all__ = [
    "MARKER",
    "RUN_MODES",
    "Checkout",
    "Command",
    "commands",
    "known_system",
    "left_out",
    "open_checkout",
    "system_files",
]
