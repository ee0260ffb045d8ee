"""A head of RetinaNet, trained in numpy on windows of pyramid levels: four 3x3 convolutions with ReLU, then the last.

Windows are larger than what is asked of them by what the convolutions eat away at their edges. Outside of a level each
convolution reads zeros, as the network's padding gives it.

Every product is a stack of small ones, one for each window: a large one would be spread over all cores by BLAS, whose
threads then wait for each other and for those of the head that is trained beside this one (five times the time).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nvkit.benchmarks.convolutions import Floats

DEPTH = 4
MARGIN = DEPTH + 1
"""Positions that a window has beyond each edge of what comes out."""

_TAPS = 9
_MEMORY, _SQUARE_MEMORY = 0.9, 0.99
_LAST_SCALE = 0.02
_WARM_UP = 50


class TrainedHead:
    """The parameters of a head, and Adam's state beside them.

    Args:
        channels: Of the pyramid and of every layer but the last.
        biases: First ones of the last layer, [outputs].
        rng: Draws the first weights.

    Attributes:
        kernels: Of each layer, [9 x channels, outputs], row by row of the 3x3 window.
        biases: Of each layer.
    """

    def __init__(self, channels: int, biases: npt.NDArray[np.floating], rng: np.random.Generator) -> None:
        size = _TAPS * channels
        deep = [rng.standard_normal((size, channels), np.float32) * np.sqrt(2 / size) for _ in range(DEPTH)]
        last = rng.standard_normal((size, len(biases)), np.float32) * _LAST_SCALE
        self.kernels: list[Floats] = [kernel.astype(np.float32) for kernel in (*deep, last)]
        self.biases: list[Floats] = [*(np.zeros(channels, np.float32) for _ in range(DEPTH)), biases.astype(np.float32)]
        self._moments = [(np.zeros_like(each), np.zeros_like(each)) for each in (*self.kernels, *self.biases)]
        self._steps = 0
        self._inputs: list[Floats] = []
        self._columns: list[Floats] = []

    def forward(self, windows: Floats, inside: npt.NDArray[np.bool_]) -> Floats:
        """Return the outputs, [n, size - 2 MARGIN, size - 2 MARGIN, outputs].

        Args:
            windows: [n, size, size, channels].
            inside: Which positions lie on the level, [n, size, size].
        """
        self._inputs, self._columns = [], []
        at = windows
        for layer, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True)):
            columns = _columns(at)
            self._inputs.append(at)
            self._columns.append(columns)
            at = (columns @ kernel).reshape(len(at), at.shape[1] - 2, at.shape[2] - 2, kernel.shape[1])
            at += bias
            if layer < DEPTH:
                inside = inside[:, 1:-1, 1:-1]
                np.maximum(at, 0, out=at)
                at *= inside[..., None]
        return at

    def learn(self, slope: Floats, rate: float) -> None:
        """Make a step against the slope of the loss by the outputs of the last `forward`."""
        slopes: list[Floats] = []
        biases: list[Floats] = []
        for layer in reversed(range(DEPTH + 1)):
            rows = slope.reshape(len(slope), -1, slope.shape[-1])
            slopes.insert(0, (self._columns[layer].swapaxes(1, 2) @ rows).sum(axis=0))
            biases.insert(0, rows.sum(axis=(0, 1)))
            if layer:
                slope = _gathered(rows @ self.kernels[layer].T, self._inputs[layer].shape)
                slope *= self._inputs[layer] > 0
        self._steps += 1
        correction = np.sqrt(1 - _SQUARE_MEMORY**self._steps) / (1 - _MEMORY**self._steps)
        rate *= min(1.0, self._steps / _WARM_UP) * correction
        known = [*self.kernels, *self.biases]
        for value, each, (mean, square) in zip(known, [*slopes, *biases], self._moments, strict=True):
            mean += (1 - _MEMORY) * (each - mean)
            square += (1 - _SQUARE_MEMORY) * (each**2 - square)
            value -= np.float32(rate) * mean / (np.sqrt(square) + np.float32(1e-8))

    def convolutions(self) -> list[tuple[Floats, Floats]]:
        """Return kernel [outputs, channels, 3, 3] and bias of each layer."""
        channels = len(self.kernels[0]) // _TAPS
        turned = [kernel.reshape(3, 3, channels, -1).transpose(3, 2, 0, 1) for kernel in self.kernels]
        return [(np.ascontiguousarray(kernel), bias) for kernel, bias in zip(turned, self.biases, strict=True)]


def _columns(values: Floats) -> Floats:
    """Return what each position of a 3x3 convolution reads, [n, rows x columns, 9 x channels]."""
    high, wide = values.shape[1] - 2, values.shape[2] - 2
    taps = [values[:, y : y + high, x : x + wide] for y in range(3) for x in range(3)]
    return np.concatenate(taps, axis=3).reshape(len(values), high * wide, _TAPS * values.shape[3])


def _gathered(columns: Floats, shape: tuple[int, ...]) -> Floats:
    """Add up what each value contributed to, the reverse of `_columns`."""
    number, high, wide, channels = shape
    parts = columns.reshape(number, high - 2, wide - 2, _TAPS, channels)
    values = np.zeros(shape, np.float32)
    for tap in range(_TAPS):
        y, x = divmod(tap, 3)
        values[:, y : y + high - 2, x : x + wide - 2] += parts[:, :, :, tap]
    return values
