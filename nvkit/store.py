"""Content-addressed artefacts on disk: models, data, activation ranges, engines.

An artefact is a folder ``<store>/<kind>/<digest>/`` whose name is the digest of everything that it depends on,
so a stale one cannot be picked up. It appears by one rename when it is complete, and a file lock makes two
processes that want the same artefact build it once.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from nvkit.errors import disk_errors

_CARD = "artefact.json"


def digest_of(value: Any) -> str:
    """Return the SHA-256 (hex) of a JSON-serialisable value in canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 (hex) of a file's bytes."""
    sha = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            sha.update(chunk)
    return sha.hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` only if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with disk_errors(path):
            yield temporary
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically.

    Raises:
        DiskFullError: the file system is full; the file is as it was before.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically, keys in the order given."""
    write_text(path, json.dumps(value, indent=2, default=str) + "\n")


@dataclass(frozen=True)
class Artefact:
    """A finished folder of the store.

    Attributes:
        path: The folder.
        digest: Digest of the key, the name of the folder.
        key: Everything that the artefact depends on.
        created: Seconds since the epoch.
        reused: Whether it was there before this call.
    """

    path: Path
    digest: str
    key: Mapping[str, Any]
    created: float
    reused: bool

    @property
    def age_s(self) -> float:
        """Seconds since the artefact was finished."""
        return max(0.0, time.time() - self.created)

    def origin(self) -> str:
        """Say in words whether it was made now or reused, and how old it is."""
        return f"reused, made {duration(self.age_s)} ago" if self.reused else "made now"


class Store:
    """A folder of artefacts.

    Args:
        root: The folder; made when the first artefact is.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, kind: str, key: Mapping[str, Any]) -> Artefact | None:
        """Return the finished artefact of this key, or None."""
        return self._read(self.root / kind / digest_of(key)[:24])

    def get_or_make(
        self, kind: str, key: Mapping[str, Any], make: Callable[[Path], None], *, resumable: bool = False
    ) -> Artefact:
        """Return the artefact of this key, calling `make(folder)` to fill its folder if it is not there.

        Args:
            kind: First folder below the store, e.g. "models".
            key: JSON-serialisable; everything that the content depends on.
            make: Writes the files. If it raises, no artefact appears.
            resumable: `make` continues what an interrupted call left in its folder, which is otherwise emptied.

        Raises:
            DiskFullError: the file system is full.
        """
        digest = digest_of(key)[:24]
        folder = self.root / kind / digest
        if found := self.find(kind, key):
            return found
        with disk_errors(self.root):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.parent / f".{digest}.lock"):
                if found := self.find(kind, key):
                    return found
                partial = folder.parent / f".{digest}.partial"
                if partial.exists() and not resumable:
                    shutil.rmtree(partial)
                partial.mkdir(exist_ok=True)
                make(partial)
                created = time.time()
                write_json(partial / _CARD, {"kind": kind, "key": dict(key), "created": created})
                if folder.exists():  # a folder without its card is not an artefact
                    shutil.rmtree(folder)
                os.replace(partial, folder)
        return Artefact(folder, digest, dict(key), created, reused=False)

    @staticmethod
    def _read(folder: Path) -> Artefact | None:
        try:
            card = json.loads((folder / _CARD).read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        return Artefact(folder, folder.name, card["key"], card["created"], reused=True)


def duration(seconds: float) -> str:
    """Say a time span in words, e.g. '3 minutes'."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
