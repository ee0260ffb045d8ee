"""Generated photographs: copies of one coloured shape on a textured background.

The 1000 classes are 10 shapes x 10 colours x 10 textures, so that a person recognises the class of an image and
can check a label by eye. Sizes, aspect ratios, position, scale, rotation, light, noise and JPEG quality vary; some
images are grey-scale files, always of a class whose colour survives that (black, white).
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from nvkit.benchmarks.drawing import SUBPIXEL_BITS, Image, Points, background, contours, light

GENERATOR_VERSION = 2
"""Changes whenever the same seed gives other pixels."""

SHAPES = ("disc", "ring", "square", "frame", "triangle", "star", "cross", "crescent", "hourglass", "arrow")
TEXTURES = ("plain", "stripes", "bars", "diagonals", "checks", "dots", "grid", "ripples", "waves", "slants")
COLOURS = {
    "red": (205, 25, 30),
    "orange": (245, 130, 20),
    "yellow": (245, 225, 30),
    "green": (30, 150, 40),
    "cyan": (40, 205, 215),
    "blue": (30, 60, 205),
    "purple": (150, 40, 175),
    "pink": (250, 165, 190),
    "black": (15, 15, 15),
    "white": (245, 245, 245),
}
"""Colour name to RGB. The last two stay recognisable in a grey-scale file; grey would not show on the backgrounds."""
CLASSES = len(SHAPES) * len(COLOURS) * len(TEXTURES)

_NEUTRAL = ("black", "white")
_PERIODS = (0.055, 0.07)  # of a texture, in shorter sides
_PITCH = (0.24, 0.26)  # from copy to copy, in shorter sides: about 64 pixels to the network, twice its stride
_RADIUS = (0.31, 0.35)  # of a copy, in pitches
_ASPECTS = (1.0, 1.0, 4 / 3, 4 / 3, 3 / 2, 3 / 4, 3 / 4, 2 / 3, 16 / 9, 9 / 16, 2.8, 1 / 2.5)


def factors(label: int) -> tuple[int, int, int]:
    """Split a class number (0 to 999) into the numbers of its shape, colour and texture."""
    return label // 100, label // 10 % 10, label % 10


def class_name(label: int) -> str:
    """Say in words what an image of this class shows, e.g. "red star on stripes"."""
    shape, colour, texture = factors(label)
    return f"{list(COLOURS)[colour]} {SHAPES[shape]} on {TEXTURES[texture]}"


def jpeg(label: int, seed: int, split: int, index: int) -> bytes:
    """Return the JPEG file of one image; the same arguments give the same bytes."""
    rng = np.random.default_rng([seed, split, index])
    shape, colour, texture = factors(label)
    colour_name = list(COLOURS)[colour]
    short = int(rng.integers(240, 481))
    aspect = float(rng.choice(_ASPECTS))
    size = (round(short * max(1.0, 1 / aspect)), round(short * max(1.0, aspect)))  # height, width
    picture = background(rng, TEXTURES[texture], size, _PERIODS)
    _draw(rng, picture, contours(SHAPES[shape]), COLOURS[colour_name], short)
    picture = light(rng, picture)
    if colour_name in _NEUTRAL and rng.random() < 0.25:
        picture = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)  # type: ignore[assignment]
    else:
        picture = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)  # type: ignore[assignment]
    quality = int(rng.integers(70, 97))
    _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return encoded.tobytes()


def _draw(
    rng: np.random.Generator, picture: Image, shape: list[Points], colour: tuple[int, int, int], short: int
) -> None:
    """Paint copies of the shape, well apart, over the whole picture."""
    height, width = picture.shape[:2]
    pitch = short * rng.uniform(*_PITCH)
    one = 1 << SUBPIXEL_BITS
    edge = (20, 20, 20) if sum(colour) > 380 else (235, 235, 235)
    rows, columns = (max(1, round(side / pitch)) for side in (height, width))
    for row, column in np.ndindex(rows, columns):
        radius = pitch * rng.uniform(*_RADIUS)
        turn = math.radians(rng.uniform(-8, 8))
        rotate = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
        centre = np.array([(column + 0.5) / columns * width, (row + 0.5) / rows * height])
        centre += pitch * rng.uniform(-0.06, 0.06, 2)
        outlines = [np.round((c @ rotate * radius + centre) * one).astype(np.int32) for c in shape]
        cv2.fillPoly(picture, outlines, colour, cv2.LINE_AA, SUBPIXEL_BITS)
        cv2.polylines(picture, outlines, True, edge, max(1, short // 160), cv2.LINE_AA, SUBPIXEL_BITS)
