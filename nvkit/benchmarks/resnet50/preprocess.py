"""Preprocessing of one image, exactly as NVIDIA's submissions do it.

Decode as `cv2.imread` does (EXIF orientation applied, grey-scale widened to three channels), RGB, short side to 256
by area, centre crop of 224, float32, minus the channel means, CHW; int8 clips that to [-128, 127] and truncates.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from nvkit.benchmarks.resnet50.tensors import SIDE

PREPROCESSING_VERSION = 1
"""Changes whenever the same file gives other numbers."""

SHORT_SIDE = int(100.0 * SIDE / 87.5)
MEANS_RGB = (123.68, 116.78, 103.94)
DTYPES: dict[str, np.dtype[Any]] = {"fp32": np.dtype(np.float32), "int8": np.dtype(np.int8)}

_MEANS = tuple(np.float32(mean) for mean in MEANS_RGB)
_PNG = b"\x89PNG\r\n\x1a\n"
_WITHOUT_LENGTH = frozenset([0x01, *range(0xD0, 0xD9)])  # TEM, RST0 to RST7, SOI


class BadImage(Exception):  # noqa: N818 - not an error of the run: the caller counts and reports it
    """A file cannot be used; the text says why."""


def read_image(path: Path) -> npt.NDArray[np.uint8]:
    """Decode an image file to BGR, shape [height, width, 3].

    Raises:
        BadImage: the file is missing, empty, cut short, or not a JPEG or PNG image.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadImage(error.strerror or str(error)) from error
    if why := _damage(data):
        raise BadImage(why)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise BadImage("cannot be decoded") from error
    if image is None:
        raise BadImage("cannot be decoded")
    return image  # type: ignore[return-value]


def preprocess_image(path: Path, row: npt.NDArray[Any]) -> None:
    """Write one preprocessed image into `row`, shape [3, 224, 224], float32 or int8.

    Raises:
        BadImage: see `read_image`.
    """
    image = read_image(path)
    height, width = image.shape[:2]
    if height > width:
        size = (SHORT_SIDE, int(SHORT_SIDE * height / width))
    else:
        size = (int(SHORT_SIDE * width / height), SHORT_SIDE)
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    left, top = (int((side - SIDE) / 2) for side in size)
    crop = image[top : top + SIDE, left : left + SIDE]
    for channel, mean in enumerate(_MEANS):
        values = np.subtract(crop[:, :, 2 - channel], mean, dtype=np.float32)
        if row.dtype == np.int8:
            np.clip(values, -128, 127, out=values)
        row[channel] = values


def _damage(data: bytes) -> str | None:
    """Say what is wrong with an image file, as far as its outer structure shows.

    OpenCV decodes a JPEG that was cut short without a word and fills the rest with grey, so the end marker is looked
    for here. It cannot occur inside of entropy-coded data, and a thumbnail's own lies before the start of scan.
    """
    if not data:
        return "is empty"
    if data.startswith(_PNG):
        return None if b"IEND" in data[-64:] else "is a PNG file that was cut short"
    if not data.startswith(b"\xff\xd8"):
        return "is not a JPEG or PNG image"
    scan = _start_of_scan(data)
    if scan is None:
        return "is a JPEG file without image data"
    return None if data.rfind(b"\xff\xd9", scan) >= 0 else "is a JPEG file that was cut short"


def _start_of_scan(data: bytes) -> int | None:
    """Return the offset of the first start-of-scan marker of a JPEG file, following the lengths of its segments."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte before a marker
            at += 1
        elif marker in _WITHOUT_LENGTH:
            at += 2
        elif marker == 0xDA:
            return at
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None
