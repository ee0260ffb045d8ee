"""The last layer, fitted: for each sample a softmax over its tokens, which makes the answer's first and last likely.

The loss is convex; Newton's method with conjugate gradients minimises it without the matrix of second derivatives,
both ends side by side. How strongly weights are held down is chosen by the likelihood of questions that were left
out, and how many of their answers are found is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

_LEFT_OUT = 4  # one question in so many
_STRENGTHS = (1000.0, 100.0, 10.0, 1.0, 0.1)  # falling: each starts from what the one before found
_STEPS, _SUBSTEPS = 12, 20
_ENOUGH = 3e-3  # of the gradient's length at zero


@dataclass(frozen=True)
class Fit:
    """A fitted last layer.

    Attributes:
        kernel: [hidden, 2] float32: start, end.
        bias: [2] float32.
        left_out: Share of the questions left out of whose answer both ends were found.
    """

    kernel: Floats
    bias: Floats
    left_out: float


def fit_last_layer(hidden: Sequence[Floats], answers: Sequence[tuple[int, int]]) -> Fit:
    """Fit the last layer.

    Args:
        hidden: What the last layer sees of each sample, [tokens, hidden].
        answers: First and last token of each sample's answer.
    """
    joined = np.concatenate(hidden)
    mean, deviation = joined.mean(axis=0), np.maximum(joined.std(axis=0), 1e-6)
    everything = [((values - mean) / deviation, answer) for values, answer in zip(hidden, answers, strict=True)]
    taught = _Samples([sample for row, sample in enumerate(everything) if row % _LEFT_OUT])
    asked = _Samples(everything[::_LEFT_OUT])
    kernel = np.zeros((joined.shape[1], 2), np.float32)
    found = []
    for strength in _STRENGTHS:
        kernel = taught.fit(strength, kernel)
        found.append((float(asked.loss(kernel).sum()), strength, kernel))
    _, strength, kernel = min(found, key=lambda entry: entry[0])
    share = asked.share_found(kernel)
    kernel = _Samples(everything).fit(strength, kernel) / deviation[:, None]
    return Fit(kernel.astype(np.float32), (-mean @ kernel).astype(np.float32), share)


class _Samples:
    """Samples one after the other, and the loss of a last layer [hidden, 2] on them."""

    def __init__(self, samples: Sequence[tuple[Floats, tuple[int, int]]]) -> None:
        self._values = np.concatenate([values for values, _ in samples])
        self._lengths = np.array([len(values) for values, _ in samples])
        self._starts = np.cumsum(self._lengths) - self._lengths
        self._answers = self._starts[:, None] + np.array([answer for _, answer in samples])

    def loss(self, kernel: Floats) -> Floats:
        """Return the summed negative log-likelihood of the starts and of the ends."""
        logits = self._values @ kernel
        highest = np.maximum.reduceat(logits, self._starts)
        sums = np.add.reduceat(np.exp(logits - self._spread(highest)), self._starts)
        right = np.take_along_axis(logits, self._answers, axis=0)
        return np.asarray((np.log(sums) + highest - right).sum(axis=0))

    def share_found(self, kernel: Floats) -> float:
        """Return the share of samples both of whose ends have the highest logit."""
        split = np.split(self._values @ kernel, self._starts[1:])
        best = self._starts[:, None] + np.array([logits.argmax(axis=0) for logits in split])
        return float((best == self._answers).all(axis=1).mean())

    def fit(self, strength: float, kernel: Floats) -> Floats:
        """Return the kernel that minimises the loss and half of `strength` times its square, starting from `kernel`."""
        target = np.zeros((len(self._values), 2), np.float32)
        np.put_along_axis(target, self._answers, 1.0, axis=0)
        enough = _ENOUGH * np.linalg.norm(self._values.T @ (self._probabilities(np.zeros_like(kernel)) - target))
        for _ in range(_STEPS):
            probabilities = self._probabilities(kernel)
            gradient = self._values.T @ (probabilities - target) + strength * kernel
            if np.linalg.norm(gradient) < enough:
                break
            step = self._newton_step(probabilities, gradient, strength)
            kernel = self._stepped(kernel, step, _dot(gradient, step), strength)
        return kernel

    def _newton_step(self, probabilities: Floats, gradient: Floats, strength: float) -> Floats:
        """Solve for the step against the second derivatives by conjugate gradients."""
        step = np.zeros_like(gradient)
        residual = direction = -gradient
        square = _dot(residual, residual)
        enough = 1e-2 * square
        for _ in range(_SUBSTEPS):
            along = self._values @ direction
            along -= self._spread(np.add.reduceat(probabilities * along, self._starts))
            curved = self._values.T @ (probabilities * along) + strength * direction
            size = _ratio(square, _dot(direction, curved))
            step = step + size * direction
            residual = residual - size * curved
            before, square = square, _dot(residual, residual)
            if (square < enough).all():
                break
            direction = residual + _ratio(square, before) * direction
        return step

    def _stepped(self, kernel: Floats, step: Floats, slope: Floats, strength: float) -> Floats:
        """Go the step, of each end halved until the loss falls as its slope promises."""

        def loss(at: Floats) -> Floats:
            return self.loss(at) + 0.5 * strength * _dot(at, at)

        before, size = loss(kernel), np.ones(2, np.float32)
        for _ in range(8):
            short = loss(kernel + size * step) > before + 1e-4 * size * slope
            if not short.any():
                break
            size = np.where(short, size / 2, size).astype(np.float32)
        return kernel + size * step

    def _probabilities(self, kernel: Floats) -> Floats:
        """Return the softmax over each sample's tokens, [tokens, 2]."""
        logits = self._values @ kernel
        exponents = np.exp(logits - self._spread(np.maximum.reduceat(logits, self._starts)))
        return np.asarray(exponents / self._spread(np.add.reduceat(exponents, self._starts)))

    def _spread(self, of_samples: Floats) -> Floats:
        """Give each token what its sample has."""
        return np.repeat(of_samples, self._lengths, axis=0)


def _dot(a: Floats, b: Floats) -> Floats:
    """Return the scalar product of each column."""
    return np.asarray(np.einsum("ij,ij->j", a, b))


def _ratio(a: Floats, b: Floats) -> Floats:
    return np.asarray(a / np.maximum(b, 1e-30), np.float32)
