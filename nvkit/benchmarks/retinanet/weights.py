"""Weights of the synthetic RetinaNet, whose backbone carries a picture of the image to every level of the pyramid.

Random weights mix everything with everything, and after fifty layers no head finds an object in what is left. So in
every layer of the backbone the first channels, the core, are given: the stem blurs the image into a few mixtures of
colours, of which ReLU keeps what is stronger than in grey, and each stage halves their resolution. Beside the
mixtures it keeps them at the places between two positions, so that half of a position can be told. All other channels
are drawn at random, with the variance that keeps activations at the same magnitude from layer to layer.

Each level of the pyramid holds the core at its own scale. An object therefore looks alike on
every level that fits its size, and heads as narrow as the core, which all levels share, can learn it (see `fit`). In
wider networks the channels of pyramid and heads are repeated, and every weight is split at random between the
repetitions: they compute the same with weights that are as dense as any.

Activations are as those of trained networks are, many zeros and few large values: what entropy calibration expects.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from nvkit.benchmarks.convolutions import Conv, Floats, Parameters
from nvkit.benchmarks.retinanet.network import Block, Head, Topology

CORE_WIDTH = 1 / 16
"""Width of the narrowest network that has the whole core."""

_BLUR, _BESIDE = np.array([0.25, 0.5, 0.25]), np.array([0.0, 0.0, 1.0])
_STEM_WIDTH = 1.5  # of the Gaussian, pixels
_BRANCH, _SHORTCUT = 0.2, 0.7  # keep what is drawn below the core, which would else lose steps of int8 to it
_CONTEXT = 4.0  # how much less of a level comes from the coarser one than from its own stage
_UNEVEN = 0.5  # how much the shares of a split weight differ

# Mixtures of red, green and blue: to the corners of a tetrahedron and away from them.
_CORNERS = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / math.sqrt(3)
_MIXTURES = np.concatenate([_CORNERS, -_CORNERS])

# Of each channel of the core: its mixture, and its filter along y and along x.
_SOURCES = np.array([*range(8), *range(4), *range(4)])
_FILTERS = np.array([np.outer(_BLUR, _BLUR)] * 8 + [np.outer(_BLUR, _BESIDE)] * 4 + [np.outer(_BESIDE, _BLUR)] * 4)


def core_channels(shape: Topology) -> int:
    """Return the number of channels that the core has behind the second stage, and with it the pyramid."""
    return min(len(_SOURCES), shape.outputs[0].outputs)


def backbone_weights(shape: Topology, seed: int) -> Parameters:
    """Return the parameters of the backbone; same seed, same weights."""
    rng = np.random.default_rng(seed)
    core, channels = len(_MIXTURES), core_channels(shape)
    parameters = {shape.stem.name: _drawn(rng, shape.stem)}
    parameters[shape.stem.name][0][:core] = _stem(shape.stem)
    for stage, blocks in enumerate(shape.stages):
        for index, block in enumerate(blocks):
            convs = [*block.convs, *([block.projection] if block.projection else [])]
            parameters |= {conv.name: _drawn(rng, conv) for conv in convs}
            for conv, gain in ((block.convs[2], _BRANCH), (block.projection, _SHORTCUT)):
                if conv:
                    parameters[conv.name][0][:] *= gain
            last, _ = parameters[block.convs[2].name]
            if stage and not index:
                _halve(parameters, block, channels)
            else:  # the shortcut brings the core
                last[: channels if stage else core] = 0
        if not stage and blocks[0].projection:
            _give(parameters[blocks[0].projection.name], np.eye(core))
    return parameters


def pyramid_weights(shape: Topology, seed: int) -> Parameters:
    """Return the parameters of the pyramid: its levels hold the core of the backbone, P6 and P7 continue it."""
    rng = np.random.default_rng([seed, 1])
    channels, width = core_channels(shape), shape.outputs[0].outputs
    parameters: Parameters = {}
    for step, (lateral, output) in enumerate(zip(shape.laterals, shape.outputs, strict=True)):
        share = _CONTEXT**-step
        kernel = np.zeros((width, lateral.inputs, 1, 1), np.float32)
        kernel[np.arange(width), np.arange(width) % channels] = share
        parameters[lateral.name] = kernel, np.zeros(width, np.float32)
        middle = np.zeros((channels, channels, 3, 3))
        middle[:, :, 1, 1] = np.eye(channels) / share
        parameters[output.name] = widened(middle, output, rng), np.zeros(width, np.float32)
    coarser = np.zeros((channels, channels, 3, 3))
    coarser[np.arange(channels), _SOURCES[:channels]] = _FILTERS[:channels]
    for conv in shape.coarser:
        parameters[conv.name] = widened(coarser, conv, rng), np.zeros(width, np.float32)
    return parameters


def differences(channels: int) -> npt.NDArray[np.float64]:
    """Return the matrix that makes differences of what a level of so many channels holds.

    Neighbouring values are much alike, and of a mixture and its opposite one is zero; of their differences a head
    learns faster.
    """
    matrix = np.eye(len(_SOURCES))
    matrix[np.arange(4), np.arange(4) + 4] = -1
    matrix[np.arange(4) + 4, np.arange(4)] = 1
    matrix[np.arange(8, 16), _SOURCES[8:]] = -1
    return matrix[:channels, :channels]


def head_weights(head: Head, layers: Sequence[tuple[Floats, Floats]], seed: int) -> Parameters:
    """Return the parameters of a head that computes what these layers of the core's width compute."""
    rng = np.random.default_rng([seed, 2, head.last.outputs])
    convs = (*head.convs, head.last)
    return {
        conv.name: (widened(kernel, conv, rng), np.resize(bias, conv.outputs))
        for conv, (kernel, bias) in zip(convs, layers, strict=True)
    }


def widened(kernel: npt.NDArray[np.floating], conv: Conv, rng: np.random.Generator) -> Floats:
    """Return a kernel for repeated channels: channel k of a wide layer is channel k modulo the narrow number.

    Args:
        kernel: [outputs, channels, k, k].
        conv: The convolution it is for.
        rng: Splits each weight between the repetitions of its input.
    """
    outputs, inputs = kernel.shape[:2]
    sources = np.arange(conv.inputs) % inputs
    shares = 1 + _UNEVEN * rng.uniform(-1, 1, (conv.outputs, conv.inputs))
    totals = np.stack([shares[:, sources == source].sum(axis=1) for source in range(inputs)], axis=1)
    shares /= totals[:, sources]
    wide = kernel[np.arange(conv.outputs) % outputs][:, sources] * shares[:, :, None, None]
    return np.asarray(wide, np.float32)


def _drawn(rng: np.random.Generator, conv: Conv) -> tuple[Floats, Floats]:
    size = (conv.outputs, conv.inputs // conv.groups, conv.kernel, conv.kernel)
    kernel = rng.standard_normal(size, dtype=np.float32)
    kernel *= math.sqrt(2 / math.prod(size[1:]))
    return kernel, np.zeros(conv.outputs, np.float32)


def _stem(stem: Conv) -> Floats:
    reach = np.arange(stem.kernel) - stem.kernel // 2
    bell = np.exp(-(reach**2) / (2 * _STEM_WIDTH**2))
    bell /= bell.sum()
    return np.asarray(np.einsum("oc,y,x->ocyx", _MIXTURES, bell, bell), np.float32)


def _give(parameters: tuple[Floats, Floats], matrix: npt.NDArray[np.floating]) -> None:
    """Make the first outputs of a 1x1 convolution a matrix times the first inputs."""
    kernel, _ = parameters
    rows, columns = matrix.shape
    kernel[:rows] = 0
    kernel[:rows, :columns, 0, 0] = matrix


def _halve(parameters: Parameters, block: Block, channels: int) -> None:
    """Let a block's branch filter the mixtures at half the resolution, and its shortcut leave them out."""
    _give(parameters[block.convs[0].name], np.eye(len(_MIXTURES))[_SOURCES[:channels]])
    kernel, _ = parameters[block.convs[1].name]
    places = np.arange(channels)
    kernel[:channels] = 0
    kernel[places, places % kernel.shape[1]] = _FILTERS[:channels]  # a group reads as many channels as it makes
    _give(parameters[block.convs[2].name], np.eye(channels))
    assert block.projection
    parameters[block.projection.name][0][:channels] = 0
