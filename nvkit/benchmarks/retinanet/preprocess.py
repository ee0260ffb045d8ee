"""Preprocessing of one image, exactly as NVIDIA's submissions do it.

Decode as Pillow does (EXIF orientation ignored, every kind of file converted to RGB), scale to 0..1, subtract the
means and divide by the deviations, then stretch to 800 x 800 by bilinear interpolation between half-pixel centres,
without antialiasing and without regard to the aspect ratio; CHW. int8 clips that to the calibrated range, scales it
to 127 and truncates.

Weights are rounded to float32 where PyTorch's interpolation rounds them: at the far end of a large image the rounding
of a coordinate alone is worth more than 1e-5 of a pixel's value.
"""

from __future__ import annotations

import functools
import io
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from nvkit.benchmarks.image_files import BadImage, read_image_file
from nvkit.benchmarks.retinanet.tensors import INPUT_RANGE, SIDE

PREPROCESSING_VERSION = 1
"""Changes whenever the same file gives other numbers."""

MEANS_RGB = (0.485, 0.456, 0.406)
DEVIATIONS_RGB = (0.229, 0.224, 0.225)

Floats = npt.NDArray[np.float32]


def read_image(path: Path) -> npt.NDArray[np.uint8]:
    """Decode an image file to RGB, shape [height, width, 3].

    Raises:
        BadImage: the file is missing, empty, cut short, or not a JPEG or PNG image.
    """
    data = read_image_file(path)
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise BadImage(f"cannot be decoded ({error})") from error


def preprocess_image(path: Path, row: npt.NDArray[Any]) -> None:
    """Write one preprocessed image into `row`, shape [3, 800, 800], float32 or int8.

    Raises:
        BadImage: see `read_image`.
    """
    planes = cv2.split(read_image(path))
    scratch = _scratch(planes[0].shape[0])
    for channel, values in enumerate(_normalised()):
        target = row[channel] if row.dtype == np.float32 else scratch.result
        _stretch(np.asarray(cv2.LUT(planes[channel], values)), scratch, target)
        if row.dtype == np.int8:
            np.clip(target, -INPUT_RANGE, INPUT_RANGE, out=target)
            target /= np.float32(INPUT_RANGE)
            target *= np.float32(127.0)
            row[channel] = target


@dataclass(frozen=True)
class _Scratch:
    """Arrays that a thread uses for image after image: the system takes longer to hand out new ones than to fill them.

    Attributes:
        near: [height of the image or more, 800].
        far: As `near`.
        below: [800, 800].
        result: [800, 800].
    """

    near: Floats
    far: Floats
    below: Floats
    result: Floats


_threads = threading.local()


def _scratch(height: int) -> _Scratch:
    """Return the arrays of this thread, grown to this height."""
    mine: _Scratch | None = getattr(_threads, "scratch", None)
    if mine is None or len(mine.near) < height:
        rows = max(height, 1024)
        mine = _Scratch(*(np.empty((count, SIDE), np.float32) for count in (rows, rows, SIDE, SIDE)))
        _threads.scratch = mine
    return mine


def _stretch(plane: Floats, scratch: _Scratch, result: Floats) -> None:
    """Interpolate a plane to 800 x 800, along its rows first as PyTorch does."""
    height, width = plane.shape
    left, right, weight_left, weight_right = _neighbours(width)
    top, bottom, weight_top, weight_bottom = _neighbours(height)
    near, far = scratch.near[:height], scratch.far[:height]
    _weighted(plane, left, 1, weight_left, near)
    _weighted(plane, right, 1, weight_right, far)
    near += far
    _weighted(near, top, 0, weight_top[:, None], result)
    _weighted(near, bottom, 0, weight_bottom[:, None], scratch.below)
    result += scratch.below


def _weighted(source: Floats, places: npt.NDArray[np.intp], axis: int, weights: Floats, target: Floats) -> None:
    np.take(source, places, axis=axis, out=target, mode="clip")  # no place lies outside; "raise" would take a copy
    target *= weights


@functools.lru_cache(maxsize=4096)
def _neighbours(length: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Floats, Floats]:
    """Return for each of the 800 places of an axis its two source pixels and their weights."""
    scale = np.float32(length) / np.float32(SIDE)
    exact = np.float64(scale) * (np.arange(SIDE) + 0.5) - 0.5  # rounded once, as by a fused multiply-add
    place = np.maximum(exact.astype(np.float32), np.float32(0))
    first = np.minimum(place.astype(np.intp), length - 1)
    weight = np.clip(place - first.astype(np.float32), np.float32(0), np.float32(1))
    return first, np.minimum(first + 1, length - 1), np.float32(1) - weight, weight


@functools.cache
def _normalised() -> Floats:
    """Return what each value of a byte becomes, float32 [channel, 256]."""
    values = np.arange(256, dtype=np.float32) / np.float32(255)
    means, deviations = (np.array(constants, np.float32)[:, None] for constants in (MEANS_RGB, DEVIATIONS_RGB))
    return np.asarray((values - means) / deviations, dtype=np.float32)
