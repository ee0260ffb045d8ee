"""Generated photographs: copies of one coloured shape on a textured background.

The 1000 classes are 10 shapes x 10 colours x 10 textures, so that a person recognises the class of an image and
can check a label by eye. Sizes, aspect ratios, position, scale, rotation, light, noise and JPEG quality vary; some
images are grey-scale files, always of a class whose colour survives that (black, grey, white).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]
Pattern = npt.NDArray[np.intp]

GENERATOR_VERSION = 1
"""Changes whenever the same seed gives other pixels."""

SHAPES = ("disc", "ring", "square", "frame", "triangle", "star", "cross", "crescent", "hourglass", "arrow")
COLOURS = {
    "red": (205, 25, 30),
    "orange": (245, 130, 20),
    "yellow": (245, 225, 30),
    "green": (30, 150, 40),
    "cyan": (40, 205, 215),
    "blue": (30, 60, 205),
    "purple": (150, 40, 175),
    "black": (15, 15, 15),
    "grey": (128, 128, 128),
    "white": (245, 245, 245),
}
"""Colour name to RGB. The last three stay recognisable in a grey-scale file."""
TEXTURES = ("plain", "stripes", "bars", "diagonals", "checks", "dots", "grid", "circles", "waves", "mosaic")
CLASSES = len(SHAPES) * len(COLOURS) * len(TEXTURES)

_NEUTRAL = ("black", "grey", "white")
_ASPECTS = (1.0, 1.0, 4 / 3, 4 / 3, 3 / 2, 3 / 4, 3 / 4, 2 / 3, 16 / 9, 9 / 16, 2.8, 1 / 2.5)
_SUBPIXEL_BITS = 4


def factors(label: int) -> tuple[int, int, int]:
    """Split a class number (0 to 999) into the numbers of its shape, colour and texture."""
    return label // 100, label // 10 % 10, label % 10


def class_name(label: int) -> str:
    """Say in words what an image of this class shows, e.g. "red star on stripes"."""
    shape, colour, texture = factors(label)
    return f"{list(COLOURS)[colour]} {SHAPES[shape]} on {TEXTURES[texture]}"


def labels(seed: int, split: int, count: int) -> list[int]:
    """Return `count` labels spread over all classes: each class once before any comes again."""
    rng = np.random.default_rng([seed, split])
    rounds = [rng.permutation(CLASSES) for _ in range(-(-count // CLASSES))]
    return [int(label) for label in np.concatenate(rounds)[:count]] if rounds else []


def jpeg(label: int, seed: int, split: int, index: int) -> bytes:
    """Return the JPEG file of one image; the same arguments give the same bytes."""
    rng = np.random.default_rng([seed, split, index])
    shape, colour, texture = factors(label)
    colour_name = list(COLOURS)[colour]
    short = int(rng.integers(240, 481))
    aspect = float(rng.choice(_ASPECTS))
    size = (round(short * max(1.0, 1 / aspect)), round(short * max(1.0, aspect)))  # height, width
    picture = _background(rng, TEXTURES[texture], size, short)
    _draw(rng, picture, _contours(SHAPES[shape]), COLOURS[colour_name], short)
    picture = _light(rng, picture)
    if colour_name in _NEUTRAL and rng.random() < 0.25:
        picture = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)  # type: ignore[assignment]
    else:
        picture = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)  # type: ignore[assignment]
    quality = int(rng.integers(70, 97))
    _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return encoded.tobytes()


def _background(rng: np.random.Generator, texture: str, size: tuple[int, int], short: int) -> Array:
    tone = rng.uniform(115, 165) + rng.uniform(-10, 10, 3)
    step = rng.uniform(34, 42)
    palette = np.clip([tone - step, tone + step], 0, 255).astype(np.uint8)
    if texture == "plain":
        palette[:] = tone.astype(np.uint8)
    period = max(8, round(short * rng.uniform(0.08, 0.10)))
    y = np.arange(size[0])[:, None] + int(rng.integers(period))
    x = np.arange(size[1])[None, :] + int(rng.integers(period))
    pattern = np.broadcast_to(_PATTERNS[texture](rng, y, x, period), size)
    return np.take(palette, pattern, axis=0)


def _dots(_rng: np.random.Generator, y: Pattern, x: Pattern, p: int) -> Pattern:
    inside = ((2 * (y % p) - p) ** 2 + (2 * (x % p) - p) ** 2) < (0.65 * p) ** 2
    return np.asarray(inside, np.intp)


def _circles(_rng: np.random.Generator, y: Pattern, x: Pattern, p: int) -> Pattern:
    distance: Pattern = np.hypot(y - y.mean(), x - x.mean()).astype(np.intp)
    return distance // (p // 2) % 2


def _waves(_rng: np.random.Generator, y: Pattern, x: Pattern, p: int) -> Pattern:
    lift: Pattern = (0.45 * p * np.sin(x * (math.pi / p))).astype(np.intp)
    return (y + lift) // (p // 2) % 2


def _mosaic(rng: np.random.Generator, y: Pattern, x: Pattern, p: int) -> Pattern:
    cells = rng.integers(0, 2, (int(y.max()) // p + 1, int(x.max()) // p + 1))
    return cells[y // p, x // p]


_PATTERNS: dict[str, Callable[..., Pattern]] = {
    "plain": lambda rng, y, x, p: np.zeros((1, 1), np.intp),
    "stripes": lambda rng, y, x, p: y // (p // 2) % 2,
    "bars": lambda rng, y, x, p: x // (p // 2) % 2,
    "diagonals": lambda rng, y, x, p: (x + y) // (p * 2 // 3) % 2,
    "checks": lambda rng, y, x, p: (x // p + y // p) % 2,
    "dots": _dots,
    "grid": lambda rng, y, x, p: (((x % p) * 5 < p) | ((y % p) * 5 < p)).astype(np.intp),
    "circles": _circles,
    "waves": _waves,
    "mosaic": _mosaic,
}


def _draw(
    rng: np.random.Generator, picture: Array, contours: list[Points], colour: tuple[int, int, int], short: int
) -> None:
    """Paint copies of the shape, well apart, over the whole picture."""
    height, width = picture.shape[:2]
    pitch = short * rng.uniform(0.31, 0.33)
    one = 1 << _SUBPIXEL_BITS
    edge = (20, 20, 20) if sum(colour) > 380 else (235, 235, 235)
    rows, columns = (max(1, round(side / pitch)) for side in (height, width))
    for row, column in np.ndindex(rows, columns):
        radius = pitch * rng.uniform(0.38, 0.42)
        turn = math.radians(rng.uniform(-8, 8))
        rotate = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
        centre = np.array([(column + 0.5) / columns * width, (row + 0.5) / rows * height])
        centre += pitch * rng.uniform(-0.06, 0.06, 2)
        outlines = [np.round((c @ rotate * radius + centre) * one).astype(np.int32) for c in contours]
        cv2.fillPoly(picture, outlines, colour, cv2.LINE_AA, _SUBPIXEL_BITS)
        cv2.polylines(picture, outlines, True, edge, max(1, short // 160), cv2.LINE_AA, _SUBPIXEL_BITS)


def _light(rng: np.random.Generator, picture: Array) -> Array:
    """Light the scene unevenly and add the noise of a sensor."""
    height, width = picture.shape[:2]
    corners = np.repeat(rng.uniform(108, 144, (2, 2, 1)), 3, axis=2).astype(np.uint8)
    light = cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR)
    lit = cv2.multiply(picture, light, scale=1 / 128)
    tile = _noise_tile()
    top, left = (int(rng.integers(tile.shape[axis] - picture.shape[axis] + 1)) for axis in (0, 1))
    noise = tile[top : top + height, left : left + width]
    strength = rng.uniform(0.1, 0.4)
    return np.asarray(cv2.addWeighted(lit, 1.0, noise, strength, -128 * strength), dtype=np.uint8)


@functools.cache
def _noise_tile() -> Array:
    """Grey noise around 128, larger than any image: drawing it anew for each would take longest of all."""
    side = round(480 * max(max(_ASPECTS), 1 / min(_ASPECTS))) + 64
    noise = np.random.default_rng(0).normal(128, 32, (side, side, 1))
    return np.repeat(np.clip(noise, 0, 255).astype(np.uint8), 3, axis=2)


def _polygon(angles_deg: list[float], radii: list[float]) -> Points:
    angle = np.radians(angles_deg)
    return np.stack([np.array(radii) * np.cos(angle), np.array(radii) * np.sin(angle)], axis=1)


def _round(radius: float) -> Points:
    return _polygon(list(np.linspace(0, 360, 64, endpoint=False)), [radius] * 64)


def _arc(start: float) -> Points:
    angle = np.linspace(start, 2 * math.pi - start, 48)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _contours(shape: str) -> list[Points]:
    """Return the outlines of a shape of radius 1 (x right, y down); even-odd filling makes the holes."""
    box = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    if shape == "disc":
        return [_round(0.95)]
    if shape == "ring":
        return [_round(1.0), _round(0.55)]
    if shape == "square":
        return [0.82 * box]
    if shape == "frame":
        return [0.9 * box, 0.5 * box]
    if shape == "triangle":
        return [_polygon([-90, 30, 150], [1.15] * 3) + np.array([0.0, 0.2])]
    if shape == "star":
        return [_polygon([-90 + 36 * k for k in range(10)], [1.15, 0.48] * 5)]
    if shape == "cross":
        arm = np.array([[-0.3, -1.0], [0.3, -1.0], [0.3, -0.3]])
        quarter = np.array([[0.0, 1.0], [-1.0, 0.0]])
        turns = [arm @ np.linalg.matrix_power(quarter, k) for k in range(4)]
        return [np.concatenate(turns)]
    if shape == "crescent":
        shift = 0.6  # the disc that is bitten off lies this far to the right
        outer = _arc(math.acos(shift / 2))
        inner = _arc(math.acos(-shift / 2))[::-1] + np.array([shift, 0.0])
        return [np.concatenate([outer, inner]) + np.array([0.2, 0.0])]
    if shape == "hourglass":
        return [np.array([[-0.85, -1.0], [0.85, -1.0], [-0.85, 1.0], [0.85, 1.0]])]
    return [np.array([[-1.0, -0.3], [0.1, -0.3], [0.1, -0.85], [1.1, 0.0], [0.1, 0.85], [0.1, 0.3], [-1.0, 0.3]])]
