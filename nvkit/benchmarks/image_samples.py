"""Preprocessed sample files: one memory-mapped array in the store, made in parallel and resumable."""

from __future__ import annotations

import json
import math
import os
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nvkit.benchmarks.base import DataSet, SampleSet
from nvkit.benchmarks.image_files import BadImage
from nvkit.benchmarks.threads import single_threaded_opencv, worker_count
from nvkit.errors import DataError, DiskFullError
from nvkit.progress import tqdm
from nvkit.store import Store, write_json

_DTYPES: dict[str, np.dtype[Any]] = {"fp32": np.dtype(np.float32), "int8": np.dtype(np.int8)}
_ARRAY = "samples.npy"
_SKIPPED = "skipped.json"


@dataclass(frozen=True)
class Preprocessing:
    """How an image file becomes a sample.

    Attributes:
        input: Name of the network's input.
        shape: Shape of one sample.
        write: Writes the sample of a file into a row of this shape, or raises `BadImage`.
        identity: What the numbers depend on: versions of this preprocessing and of the libraries that it calls.
    """

    input: str
    shape: tuple[int, ...]
    write: Callable[[Path, npt.NDArray[Any]], None]
    identity: Mapping[str, Any]


def preprocess_images(
    how: Preprocessing, settings: Any, store: Store, data: DataSet, *, calibration: bool = False
) -> SampleSet:
    """Preprocess the validation or the calibration images of a data set into the store.

    Files that cannot be used are left out if `settings.allow_bad_images` allows that many: row i of the samples is
    then file i of the data set without `samples.skipped`.

    Raises:
        DataError: more files than allowed cannot be used; it names them. Or no sample has `settings.input_dtype`.
        DiskFullError: there is no room for the samples.
    """
    files = data.calibration if calibration else data.files
    # Calibration is on float images whatever the network's input is (NVIDIA's harness does the same).
    dtype = "fp32" if calibration else settings.input_dtype
    if dtype not in _DTYPES:
        raise DataError(f"Images are not preprocessed to {dtype}.", f"Set input_dtype to {' or '.join(_DTYPES)}.")
    part = "calibration" if calibration else "validation"
    key = {"data": data.digest, "part": part, "dtype": dtype, **how.identity}

    def make(folder: Path) -> None:
        _fill(folder, how, data.root, files, _DTYPES[dtype], settings.allow_bad_images, settings.threads)

    artefact = store.get_or_make("preprocessed", key, make, resumable=True)
    skipped = json.loads((artefact.path / _SKIPPED).read_text(encoding="utf-8"))
    _check_allowed(skipped, len(files), settings.allow_bad_images)
    return SampleSet({how.input: artefact.path / _ARRAY}, len(files) - len(skipped), artefact.digest, tuple(skipped))


def _fill(
    folder: Path,
    how: Preprocessing,
    root: Path,
    files: Sequence[str],
    dtype: np.dtype[Any],
    allowed: int,
    threads: int | None,
) -> None:
    """Write the rows that an interrupted call has not written yet, then keep those of the good files."""
    rows = _Rows(folder, dtype, (len(files), *how.shape))
    todo = rows.missing()
    _require_space(folder, len(todo) * rows.row_bytes)
    bad: dict[int, str] = {}
    scratch = threading.local()

    def one(row: int) -> None:
        if not hasattr(scratch, "row"):
            scratch.row = np.empty(how.shape, dtype)
        try:
            how.write(root / files[row], scratch.row)
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

    def __init__(self, folder: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        count = shape[0]
        self.row_bytes = math.prod(shape[1:]) * dtype.itemsize
        self._path, self._marks_path = folder / "rows.npy", folder / "written.bin"
        if not self._path.exists():
            self._marks_path.write_bytes(bytes(count))
        self._start = _open_array(self._path, dtype, shape)
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
            start = _open_array(target, source.dtype, (len(good), *source.shape[1:]))
            with target.open("r+b") as stream:
                stream.seek(start)
                for row in good:
                    stream.write(source[row].tobytes())
            self._path.unlink()
        self._marks_path.unlink()


def _open_array(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    """Make the .npy file with its header if it is not there; return the offset of its first row."""
    mode = "r+" if path.exists() else "w+"
    array = np.lib.format.open_memmap(path, mode=mode, dtype=dtype, shape=shape)
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
