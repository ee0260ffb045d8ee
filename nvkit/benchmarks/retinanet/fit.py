"""The heads, trained on windows of pyramid levels of generated images (see `windows`).

The logit of an anchor and a class is the sum of what the anchor says of an object being there and of what the position
says of its shape, its colour and its core, so that some hundred images teach 264 classes. All nine anchors of a
position decode the same box. Both follow from the last layer's weights alone; the network has no such parts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from nvkit.benchmarks.convolutions import Floats
from nvkit.benchmarks.retinanet import objects
from nvkit.benchmarks.retinanet.anchors import PER_POSITION, anchors
from nvkit.benchmarks.retinanet.head_training import TrainedHead
from nvkit.benchmarks.retinanet.tensors import CLASSES
from nvkit.benchmarks.retinanet.weights import differences
from nvkit.benchmarks.retinanet.windows import UNITS, Annotated, Batch, WindowSampler
from nvkit.progress import tqdm

STEPS = 1200
"""Batches that each head sees: about 25 seconds of a core for each head."""

Layers = list[tuple[Floats, Floats]]
Slope = Callable[[Floats, Batch], Floats]
"""From the outputs of a head to the slope of the loss by them."""

_BATCH = 32
_CLASS_RATE, _BOX_RATE = 6e-3, 1.2e-2
_NOISE = 0.01  # on what a level holds, so that the heads do not come to rest on what int8 loses
_PRIOR_BATCHES = 16
_MEASURED = 16  # images

_FACTORS = np.array([objects.factors(label) for label in range(CLASSES)])
_VALUES = _FACTORS.max(axis=0) + 1  # of shape, colour and core
_FIRST_LOGIT = -8.0
_FACTOR_WEIGHT = 6.0


@dataclass(frozen=True)
class FittedHeads:
    """Kernel [outputs, channels, 3, 3] and bias of each of the five layers of both heads."""

    classification: Layers
    regression: Layers


def fit_heads(images: Sequence[Annotated], channels: int, seed: int, steps: int = STEPS) -> FittedHeads:
    """Train both heads, side by side.

    Args:
        images: To train on.
        channels: Of the pyramid.
        seed: Same seed and images, same weights (on one machine).
        steps: Batches that each head sees.
    """
    turn = _normalising(images, channels)
    sampler = WindowSampler([replace(image, pyramid=[level @ turn.T for level in image.pyramid]) for image in images])
    first = np.concatenate([np.full(PER_POSITION, _FIRST_LOGIT), np.zeros(_VALUES.sum())])
    with tqdm(total=2 * steps, desc="Fitting the heads", unit="batch") as bar, ThreadPoolExecutor(2) as pool:

        def train(number: int, biases: npt.NDArray[np.float64], slope: Slope, rate: float) -> Layers:
            rng = np.random.default_rng([seed, number])
            head = TrainedHead(channels, biases, rng)
            for step in range(steps):
                batch = sampler.draw(rng, _BATCH)
                noise = _NOISE * rng.standard_normal(batch.values.shape, np.float32) @ turn.T
                found = head.forward(batch.values + noise * batch.inside[..., None], batch.inside)
                head.learn(slope(found, batch), rate * (1 + math.cos(math.pi * step / steps)) / 2)
                bar.update()
            return head.convolutions()

        classes = pool.submit(train, 0, first, _class_slope, _CLASS_RATE)
        boxes = pool.submit(train, 1, np.zeros(4), _box_slope, _BOX_RATE)
        classification, regression = classes.result(), boxes.result()
    for head in (classification, regression):
        kernel, bias = head[0]
        head[0] = np.einsum("ocyx,ci->oiyx", kernel, turn).astype(np.float32), bias
    kernel, bias = classification[-1]
    bias[:PER_POSITION] -= _oversampled(sampler, seed)
    return FittedHeads(
        [*classification[:-1], _class_layer(kernel, bias)], [*regression[:-1], _box_layer(*regression[-1])]
    )


def _normalising(images: Sequence[Annotated], channels: int) -> Floats:
    """Return the matrix that makes differences of deviation 1 of what a level holds, [channels, channels].

    It becomes a part of the first layers. Nothing is subtracted, so that the zeros around a level stay zeros.
    """
    turn = differences(channels)
    seen = np.concatenate([level.reshape(-1, channels) for image in images[:_MEASURED] for level in image.pyramid[:3]])
    return np.asarray(turn / (seen @ turn.T).std(axis=0)[:, None], np.float32)


def _oversampled(sampler: WindowSampler, seed: int) -> float:
    """Return by how much the logit of an object is greater in windows than among all anchors of the images.

    Without that correction thousands of pairs of an image would pass the score threshold.
    """
    rng = np.random.default_rng([seed, 2])
    drawn = np.concatenate([sampler.draw(rng, _BATCH).anchors for _ in range(_PRIOR_BATCHES)])
    windows, images = float((drawn == 1).mean()), sampler.share()
    return math.log(windows / (1 - windows)) - math.log(images / (1 - images))


def _class_slope(found: Floats, batch: Batch) -> Floats:
    """Return the slope of the cross entropy of objects and, where one is, of its factors.

    The classes of an anchor being products of factors, the logarithm of the sum of all their odds is the anchor's own
    output plus that of the sum of each factor's.
    """
    parts = np.split(found, np.cumsum([PER_POSITION, *_VALUES[:-1]]), axis=-1)
    shares, totals = zip(*(_softmax(logits) for logits in parts[1:]), strict=True)
    there = batch.anchors == 1
    likely = 1 / (1 + np.exp(-parts[0] - sum(totals)))
    anchors_ = (likely - there) * (batch.anchors >= 0) / max(1, int(there.sum()))
    slopes = [share * anchors_.sum(axis=-1, keepdims=True) for share in shares]
    place = np.nonzero(batch.labels >= 0)
    factors = _FACTORS[batch.labels[place]]
    for factor, (slope, share) in enumerate(zip(slopes, shares, strict=True)):
        wanted = np.eye(_VALUES[factor])[factors[:, factor]]
        slope[place] += _FACTOR_WEIGHT * (share[place] - wanted) / max(1, len(factors))
    return np.concatenate([anchors_, *slopes], axis=-1).astype(np.float32)


def _softmax(logits: Floats) -> tuple[Floats, Floats]:
    """Return the softmax along the last axis, and the logarithm of the sum of exponentials, [..., 1]."""
    top = logits.max(axis=-1, keepdims=True)
    odds = np.exp(logits - top)
    total = odds.sum(axis=-1, keepdims=True)
    return odds / total, np.log(total) + top


def _box_slope(found: Floats, batch: Batch) -> Floats:
    """Return the slope of the distance between boxes, quadratic near zero, of positions weighted by their anchors."""
    weight = (batch.anchors == 1).sum(axis=3, keepdims=True)
    difference = np.clip((found - batch.boxes) / 0.1, -1, 1)
    difference[..., 2:] *= 4
    return np.asarray(difference * weight / max(1, weight.sum()), np.float32)


def _class_layer(kernel: Floats, bias: Floats) -> tuple[Floats, Floats]:
    """Add up anchors and factors to the logits of all pairs of anchor and class."""
    which = np.zeros((CLASSES, int(_VALUES.sum())), np.float32)
    starts = np.cumsum(_VALUES) - _VALUES
    which[np.arange(CLASSES)[:, None], _FACTORS + starts] = 1
    logits = kernel[:PER_POSITION, None] + np.einsum("kf,fcyx->kcyx", which, kernel[PER_POSITION:])
    biases = bias[:PER_POSITION, None] + which @ bias[PER_POSITION:]
    return logits.reshape(-1, *kernel.shape[1:]).astype(np.float32), biases.reshape(-1).astype(np.float32)


def _box_layer(kernel: Floats, bias: Floats) -> tuple[Floats, Floats]:
    """Code the box of a position relative to each of its anchors."""
    cell = anchors()[:PER_POSITION]
    sides = (cell[:, 2:] - cell[:, :2]) / UNITS[0]
    scale = np.concatenate([1 / sides, np.ones_like(sides)], axis=1)
    shift = np.concatenate([np.zeros_like(sides), -np.log(sides)], axis=1)
    kernels = scale[:, :, None, None, None] * kernel
    biases = scale * bias + shift
    return kernels.reshape(-1, *kernel.shape[1:]).astype(np.float32), biases.reshape(-1).astype(np.float32)
