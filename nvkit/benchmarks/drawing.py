"""What generated images are drawn from: textured backgrounds, outlines of shapes, light and noise."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]
Pattern = npt.NDArray[np.intp]

SUBPIXEL_BITS = 4
"""Fractional bits of the coordinates that OpenCV is given."""

_NOISE_SIDE = 1408
"""Side of the tile that noise is cut from: no generated image may be larger."""


def spread_labels(seed: int, split: int, count: int, classes: int) -> list[int]:
    """Return `count` labels spread over all classes: each class once before any comes again."""
    rng = np.random.default_rng([seed, split])
    rounds = [rng.permutation(classes) for _ in range(-(-count // classes))]
    return [int(label) for label in np.concatenate(rounds)[:count]] if rounds else []


def background(rng: np.random.Generator, texture: str, size: tuple[int, int], periods: tuple[float, float]) -> Image:
    """Return a greyish textured picture, RGB.

    Args:
        rng: Chooses tone, contrast and period.
        texture: One of the names of `PATTERNS`.
        size: Height, width.
        periods: Least and greatest period of the texture, as parts of the shorter side.
    """
    tone = rng.uniform(115, 165) + rng.uniform(-10, 10, 3)
    step = rng.uniform(34, 42)
    palette = np.clip([tone - step, tone + step], 0, 255).astype(np.uint8)
    if texture == "plain":
        palette[:] = tone.astype(np.uint8)
    period = max(8, round(min(size) * rng.uniform(*periods)))
    y = np.arange(size[0])[:, None] + int(rng.integers(period))
    x = np.arange(size[1])[None, :] + int(rng.integers(period))
    pattern = np.broadcast_to(PATTERNS[texture](rng, y, x, period), size)
    return np.take(palette, pattern, axis=0)


def _dots(_rng: np.random.Generator, y: Pattern, x: Pattern, p: int) -> Pattern:
    inside = ((2 * (y % p) - p) ** 2 + (2 * (x % p) - p) ** 2) < (0.65 * p) ** 2
    return np.asarray(inside, np.intp)


def _circles(y: Pattern, x: Pattern, width: int) -> Pattern:
    distance: Pattern = np.hypot(y - y.mean(), x - x.mean()).astype(np.intp)
    return distance // width % 2


def _waves(_rng: np.random.Generator, y: Pattern, x: Pattern, p: int) -> Pattern:
    lift: Pattern = (0.45 * p * np.sin(x * (math.pi / p))).astype(np.intp)
    return (y + lift) // (p // 2) % 2


def _mosaic(rng: np.random.Generator, y: Pattern, x: Pattern, p: int) -> Pattern:
    cells = rng.integers(0, 2, (int(y.max()) // p + 1, int(x.max()) // p + 1))
    return cells[y // p, x // p]


PATTERNS: dict[str, Callable[..., Pattern]] = {
    "plain": lambda rng, y, x, p: np.zeros((1, 1), np.intp),
    "stripes": lambda rng, y, x, p: y // (p // 2) % 2,
    "bars": lambda rng, y, x, p: x // (p // 2) % 2,
    "diagonals": lambda rng, y, x, p: (x + y) // (p * 2 // 3) % 2,
    "checks": lambda rng, y, x, p: (x // p + y // p) % 2,
    "dots": _dots,
    "grid": lambda rng, y, x, p: (((x % p) * 5 < p) | ((y % p) * 5 < p)).astype(np.intp),
    "circles": lambda rng, y, x, p: _circles(y, x, p // 2),
    "waves": _waves,
    "mosaic": _mosaic,
    "ripples": lambda rng, y, x, p: _circles(y, x, p),
    "slants": lambda rng, y, x, p: (x - y) // (p * 2 // 3) % 2,
}
"""Name of a texture to the function that paints it: 0 or 1 at rows y and columns x, for a period of p pixels."""


def light(rng: np.random.Generator, picture: Image) -> Image:
    """Light the scene unevenly and add the noise of a sensor."""
    height, width = picture.shape[:2]
    corners = np.repeat(rng.uniform(108, 144, (2, 2, 1)), 3, axis=2).astype(np.uint8)
    lamp = cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR)
    lit = cv2.multiply(picture, lamp, scale=1 / 128)
    tile = _noise_tile()
    top, left = (int(rng.integers(tile.shape[axis] - picture.shape[axis] + 1)) for axis in (0, 1))
    noise = tile[top : top + height, left : left + width]
    strength = rng.uniform(0.1, 0.4)
    return np.asarray(cv2.addWeighted(lit, 1.0, noise, strength, -128 * strength), dtype=np.uint8)


@functools.cache
def _noise_tile() -> Image:
    """Grey noise around 128, larger than any image: drawing it anew for each would take longest of all."""
    noise = np.random.default_rng(0).normal(128, 32, (_NOISE_SIDE, _NOISE_SIDE, 1))
    return np.repeat(np.clip(noise, 0, 255).astype(np.uint8), 3, axis=2)


def _polygon(angles_deg: list[float], radii: list[float]) -> Points:
    angle = np.radians(angles_deg)
    return np.stack([np.array(radii) * np.cos(angle), np.array(radii) * np.sin(angle)], axis=1)


def _round(radius: float) -> Points:
    return _polygon(list(np.linspace(0, 360, 64, endpoint=False)), [radius] * 64)


def _arc(start: float) -> Points:
    angle = np.linspace(start, 2 * math.pi - start, 48)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def contours(shape: str) -> list[Points]:
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
