"""The last layer, fitted: ridge regression from pooled features to shape, colour and texture.

The logit of a class is the sum of the logits of its shape, its colour and its texture, so that some hundred images
teach 1000 classes. Everything is chosen by leave-one-out: the strength of the regularisation by squared error, the
temperature of the softmax by likelihood.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nvkit.benchmarks.resnet50 import images
from nvkit.benchmarks.resnet50.tensors import CLASSES

Matrix = npt.NDArray[np.float64]

_VALUES = 10  # of each factor
_BACKGROUND_BIAS = -30.0
_STRENGTHS = np.logspace(-4, 2, 25)  # times the mean eigenvalue of the Gram matrix
_TEMPERATURES = np.logspace(-0.5, 2.5, 61)


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
    gram = standard @ standard.T
    intercept = 10 * gram.trace() / len(raw)  # the weight of a constant feature: large, so hardly regularised
    values, vectors = np.linalg.eigh(gram + intercept)

    kernels, offsets, right = [], [], []
    for column in range(targets.shape[1]):
        wanted = np.eye(_VALUES)[targets[:, column]]
        dual, left_out = _ridge(values, vectors, wanted)
        scale = _temperature(left_out, targets[:, column])
        kernels.append(scale * (standard.T @ dual))
        offsets.append(scale * intercept * dual.sum(axis=0))
        right.append(left_out.argmax(axis=1) == targets[:, column])
    names = ("shape", "colour", "texture")
    score = {name: float(hits.mean()) for name, hits in zip(names, right, strict=True)}
    score["class"] = float(np.logical_and.reduce(right).mean())

    kernel = np.zeros((raw.shape[1], CLASSES))
    bias = np.full(CLASSES, _BACKGROUND_BIAS)
    for label in range(images.CLASSES):
        parts = list(enumerate(images.factors(label)))
        kernel[:, 1 + label] = sum(kernels[part][:, value] for part, value in parts)
        bias[1 + label] = sum(offsets[part][value] for part, value in parts)
    kernel /= deviation[:, None]
    bias[1:] -= (mean @ kernel)[1:]
    return Fit(kernel.astype(np.float32), bias.astype(np.float32), score)


def _ridge(values: Matrix, vectors: Matrix, wanted: Matrix) -> tuple[Matrix, Matrix]:
    """Return dual weights and leave-one-out predictions at the strength whose left-out error is least.

    With the Gram matrix V diag(values) V', the hat matrix is V diag(values / (values + strength)) V', and what the
    images left out would get follows from its diagonal alone.
    """
    rotated = vectors.T @ wanted
    best: tuple[float, Matrix, Matrix] | None = None
    for strength in _STRENGTHS * values.mean():
        inverse = 1.0 / (np.maximum(values, 0.0) + strength)
        dual = vectors @ (inverse[:, None] * rotated)
        residual = dual / np.einsum("ij,j,ij->i", vectors, inverse, vectors)[:, None]
        error = float((residual**2).mean())
        if best is None or error < best[0]:
            best = (error, dual, wanted - residual)
    assert best is not None
    return best[1], best[2]


def _temperature(scores: Matrix, target: npt.NDArray[np.int_]) -> float:
    """Return the factor on the scores that makes the softmax of the left-out images most likely."""

    def loss(scale: float) -> float:
        logits = scale * scores
        logits = logits - logits.max(axis=1, keepdims=True)
        right = logits[np.arange(len(target)), target]
        return float((np.log(np.exp(logits).sum(axis=1)) - right).mean())

    return float(min(_TEMPERATURES, key=loss))
