"""What the checkout is, and whether it knows this machine; if not, nvkit tells it."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterable
from pathlib import Path

from nvkit.config import RunConfig
from nvkit.errors import ConfigError, ExecutionError, SetupError
from nvkit.interop.nvidia.checkout import Checkout, open_checkout
from nvkit.interop.nvidia.commands import Command
from nvkit.interop.nvidia.execute import execute
from nvkit.interop.nvidia.known import known_system
from nvkit.interop.nvidia.system_files import MARKER, system_files
from nvkit.store import digest_of, file_digest, write_text
from nvkit.system import System

_CODE = ("Makefile*", "code/**/*", "configs/**/*", "scripts/**/*")
_NOT_CODE = frozenset({".pyc", ".cache"})
_OWN = frozenset({"custom", "custom_list"})
_ASK = "scripts/get_system_id.py"
"""The release's own script (v2.1 to v4.1 at least); it prints a member of KnownSystem, or None."""
_ANSWER = re.compile(r"^(KnownSystem\.\w+|None)\r?$", re.MULTILINE)
_UNKNOWN = "None"


def checkout_of(config: RunConfig) -> Checkout:
    """Open the checkout that the configuration names.

    Raises:
        ConfigError: none is named, it is not one of this round, or the profile is no GPU.
    """
    if config.device.kind != "gpu":
        raise ConfigError(
            f"NVIDIA's own code does not run on profile {config.profile}, which is no GPU.",
            "Choose a GPU profile with --profile, or leave --implementation out.",
        )
    path = config.shared.nvidia_code
    if path is None:
        raise ConfigError(
            "--implementation nvidia-original needs NVIDIA's code.",
            f"Clone mlcommons/inference_results_{config.round} and give its path with --nvidia-code.",
        )
    return open_checkout(path, config.round)


def code_digest(checkout: Checkout) -> str:
    """Return a digest over the release's code and configuration as they lie there, edits included.

    What nvkit itself writes and what a calibration writes do not count.
    """
    files = {path for pattern in _CODE for path in checkout.root.glob(pattern) if path.is_file()}
    return _digest(checkout, [path for path in files if path.suffix not in _NOT_CODE and not _is_own(path)])


def cache_digest(checkout: Checkout) -> str:
    """Return a digest over the calibration caches, the user's or a calibration's own among them."""
    return _digest(checkout, checkout.root.glob("code/**/*.cache"))


def commit(checkout: Checkout) -> str:
    """Return the commit that is checked out, or an empty string where git cannot tell."""
    ask = ["git", "-C", str(checkout.root), "rev-parse", "HEAD"]
    try:
        return subprocess.run(ask, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def identify(config: RunConfig, checkout: Checkout, machine: System, console: Path) -> tuple[str, dict[str, str]]:
    """Ask the release what this machine is; if it does not know, write its definition and ask again.

    Args:
        config: The configuration, whose profile the definition is written from.
        checkout: The checkout.
        machine: This machine.
        console: Where the output goes.

    Returns:
        What the release calls this machine, and the digest of each file that nvkit has written into the checkout.

    Raises:
        SetupError: it does not know this machine even then.
        ConfigError: a file of somebody else stands where nvkit's would, or there is no value that it must hold.
        ExecutionError: the question cannot be asked.
    """
    name = f"nvkit_{config.profile}"
    known = _ask(config, checkout, machine, console)
    if known != _UNKNOWN and known.rpartition(".")[2] != name:
        return known, {}
    # Also where an earlier run of nvkit made it known: this one may be of another benchmark or of other values.
    files = system_files(config, checkout, name, machine=machine)
    for path, text in files.items():
        write_text(checkout.root / path, text)
    if _can_be_asked(checkout) and _ask(config, checkout, machine, console) == _UNKNOWN:
        raise SetupError(
            f"NVIDIA's code of {checkout.round} does not know this machine, not even by the definition that nvkit "
            f"wrote for profile {config.profile}.",
            f"Is this the GPU of that profile ('nvkit doctor' says which it is)? {console} has what was said.",
        )
    return name, {str(path): file_digest(checkout.root / path) for path in files}


def _digest(checkout: Checkout, files: Iterable[Path]) -> str:
    return digest_of([(str(path.relative_to(checkout.root)), file_digest(path)) for path in sorted(files)])


def _is_own(path: Path) -> bool:
    return path.stem in _OWN and MARKER in path.read_text(encoding="utf-8", errors="replace")


def _can_be_asked(checkout: Checkout) -> bool:
    return (checkout.root / _ASK).is_file()


def _ask(config: RunConfig, checkout: Checkout, machine: System, console: Path) -> str:
    """Return the release's name for this machine, or "None", as its script prints it.

    A release without the script is read instead, which cannot tell whether it also accepts processor and memory.
    """
    if not _can_be_asked(checkout):
        gpus, device = machine.gpus, config.device
        name, pci_id = (gpus[0].name, gpus[0].pci_id) if gpus else (device.names[0], next(iter(device.pci_ids), None))
        return known_system(checkout, name, max(1, len(gpus)), pci_id) or _UNKNOWN
    line, container = f"python3 -m {_ASK.removesuffix('.py').replace('/', '.')}", config.shared.nvidia_command
    line = container.replace("{}", shlex.quote(line)) if container else line
    question = Command(line, checkout.root, {}, None, None, None, "asking NVIDIA's code what this machine is")
    start = console.stat().st_size if console.exists() else 0
    execute(question, console)
    with console.open("rb") as stream:
        stream.seek(start)
        answers = _ANSWER.findall(stream.read().decode("utf-8", errors="replace"))
    if not answers:
        raise ExecutionError(f"{_ASK} of NVIDIA's code did not say what this machine is.", f"See {console}.")
    return str(answers[-1])
