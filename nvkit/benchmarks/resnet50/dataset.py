"""The data set: the user's ImageNet validation folder, or a generated one in the same layout."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from nvkit.benchmarks.base import DataSet
from nvkit.benchmarks.data_files import file_hashes, require_files
from nvkit.errors import DataError
from nvkit.store import Store, digest_of

CLASSES = 1000
_OFFICIAL_CALIBRATION = "cal_image_list_option_1.txt"
_CALIBRATION_COUNT = 500
_LAYOUT = "the folder must hold the JPEG files and val_map.txt, one 'file label' line for each image"


def find_dataset(settings: Any, store: Store) -> DataSet:
    """Return the data set of `settings.data_dir`, or a generated one.

    Raises:
        DataError: the folder, its map or its files are not as they must be.
    """
    if settings.data_dir is not None:
        return read_folder(Path(settings.data_dir), store, threads=settings.threads)
    from nvkit.benchmarks.resnet50.generate import CALIBRATION, VALIDATION, generated_folder

    counts = {VALIDATION: settings.generated_images, CALIBRATION: settings.generated_calibration_images}
    folder = generated_folder(store, settings.data_seed, counts, settings.threads).path
    note = f"generated data: {settings.generated_images} drawn images, seed {settings.data_seed}, not ImageNet"
    data = read_folder(folder, store, official=False, threads=settings.threads)
    return dataclasses.replace(data, generated=True, notes=(note,))


def read_folder(root: Path, store: Store, *, official: bool = True, threads: int | None = None) -> DataSet:
    """Read a folder in the layout of the ImageNet validation set.

    Args:
        root: The folder.
        store: Where the digests of the files are kept.
        official: Calibrate on MLPerf's list when all of its files are there.
        threads: Threads that read files; one for each core if None.

    Raises:
        DataError: see `find_dataset`.
    """
    if not root.is_dir():
        raise DataError(f"There is no data folder {root}.", f"Give the path of an ImageNet folder: {_LAYOUT}.")
    if not (root / "val_map.txt").is_file():
        what = "has no val_map.txt" if any(root.iterdir()) else "is empty"
        raise DataError(f"The data folder {root} {what}.", f"Choose or complete the folder: {_LAYOUT}.")
    entries = read_map(root / "val_map.txt")
    calibration, notes = _calibration_files(root, [name for name, _ in entries], official)
    files = list(dict.fromkeys([*(name for name, _ in entries), *calibration]))
    require_files(root, files, "Put the files there, flat as listed, or remove their lines from the map.")
    hashes = file_hashes(root, files, store, threads)
    identity = [[name, label, hashes[name]] for name, label in entries]
    return DataSet(
        root=root,
        generated=False,
        files=tuple(name for name, _ in entries),
        labels=tuple(label for _, label in entries),
        calibration=tuple(calibration),
        digest=digest_of([identity, [[name, hashes[name]] for name in calibration]]),
        notes=tuple(notes),
    )


def read_map(path: Path) -> list[tuple[str, int]]:
    """Read a map file of "file label" lines.

    Raises:
        DataError: a line is malformed, a label is not 0 to 999, a file is listed twice, or there is no line.
    """
    entries: dict[str, int] = {}
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        name, _, label = line.strip().rpartition(" ")
        if not name or not label.isascii() or not label.isdigit():
            raise DataError(f"{where}: '{line.strip()[:80]}' is not 'file label'.", "Correct that line.")
        if int(label) >= CLASSES:
            raise DataError(f"{where}: label {label} is not 0 to {CLASSES - 1}.", "Number the classes from 0.")
        if name.strip() in entries:
            raise DataError(f"{where}: {name.strip()} is listed a second time.", "Remove one of the lines.")
        entries[name.strip()] = int(label)
    if not entries:
        raise DataError(f"{path} lists no images.", "Write one 'file label' line for each image.")
    return list(entries.items())


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text: {error}.", "Replace the file.") from error


def _calibration_files(root: Path, files: Sequence[str], official: bool) -> tuple[list[str], list[str]]:
    """Return the calibration files and the notes that a reader needs about them."""
    if official:
        listed = resources.files(__package__).joinpath(_OFFICIAL_CALIBRATION).read_text(encoding="utf-8").split()
        if all((root / name).is_file() for name in listed):
            return listed, []
    if (root / "cal_map.txt").is_file():
        return [name for name, _ in read_map(root / "cal_map.txt")], ["calibration set: cal_map.txt of the data folder"]
    first = list(files[:_CALIBRATION_COUNT])
    return first, [f"calibration set: the first {len(first)} images, not MLPerf's list"]
