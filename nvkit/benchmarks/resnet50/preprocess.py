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

from nvkit.benchmarks.image_files import BadImage, read_image_file
from nvkit.benchmarks.resnet50.tensors import SIDE

PREPROCESSING_VERSION = 1
"""Changes whenever the same file gives other numbers."""

SHORT_SIDE = int(100.0 * SIDE / 87.5)
MEANS_RGB = (123.68, 116.78, 103.94)

_MEANS = tuple(np.float32(mean) for mean in MEANS_RGB)


def read_image(path: Path) -> npt.NDArray[np.uint8]:
    """Decode an image file to BGR, shape [height, width, 3].

    Raises:
        BadImage: the file is missing, empty, cut short, or not a JPEG or PNG image.
    """
    data = read_image_file(path)
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
