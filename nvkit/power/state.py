"""What an interrupted run left behind: limits that it had set and could not put back.

While limits are set, `<outputs>/power/<host>.json` holds those that were there before, and a lock says that the
run is alive. The file without the lock means that the run was killed. Several hosts may share an outputs folder.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from nvkit.errors import ConfigError, SetupError
from nvkit.power import limits
from nvkit.store import write_json


@dataclass(frozen=True)
class LeftOver:
    """A power limit that a killed run left set.

    Attributes:
        gpu: Number of the GPU.
        before_w: The limit before that run, W.
        now_w: The limit now, W; None if the driver does not answer.
    """

    gpu: int
    before_w: float
    now_w: float | None

    @property
    def command(self) -> str:
        """The command that puts the limit back."""
        return limits.limit_command(self.gpu, self.before_w)

    def __str__(self) -> str:
        now = "" if self.now_w is None else f" at {self.now_w:g} W"
        return f"A run that was killed left the power limit of GPU {self.gpu}{now}; before it was {self.before_w:g} W."


def left_over(outputs: Path) -> tuple[LeftOver, ...]:
    """Return the limits that a killed run left set in this outputs folder; those put back since are forgotten.

    While another run is alive there are none: it puts its limits back itself.
    """
    if not _file(outputs).exists():
        return ()
    try:
        with _lock(outputs).acquire(timeout=0):
            return _still_set(outputs)
    except Timeout:
        return ()


@contextmanager
def only_run(outputs: Path) -> Iterator[tuple[LeftOver, ...]]:
    """Keep other runs from setting limits; yield what a killed run left.

    Raises:
        ConfigError: another run is setting limits here now.
    """
    _file(outputs).parent.mkdir(parents=True, exist_ok=True)
    lock = _lock(outputs)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigError(
            "Another nvkit run is setting the power limits of this machine.",
            "Wait until it is finished: two runs at a time would measure each other.",
        ) from None
    try:
        yield _still_set(outputs)
    finally:
        lock.release()


def remember(outputs: Path, before_w: Mapping[int, float]) -> None:
    """Write down limits before they are changed: number of a GPU to W."""
    write_json(_file(outputs), {str(gpu): watts for gpu, watts in before_w.items()})


def forget(outputs: Path) -> None:
    """Remove what was written down: everything is put back."""
    _file(outputs).unlink(missing_ok=True)


def _still_set(outputs: Path) -> tuple[LeftOver, ...]:
    try:
        before = {int(gpu): float(watts) for gpu, watts in json.loads(_file(outputs).read_text("utf-8")).items()}
    except FileNotFoundError:
        return ()
    found = [LeftOver(gpu, watts, _now(gpu)) for gpu, watts in before.items()]
    left = tuple(one for one in found if not limits.same(one.now_w, one.before_w))
    if not left:
        forget(outputs)
    return left


def _now(gpu: int) -> float | None:
    try:
        with limits.session() as nvml:
            return limits.asked_for(nvml, gpu)
    except SetupError:
        return None


def _file(outputs: Path) -> Path:
    return outputs / "power" / f"{platform.node() or 'host'}.json"


def _lock(outputs: Path) -> FileLock:
    return FileLock(_file(outputs).with_suffix(".lock"))
