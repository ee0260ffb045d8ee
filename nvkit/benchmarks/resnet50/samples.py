"""The preprocessed sample set: one memory-mapped array in the store, made in parallel and resumable."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm.auto import tqdm

from nvkit.benchmarks.base import DataSet, SampleSet
from nvkit.benchmarks.resnet50.preprocess import (
    DTYPES,
    PREPROCESSING_VERSION,
    SAMPLE_SHAPE,
    BadImage,
    preprocess_image,
)
from nvkit.benchmarks.resnet50.threads import single_threaded_opencv, worker_count
from nvkit.errors import DataError, DiskFullError
from nvkit.store import Store, write_json

INPUT = "input_tensor:0"
_ARRAY = "samples.npy"
_DONE = "done.bin"  # one byte for each row: 1 when the row is on disk
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
    """Write the rows that an interrupted call has not written yet, then close the gaps of bad files."""
    header = _open_array(folder / _ARRAY, dtype, len(files))
    row_bytes = int(np.prod(SAMPLE_SHAPE)) * dtype.itemsize
    done = np.memmap(folder / _DONE, np.uint8, "r+" if (folder / _DONE).exists() else "w+", shape=(len(files),))
    todo = np.flatnonzero(done == 0)
    _require_space(folder, len(todo) * row_bytes)
    bad: dict[int, str] = {}
    scratch = threading.local()
    descriptor = os.open(folder / _ARRAY, os.O_RDWR)

    def one(row: int) -> None:
        buffer = getattr(scratch, "row", None)
        if buffer is None:
            buffer = scratch.row = np.empty(SAMPLE_SHAPE, dtype)
        try:
            preprocess_image(root / files[row], buffer)
        except BadImage as error:
            bad[row] = str(error)
            return
        # A plain write and not a store through the map: on a full disk that would be a SIGBUS.
        _write_all(descriptor, buffer, header + row * row_bytes)
        done[row] = 1

    try:
        with single_threaded_opencv(), ThreadPoolExecutor(worker_count(threads)) as pool:
            bar = tqdm(total=len(files), initial=len(files) - len(todo), desc="Preprocessing", unit="image")
            try:
                with bar:
                    for _ in pool.map(one, todo.tolist()):
                        bar.update()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    finally:
        os.close(descriptor)
    skipped = {files[row]: bad[row] for row in sorted(bad)}
    _check_allowed(skipped, len(files), allowed)
    if bad:
        _close_gaps(folder / _ARRAY, sorted(set(range(len(files))) - set(bad)))
    write_json(folder / _SKIPPED, skipped)
    (folder / _DONE).unlink()


def _open_array(path: Path, dtype: np.dtype[Any], count: int) -> int:
    """Make the .npy file with its header if it is not there; return the offset of its first row."""
    mode = "r+" if path.exists() else "w+"
    array = np.lib.format.open_memmap(path, mode=mode, dtype=dtype, shape=(count, *SAMPLE_SHAPE))  # type: ignore[no-untyped-call]
    return int(array.offset)


def _write_all(descriptor: int, buffer: np.ndarray[Any, Any], offset: int) -> None:
    view = memoryview(buffer).cast("B")
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _close_gaps(path: Path, rows: Sequence[int]) -> None:
    """Rewrite the array with only these rows, in a new file, so that an interruption loses nothing."""
    source = np.load(path, mmap_mode="r")
    closed = path.with_suffix(".closed")
    _open_array(closed, source.dtype, len(rows))
    header = int(source.offset)
    with closed.open("r+b") as stream:
        stream.seek(header)
        for row in rows:
            stream.write(source[row].tobytes())
    os.replace(closed, path)


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
        f"Replace them, or set allow_bad_images to {len(skipped)} to leave them out (the score is then not comparable).",
    )
