"""What data sets of one file for each sample have in common: their files, digests, and what is left out of them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nvkit.benchmarks.base import DataSet
from nvkit.benchmarks.threads import worker_count
from nvkit.errors import DataError
from nvkit.progress import tqdm
from nvkit.store import Store, file_digest, write_json


def require_files(root: Path, files: Sequence[str], fix: str) -> None:
    """Make sure that all of these files are there.

    Args:
        root: The folder.
        files: Names relative to it.
        fix: What the user does about missing ones.

    Raises:
        DataError: some are missing; it names the first three.
    """
    missing = [name for name in files if not (root / name).is_file()]
    if missing:
        names = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise DataError(f"{len(missing)} of {len(files)} listed image files are not in {root}: {names}.", fix)


def file_hashes(root: Path, files: Sequence[str], store: Store, threads: int | None) -> dict[str, str]:
    """Return the SHA-256 of each file; "unreadable" where it cannot be read, which preprocessing reports.

    The digests are kept in the store under the names, sizes and modification times of the files, so that tens of
    thousands of images are read for them only once.

    Args:
        root: The folder.
        files: Names relative to it.
        store: Where the digests are kept.
        threads: Threads that read files; one for each core if None.
    """
    stats = [(root / name).stat() for name in files]
    listing = hashlib.sha256()
    for name, stat in zip(files, stats, strict=True):
        listing.update(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())

    def make(folder: Path) -> None:
        with ThreadPoolExecutor(worker_count(threads)) as pool:
            work = pool.map(lambda name: _hash(root / name), files)
            bar = tqdm(work, total=len(files), desc="Reading data set", unit="file", disable=len(files) < 1000)
            write_json(folder / "sha256.json", dict(zip(files, bar, strict=True)))

    artefact = store.get_or_make("digests", {"root": str(root.resolve()), "files": listing.hexdigest()}, make)
    hashes: dict[str, str] = json.loads((artefact.path / "sha256.json").read_text(encoding="utf-8"))
    return hashes


def without(data: DataSet, skipped: Iterable[str]) -> DataSet:
    """Return the data set without these files: QSL index i is then row i of a sample set that skipped them."""
    gone = frozenset(skipped)
    if not gone:
        return data
    kept = [row for row, name in enumerate(data.files) if name not in gone]
    labels = tuple(data.labels[row] for row in kept) if data.labels else ()
    return dataclasses.replace(data, files=tuple(data.files[row] for row in kept), labels=labels)


def _hash(path: Path) -> str:
    try:
        return file_digest(path)
    except OSError:
        return "unreadable"
