"""The card of an engine: what it is, what it needs, and whether this is the machine for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nvkit.engine.tensorrt.device import NoGpu, gpu
from nvkit.engine.tensorrt.flavours import Library
from nvkit.engine.tensorrt.options import max_batch
from nvkit.errors import BackendUnavailableError, ConfigError, EngineBuildError
from nvkit.store import write_json

PLAN = "engine.plan"
_CARD = "engine.json"
_AGAIN = "Run the build stage on this machine."


def write_card(folder: Path, plan: bytes, facts: Mapping[str, Any]) -> None:
    """Write the card of a plan."""
    digest = hashlib.sha256(plan).hexdigest()
    write_json(folder / _CARD, {**facts, "plan": PLAN, "bytes": len(plan), "sha256": digest})


def read_card(folder: Path) -> dict[str, Any]:
    """Read a card.

    Raises:
        EngineBuildError: it is missing or damaged.
    """
    try:
        card: dict[str, Any] = json.loads((folder / _CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _broken(folder, f"{_CARD} cannot be read ({error})") from error
    return card


def check_card(card: Mapping[str, Any], folder: Path, library: Library, settings: Any) -> None:
    """Refuse an engine that is not of this TensorRT or this GPU, is damaged, or is too small for the settings.

    Raises:
        EngineBuildError: it is of another TensorRT or GPU, or its file is damaged.
        BackendUnavailableError: there is no GPU here.
        ConfigError: the settings ask for more than it was built for.
    """
    for key, here in (("backend", library.backend), ("version", library.version)):
        if card.get(key) != here:
            raise _broken(folder, f"it was built with {key} {card.get(key)}, here it is {here}", _AGAIN)
    check_bytes(card, folder)
    if reason := elsewhere(str(card.get("compute_capability")), card.get("gpu")):
        raise BackendUnavailableError(
            f"{folder / PLAN} cannot run here: {reason}.", carry(card.get("compute_capability"))
        )
    if max_batch(settings) > card["max_batch"] or (card["fixed_batch"] and max_batch(settings) != card["max_batch"]):
        raise ConfigError(
            f"batch_size is {max_batch(settings)}, but the engine takes {card['max_batch']}.", "Build it for this size."
        )
    if settings.gpu_copy_streams > card["profiles"] and not card.get("shared_profile"):
        raise ConfigError(
            f"gpu_copy_streams is {settings.gpu_copy_streams}, but the engine has {card['profiles']} profiles.",
            "Build it for this many.",
        )


def check_bytes(card: Mapping[str, Any], folder: Path) -> None:
    """Refuse a plan whose bytes are not those that were built: TensorRT may crash on them.

    Raises:
        EngineBuildError: the file is missing, truncated or altered.
    """
    path = folder / PLAN
    size = path.stat().st_size if path.is_file() else 0
    if size != card.get("bytes"):
        raise _broken(folder, f"it has {size:,} bytes and not {card.get('bytes', 0):,}")
    if hashlib.sha256(path.read_bytes()).hexdigest() != card.get("sha256"):
        raise _broken(folder, "its bytes are not those that were built")


def elsewhere(compute_capability: str, name: str | None = None) -> str | None:
    """Say why an engine for this compute capability (and GPU) cannot run on this machine, or None if it can."""
    try:
        here = gpu()
    except NoGpu as error:
        return f"it is for compute capability {compute_capability}, and {error}"
    if here.compute_capability != compute_capability:
        return (
            f"it is for compute capability {compute_capability}, and the {here.name} here has {here.compute_capability}"
        )
    if name is not None and name != here.name:
        return f"it was built on a {name}, and this is a {here.name}"
    return None


def carry(compute_capability: object) -> str:
    """Say what to do with an engine of another machine."""
    return (
        f"Carry the outputs folder to a machine with a GPU of compute capability {compute_capability} and run there, "
        "or choose the profile of this machine."
    )


def _broken(folder: Path, reason: str, fix: str = "") -> EngineBuildError:
    path = folder / PLAN
    size = f"{path.stat().st_size:,} bytes" if path.is_file() else "missing"
    return EngineBuildError(
        f"{path} ({size}) cannot be used: {reason}.", fix or f"Delete {folder} and run the build stage again."
    )
