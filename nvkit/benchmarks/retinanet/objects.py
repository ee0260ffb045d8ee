"""Generated photographs: objects of many sizes, well apart, on a textured background.

The 264 classes are 6 shapes x 11 colours x 4 cores, so that a person recognises the class of an object and can check
a label by eye. An object fills its box exactly. Sizes and places are chosen in the frame that the network sees, the
image stretched to a square, so that the objects spread over the levels of its pyramid whatever the image's aspect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from nvkit.benchmarks.drawing import SUBPIXEL_BITS, Image, Points, background, contours, light
from nvkit.benchmarks.retinanet.tensors import CLASSES, SIDE

GENERATOR_VERSION = 1
"""Changes whenever the same seed gives other pixels or boxes."""

SHAPES = ("disc", "square", "triangle", "star", "cross", "hourglass")
TEXTURES = ("plain", "stripes", "bars", "diagonals", "checks", "dots", "grid", "circles", "waves", "mosaic")
COLOURS = {
    "red": (205, 25, 30),
    "orange": (245, 130, 20),
    "yellow": (245, 225, 30),
    "lime": (140, 230, 40),
    "green": (25, 125, 40),
    "cyan": (40, 205, 215),
    "blue": (30, 60, 205),
    "purple": (105, 30, 165),
    "magenta": (225, 40, 190),
    "pink": (250, 165, 190),
    "brown": (105, 60, 25),
}
"""Colour name to RGB."""
CORES = {"no": None, "white": (250, 250, 250), "grey": (130, 130, 130), "black": (10, 10, 10)}
"""What an object has in its middle: nothing, or a disc of this RGB."""

OBJECTS = (3, 9)
"""Objects in an image, at least and at most; fewer where they find no room."""
SIZES = (40.0, 400.0)
"""Root of an object's area in pixels of the network's frame, least and greatest; any factor is as likely."""

_PERIODS = (0.08, 0.10)  # of a texture, in shorter sides
_ASPECT = 1.5
_GAP = 8.0  # pixels of the network's frame between two boxes, at least
_TRIES = 30
_LONG_SIDES = (560, 1024)
_ASPECTS = (1.0, 4 / 3, 4 / 3, 3 / 2, 3 / 2, 3 / 4, 2 / 3, 16 / 9, 9 / 16)
_CORE = 0.42  # of the object's width and height
_COARSE = 4  # the background is drawn so much smaller and enlarged, which takes a fraction of the time


@dataclass(frozen=True)
class Drawn:
    """A generated image.

    Attributes:
        jpeg: The file.
        height: Pixels.
        width: Pixels.
        boxes: Left, top, width, height of each object, in pixels.
        labels: Class of each object, 0 to 263.
    """

    jpeg: bytes
    height: int
    width: int
    boxes: tuple[tuple[float, float, float, float], ...]
    labels: tuple[int, ...]


def factors(label: int) -> tuple[int, int, int]:
    """Split a class number (0 to 263) into the numbers of its shape (of 6), colour (of 11) and core (of 4)."""
    return label // (len(COLOURS) * len(CORES)), label // len(CORES) % len(COLOURS), label % len(CORES)


def class_name(label: int) -> str:
    """Say in words what an object of this class is, e.g. "red star, white core"."""
    shape, colour, core = factors(label)
    return f"{list(COLOURS)[colour]} {SHAPES[shape]}, {list(CORES)[core]} core"


CLASS_NAMES = tuple(class_name(label) for label in range(CLASSES))


def draw(labels: Sequence[int], seed: int, split: int, index: int) -> Drawn:
    """Draw an image with objects of some of these classes; the same arguments give the same bytes.

    Args:
        labels: Classes to choose from the front of; at least as many as `OBJECTS` at most.
        seed: Of the data set.
        split: Of the part of the data set.
        index: Of the image.
    """
    rng = np.random.default_rng([seed, split, index])
    long, aspect = int(rng.integers(*_LONG_SIDES, endpoint=True)), float(rng.choice(_ASPECTS))
    height, width = round(long * min(1.0, 1 / aspect)), round(long * min(1.0, aspect))
    coarse = (height // _COARSE, width // _COARSE)
    scene = background(rng, str(rng.choice(TEXTURES)), coarse, _PERIODS)
    picture: Image = cv2.resize(scene, (width, height), interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
    count = int(rng.integers(*OBJECTS, endpoint=True))
    frame = _places(rng, count) * np.array([width, height, width, height]) / SIDE
    for box, label in zip(frame, labels, strict=False):
        _paint(picture, box, label)
    _, encoded = cv2.imencode(
        ".jpg",
        cv2.cvtColor(light(rng, picture), cv2.COLOR_RGB2BGR),
        [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(75, 97))],
    )
    boxes = tuple((float(left), float(top), float(wide), float(high)) for left, top, wide, high in frame.round(3))
    return Drawn(encoded.tobytes(), height, width, boxes, tuple(labels[: len(boxes)]))


def _places(rng: np.random.Generator, count: int) -> Points:
    """Return boxes (left, top, width, height) in the network's frame that keep apart, the largest placed first."""
    least, greatest = np.log(SIZES)
    sizes = np.sort(np.exp(rng.uniform(least, greatest, count)))[::-1]
    boxes: list[Points] = []
    for size in sizes:
        stretch = np.exp(rng.uniform(-0.5, 0.5) * np.log(_ASPECT))
        extent = size * np.array([stretch, 1 / stretch])
        for _ in range(_TRIES):
            corner = rng.random(2) * (SIDE - extent)
            if all(_apart(corner, extent, other) for other in boxes):
                boxes.append(np.concatenate([corner, extent]))
                break
    order = rng.permutation(len(boxes))  # so that the first labels are not always those of the largest
    return np.array(boxes)[order]


def _apart(corner: Points, extent: Points, other: Points) -> bool:
    return bool(((corner > other[:2] + other[2:] + _GAP) | (corner + extent + _GAP < other[:2])).any())


def _paint(picture: Image, box: Points, label: int) -> None:
    shape, colour, core = factors(label)
    tone = list(CORES.values())[core]
    outlines = [_fitted(contour, box) for contour in contours(SHAPES[shape])]
    cv2.fillPoly(picture, outlines, list(COLOURS.values())[colour], cv2.LINE_AA, SUBPIXEL_BITS)
    if tone is not None:
        middle = np.concatenate([box[:2] + box[2:] * (1 - _CORE) / 2, box[2:] * _CORE])
        centre = _fitted(contours("disc")[0], middle)
        cv2.fillPoly(picture, [centre], tone, cv2.LINE_AA, SUBPIXEL_BITS)


def _fitted(contour: Points, box: Points) -> npt.NDArray[np.int32]:
    """Stretch an outline so that it fills a box, in OpenCV's fixed-point coordinates."""
    low, high = contour.min(axis=0), contour.max(axis=0)
    # A box ends at the outer edge of its last pixel, OpenCV's coordinates name the centres of pixels.
    points = (contour - low) / (high - low) * box[2:] + box[:2] - 0.5
    return np.asarray(np.round(points * (1 << SUBPIXEL_BITS)), np.int32)
