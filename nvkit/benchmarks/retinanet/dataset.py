"""The data set: the user's OpenImages folder, or a generated one in the same layout.

The layout is that of MLCommons' openimages.py and openimages_calibration.py: annotations/openimages-mlperf.json, the
images below validation/data and those of the calibration set below calibration/data.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from nvkit.benchmarks.base import DataSet
from nvkit.benchmarks.data_files import file_hashes, require_files
from nvkit.benchmarks.retinanet.annotations import read_annotations
from nvkit.errors import DataError
from nvkit.store import Store, digest_of, file_digest

ANNOTATIONS = "annotations/openimages-mlperf.json"
IMAGES = "validation/data"
CALIBRATION_IMAGES = ("calibration/data", "calibration/calibration/data")
"""As openimages_calibration.py makes it, beside the validation set or, as NVIDIA calls it, one folder below."""

OFFICIAL_MD5 = "3732a6ddad485698b42fb7ad60ac49cf"
"""The annotations of MLPerf v2.1, which NVIDIA scores with: later versions of the script write others, which give a
lower mAP (mlcommons/inference issue 1332)."""

_OFFICIAL_CALIBRATION = "openimages_cal_images_list.txt"
_CALIBRATION_COUNT = 500
_LAYOUT = f"the folder must hold {ANNOTATIONS} and the images in {IMAGES}, as MLCommons' openimages.py downloads them"


def find_dataset(settings: Any, store: Store) -> DataSet:
    """Return the data set of `settings.data_dir`, or a generated one; the labels lie in its annotations.

    Raises:
        DataError: the folder, its annotations or its images are not as they must be.
    """
    if settings.data_dir is not None:
        return read_folder(Path(settings.data_dir), store, threads=settings.threads)
    from nvkit.benchmarks.retinanet.generate import CALIBRATION, VALIDATION, generated_folder

    counts = {VALIDATION: settings.generated_images, CALIBRATION: settings.generated_calibration_images}
    folder = generated_folder(store, settings.data_seed, counts, settings.threads).path
    note = f"generated data: {settings.generated_images} drawn images, seed {settings.data_seed}, not OpenImages"
    return dataclasses.replace(read_folder(folder, store, threads=settings.threads), generated=True, notes=(note,))


def read_folder(root: Path, store: Store, *, threads: int | None = None) -> DataSet:
    """Read a folder in the layout of MLPerf's OpenImages; QSL index i is image i of the annotations.

    Args:
        root: The folder.
        store: Where the digests of the files are kept.
        threads: Threads that read files; one for each core if None.

    Raises:
        DataError: see `find_dataset`.
    """
    if not root.is_dir():
        raise DataError(f"There is no data folder {root}.", f"Give the path of an OpenImages folder: {_LAYOUT}.")
    if not (root / ANNOTATIONS).is_file():
        what = f"has no {ANNOTATIONS}" if any(root.iterdir()) else "is empty"
        raise DataError(f"The data folder {root} {what}.", f"Choose or complete the folder: {_LAYOUT}.")
    files = [f"{IMAGES}/{image.file_name}" for image in read_annotations(root / ANNOTATIONS)]
    require_files(root, files, f"Download them with MLCommons' openimages.py, which puts them in {IMAGES}.")
    calibration, notes = _calibration_files(root, files)
    hashes = file_hashes(root, list(dict.fromkeys([*files, *calibration])), store, threads)
    sums = [[[name, hashes[name]] for name in part] for part in (files, calibration)]
    return DataSet(
        root=root,
        generated=False,
        files=tuple(files),
        labels=(),
        calibration=tuple(calibration),
        digest=digest_of([file_digest(root / ANNOTATIONS), *sums]),
        notes=(*_version_notes(root / ANNOTATIONS), *notes),
    )


def _version_notes(annotations: Path) -> list[str]:
    found = hashlib.md5(annotations.read_bytes(), usedforsecurity=False).hexdigest()
    return [] if found == OFFICIAL_MD5 else [f"annotations are not those of MLPerf v2.1: MD5 {found}"]


def _calibration_files(root: Path, files: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the calibration files and the notes that a reader needs about them."""
    folder = next((name for name in CALIBRATION_IMAGES if (root / name).is_dir()), None)
    if folder is None:
        first = list(files[:_CALIBRATION_COUNT])
        return first, [f"calibration set: the first {len(first)} validation images, not MLPerf's list"]
    listed = resources.files(__package__).joinpath(_OFFICIAL_CALIBRATION).read_text(encoding="utf-8").split()
    if all((root / folder / name).is_file() for name in listed):
        return [f"{folder}/{name}" for name in listed], []
    there = sorted(path.name for path in (root / folder).iterdir() if path.suffix == ".jpg")[:_CALIBRATION_COUNT]
    if not there:
        raise DataError(f"{root / folder} has no .jpg files.", "Complete or remove the folder.")
    return [f"{folder}/{name}" for name in there], [f"calibration set: {len(there)} files of {folder}, not MLPerf's"]
