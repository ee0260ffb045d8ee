"""The last layer, fitted: ridge regression from pooled features to shape, colour and texture.

The logit of a class is the sum of the logits of its shape, its colour and its texture, so that some hundred images
teach 1000 classes. Everything is chosen by leave-one-out: the strength of the regularisation by squared error, the
scale of the logits by likelihood. The scale is one for all three: each with its own, the easiest part would have so
large logits that int8 could not resolve the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nvkit.benchmarks.resnet50 import images
from nvkit.benchmarks.resnet50.tensors import CLASSES

Matrix = npt.NDArray[np.float64]

_VALUES = 10  # of each factor
_BACKGROUND_BIAS = -15.0  # a little below what the least likely class gets
_STRENGTHS = np.logspace(-4, 2, 25)  # times the mean square of an image's features
_STEPS = 127  # of int8 to each side
_SCALES = np.logspace(-0.5, 2, 51)


@dataclass(frozen=True)
class Fit:
    """A fitted last layer and how well its parts did on the images left out.

    Attributes:
        kernel: [features, 1001] float32, for raw pooled features.
        bias: [1001] float32.
        left_out: Fraction right of "shape", "colour", "texture" and "class", by leave-one-out.
    """

    kernel: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    left_out: dict[str, float]


def fit_last_layer(features: npt.NDArray[np.float32], labels: Sequence[int]) -> Fit:
    """Fit the last layer.

    Args:
        features: Pooled features of the fit images, [n, features].
        labels: Their classes, 0 to 999.
    """
    raw = features.astype(np.float64)
    mean, deviation = raw.mean(axis=0), np.maximum(raw.std(axis=0), 1e-6)
    standard = (raw - mean) / deviation
    targets = np.array([images.factors(label) for label in labels])
    constant = math.sqrt(10 * float(np.square(standard).sum()) / len(raw))  # a feature so large is hardly regularised
    decomposed = np.linalg.svd(np.column_stack([standard, np.full(len(raw), constant)]), full_matrices=False)

    kernels, offsets, scores, right = [], [], [], []
    for column in range(targets.shape[1]):
        weights, left_out = _ridge(*decomposed, np.eye(_VALUES)[targets[:, column]])
        kernels.append(weights[:-1])
        offsets.append(constant * weights[-1])
        scores.append(left_out)
        right.append(left_out.argmax(axis=1) == targets[:, column])
    scale = _scale(scores, targets)
    names = ("shape", "colour", "texture")
    accuracy = {name: float(hits.mean()) for name, hits in zip(names, right, strict=True)}
    accuracy["class"] = float(np.logical_and.reduce(right).mean())

    kernel = np.zeros((raw.shape[1], CLASSES))
    bias = np.full(CLASSES, _BACKGROUND_BIAS)
    for label in range(images.CLASSES):
        parts = list(enumerate(images.factors(label)))
        kernel[:, 1 + label] = scale * sum(kernels[part][:, value] for part, value in parts)
        bias[1 + label] = scale * sum(offsets[part][value] for part, value in parts)
    kernel = _rounded(kernel / deviation[:, None])
    bias[1:] -= (mean @ kernel)[1:]
    return Fit(kernel.astype(np.float32), bias.astype(np.float32), accuracy)


def _rounded(kernel: Matrix) -> Matrix:
    """Round the weights of each class to multiples of a 127th of its largest, so that int8 rounds none of them.

    Features are never negative, so what rounding does to weights adds up to a shift of the class; done before the
    biases are set, they take it up. Over five fits on the images of generator version 1, int8 kept 99.2 % of fp32's
    score with it and 98.9 % without.
    """
    step = np.maximum(np.abs(kernel).max(axis=0), 1e-30) / _STEPS
    return np.asarray(np.round(kernel / step) * step)


def _ridge(left: Matrix, values: Matrix, right: Matrix, wanted: Matrix) -> tuple[Matrix, Matrix]:
    """Return the weights and leave-one-out predictions at the strength whose left-out error is least.

    Args:
        left: With `values` and `right` the singular value decomposition of the features: left diag(values) right.
        values: Singular values.
        right: Right singular vectors, in rows.
        wanted: What to predict, [n, targets].

    The hat matrix is left diag(values^2 / (values^2 + strength)) left', and what the images left out would get follows
    from its diagonal alone.
    """
    rotated, squares = left.T @ wanted, values**2
    best: tuple[float, Matrix, Matrix] | None = None
    for strength in _STRENGTHS * squares.sum() / len(wanted):
        kept = squares / (squares + strength)
        hat = np.einsum("ij,j,ij->i", left, kept, left)
        residual = (wanted - left @ (kept[:, None] * rotated)) / (1.0 - hat)[:, None]
        error = float((residual**2).mean())
        if best is None or error < best[0]:
            weights = right.T @ ((values / (squares + strength))[:, None] * rotated)
            best = (error, weights, wanted - residual)
    assert best is not None
    return best[1], best[2]


def _scale(scores: list[Matrix], targets: npt.NDArray[np.int_]) -> float:
    """Return the factor on all scores that makes the classes of the left-out images most likely.

    The softmax over sums of three logits is the product of three softmaxes, so the log-likelihoods add up.
    """

    def loss(scale: float) -> float:
        total = 0.0
        for part, target in zip(scores, targets.T, strict=True):
            logits = scale * (part - part.max(axis=1, keepdims=True))
            right = logits[np.arange(len(target)), target]
            total += float((np.log(np.exp(logits).sum(axis=1)) - right).mean())
        return total

    return float(min(_SCALES, key=loss))
