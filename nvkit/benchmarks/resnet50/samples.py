"""The preprocessed sample set: one memory-mapped array in the store, made in parallel and resumable."""

from __future__ import annotations

import json
import math
import os
import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from nvkit.benchmarks.base import DataSet, SampleSet
from nvkit.benchmarks.resnet50.preprocess import (
    DTYPES,
    PREPROCESSING_VERSION,
    BadImage,
    preprocess_image,
)
from nvkit.benchmarks.resnet50.tensors import INPUT, SAMPLE_SHAPE
from nvkit.benchmarks.resnet50.threads import single_threaded_opencv, worker_count
from nvkit.errors import DataError, DiskFullError
from nvkit.progress import tqdm
from nvkit.store import Store, write_json

_ARRAY = "samples.npy"
_SKIPPED = "skipped.json"


def preprocess_samples(settings: Any, store: Store, data: DataSet, *, calibration: bool = False) -> SampleSet:
    """Preprocess the validation or the calibration images of a data set into the store.

    Files that cannot be used are left out if `settings.allow_bad_images` allows that many: row i of the samples is
    then file i of `without(data, samples.skipped)`.

    Raises:
        DataError: more files than allowed cannot be used; it names them.
        DiskFullError: there is no room for the samples.
    """
    files = data.calibration if calibration else data.files
    # Calibration is on float images whatever the network's input is (NVIDIA's harness does the same).
    dtype = "fp32" if calibration else settings.input_dtype
    key = {
        "data": data.digest,
        "part": "calibration" if calibration else "validation",
        "dtype": dtype,
        "preprocessing": PREPROCESSING_VERSION,
        "opencv": cv2.__version__,
    }

    def make(folder: Path) -> None:
        _fill(folder, data.root, files, DTYPES[dtype], settings.allow_bad_images, settings.threads)

    artefact = store.get_or_make("preprocessed", key, make, resumable=True)
    skipped = json.loads((artefact.path / _SKIPPED).read_text(encoding="utf-8"))
    _check_allowed(skipped, len(files), settings.allow_bad_images)
    return SampleSet({INPUT: artefact.path / _ARRAY}, len(files) - len(skipped), artefact.digest, tuple(skipped))


def _fill(
    folder: Path, root: Path, files: Sequence[str], dtype: np.dtype[Any], allowed: int, threads: int | None
) -> None:
    """Write the rows that an interrupted call has not written yet, then keep those of the good files."""
    rows = _Rows(folder, dtype, len(files))
    todo = rows.missing()
    _require_space(folder, len(todo) * rows.row_bytes)
    bad: dict[int, str] = {}
    scratch = threading.local()

    def one(row: int) -> None:
        if not hasattr(scratch, "row"):
            scratch.row = np.empty(SAMPLE_SHAPE, dtype)
        try:
            preprocess_image(root / files[row], scratch.row)
        except BadImage as error:
            bad[row] = str(error)
        else:
            rows.write(row, scratch.row)

    bar = tqdm(total=len(files), initial=len(files) - len(todo), desc="Preprocessing", unit="image")
    with bar, rows, single_threaded_opencv(), ThreadPoolExecutor(worker_count(threads)) as pool:
        try:
            for _ in pool.map(one, todo):
                bar.update()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    skipped = {files[row]: bad[row] for row in sorted(bad)}
    _check_allowed(skipped, len(files), allowed)
    write_json(folder / _SKIPPED, skipped)
    rows.finish(folder / _ARRAY, [row for row in range(len(files)) if row not in bad])


class _Rows:
    """The array while it is made, and which of its rows are written.

    Rows are written to the file and not stored through a memory map: on a full disk that would be a SIGBUS instead
    of an error. What is marked survives the end of this process, not a power cut.
    """

    def __init__(self, folder: Path, dtype: np.dtype[Any], count: int) -> None:
        self.row_bytes = math.prod(SAMPLE_SHAPE) * dtype.itemsize
        self._path, self._marks_path = folder / "rows.npy", folder / "written.bin"
        if not self._path.exists():
            self._marks_path.write_bytes(bytes(count))
        self._start = _open_array(self._path, dtype, count)
        self._count = count

    def __enter__(self) -> _Rows:
        self._array = os.open(self._path, os.O_WRONLY)
        self._marks = os.open(self._marks_path, os.O_WRONLY)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._array)
        os.close(self._marks)

    def missing(self) -> list[int]:
        marks = self._marks_path.read_bytes()
        return [row for row in range(self._count) if not marks[row]]

    def write(self, row: int, values: npt.NDArray[Any]) -> None:
        _write_all(self._array, values, self._start + row * self.row_bytes)
        os.pwrite(self._marks, b"\1", row)

    def finish(self, target: Path, good: Sequence[int]) -> None:
        """Make `target` of the good rows; only then remove what a resumed call would need."""
        if len(good) == self._count:
            os.replace(self._path, target)
        else:
            source = np.load(self._path, mmap_mode="r")
            start = _open_array(target, source.dtype, len(good))
            with target.open("r+b") as stream:
                stream.seek(start)
                for row in good:
                    stream.write(source[row].tobytes())
            self._path.unlink()
        self._marks_path.unlink()


def _open_array(path: Path, dtype: np.dtype[Any], count: int) -> int:
    """Make the .npy file with its header if it is not there; return the offset of its first row."""
    mode = "r+" if path.exists() else "w+"
    array = np.lib.format.open_memmap(path, mode=mode, dtype=dtype, shape=(count, *SAMPLE_SHAPE))
    return int(array.offset)


def _write_all(descriptor: int, buffer: npt.NDArray[Any], offset: int) -> None:
    view = buffer.reshape(-1).view(np.uint8).data
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _require_space(folder: Path, wanted: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise DiskFullError(
            f"The preprocessed samples need {wanted / 1e9:.2f} GB, and {folder} has {free / 1e9:.2f} GB free.",
            "Free some space, choose another place with --outputs, or use fewer images.",
        )


def _check_allowed(skipped: dict[str, str], total: int, allowed: int) -> None:
    if len(skipped) <= allowed:
        return
    first = "; ".join(f"{name} {why}" for name, why in list(skipped.items())[:3])
    raise DataError(
        f"{len(skipped)} of {total} image files cannot be used: {first}{'; ...' if len(skipped) > 3 else ''}.",
        f"Replace them, or set allow_bad_images to {len(skipped)} to leave them out (the score is then not official).",
    )
