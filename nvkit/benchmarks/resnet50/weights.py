"""Seeded weights for ResNet-50 that keep every activation in a healthy range and keep what an image shows.

Each convolution's output is normalised on a few images, channel by channel, as batch normalisation would after
training, and the normalisation is folded into kernel and bias.

Plain random weights mix everything with everything until all images look alike to the last layer. Three choices
keep them apart: the first layer holds oriented waves of several colours, as trained ones do; a unit reads few
channels strongly; and each stage carries the channels of the stage before it and fills only the others anew.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper

from nvkit.benchmarks.convolutions import Conv, Floats, Parameters, conv_node, finish
from nvkit.benchmarks.resnet50.network import Block, Topology
from nvkit.progress import tqdm

# Standard deviation of a residual branch beside the 1 of a fresh channel, and in channels that are carried on.
_FRESH_SCALE = 0.3
_CARRIED_SCALE = 0.05
_CARRIED_MEAN = 1.0  # so that a ReLU seldom cuts a carried channel
_INPUTS_PER_UNIT = 3.0


def seeded_weights(shape: Topology, images: Floats, seed: int) -> Parameters:
    """Draw and normalise the parameters of every convolution.

    Args:
        shape: The convolutions.
        images: Preprocessed images, [n, 3, 224, 224]; about 16 are enough.
        seed: Same seed and images, same weights (on one machine).
    """
    maker = _Maker(np.random.default_rng(seed))
    with tqdm(total=1 + len(shape.blocks), desc="Seeding weights", unit="block", leave=False) as bar:
        stream = _max_pool(_relu(maker.conv(shape.stem, images, _stem_kernel(maker.rng, shape.stem))))
        carried = 0
        for block in shape.blocks:
            bar.update()
            if block.projection:
                carried = block.projection.inputs
            stream = _residual(maker, block, stream, carried)
        bar.update()
    return maker.parameters


def _residual(maker: _Maker, block: Block, stream: Floats, carried: int) -> Floats:
    shortcut = stream
    if block.projection:
        mean = np.where(np.arange(block.projection.outputs) < carried, _CARRIED_MEAN, 0.0)
        shortcut = maker.conv(block.projection, stream, _carrying_kernel(maker.rng, block.projection), mean=mean)
    first, second, last = block.convs
    branch = _relu(maker.conv(first, stream, _sparse_kernel(maker.rng, first)))
    branch = _relu(maker.conv(second, branch, _sparse_kernel(maker.rng, second)))
    scale = np.where(np.arange(last.outputs) < carried, _CARRIED_SCALE, _FRESH_SCALE)
    branch = maker.conv(last, branch, _dense_kernel(maker.rng, last), scale=scale)
    return _relu(np.add(branch, shortcut, out=branch))


class _Maker:
    """Runs one convolution after the other with onnxruntime and keeps the normalised parameters."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.parameters: Parameters = {}

    def conv(
        self,
        conv: Conv,
        source: Floats,
        kernel: Floats,
        *,
        scale: npt.ArrayLike = 1.0,
        mean: npt.ArrayLike = 0.0,
    ) -> Floats:
        """Add a convolution; return its output on `source`, of this mean and deviation in each channel."""
        output = _run(conv, kernel, source)
        deviation = output.std(axis=(0, 2, 3), dtype=np.float64)
        gain = (scale / np.maximum(deviation, 1e-6)).astype(np.float32)
        bias = (mean - output.mean(axis=(0, 2, 3), dtype=np.float64) * gain).astype(np.float32)
        self.parameters[conv.name] = (kernel * gain[:, None, None, None], bias)
        output *= gain[:, None, None]
        output += bias[:, None, None]
        return output


def _dense_kernel(rng: np.random.Generator, conv: Conv) -> Floats:
    size = (conv.outputs, conv.inputs, conv.kernel, conv.kernel)
    kernel = rng.standard_normal(size, dtype=np.float32)
    kernel /= math.sqrt(math.prod(size[1:]))
    return kernel


def _sparse_kernel(rng: np.random.Generator, conv: Conv) -> Floats:
    """Draw a kernel that reads a few channels strongly: one for certain, others by chance."""
    kernel = _dense_kernel(rng, conv)
    units = np.arange(conv.outputs)
    chosen = rng.random((conv.outputs, conv.inputs)) < _INPUTS_PER_UNIT / conv.inputs
    chosen[units, rng.integers(0, conv.inputs, conv.outputs)] = True
    return kernel * chosen[:, :, None, None]


def _carrying_kernel(rng: np.random.Generator, conv: Conv) -> Floats:
    """Draw a projection whose first outputs are its inputs and whose others mix them."""
    kernel = _dense_kernel(rng, conv)
    kernel[: conv.inputs] = np.eye(conv.inputs, dtype=np.float32)[:, :, None, None]
    return kernel


def _stem_kernel(rng: np.random.Generator, stem: Conv) -> Floats:
    """Draw oriented waves of several lengths and colours, the kind of filter that training finds for a first layer."""
    reach = np.arange(stem.kernel) - stem.kernel // 2
    y, x = np.meshgrid(reach, reach, indexing="ij")
    kernels = []
    for _ in range(stem.outputs):
        angle, phase, length = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi), rng.uniform(4, 14)
        wave = np.cos(2 * np.pi / length * (x * np.cos(angle) + y * np.sin(angle)) + phase)
        wave *= np.exp(-(x**2 + y**2) / (2 * rng.uniform(1.2, 2.6) ** 2))
        colour = rng.standard_normal(3) if rng.random() < 0.5 else np.ones(3)
        kernels.append(colour[:, None, None] * wave)
    return np.asarray(kernels, dtype=np.float32)


def _run(conv: Conv, kernel: Floats, source: Floats) -> Floats:
    import onnxruntime

    dimensions = ["n", "c", "h", "w"]
    model = finish(
        [conv_node(conv, "x", "y", bias=False)],
        {f"{conv.name}/kernel": kernel},
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, dimensions)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, dimensions)],
        "one convolution",
    )
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (output,) = session.run(["y"], {"x": source})
    return np.asarray(output, dtype=np.float32)


def _relu(values: Floats) -> Floats:
    np.maximum(values, 0, out=values)
    return values


def _max_pool(values: Floats) -> Floats:
    """Pool 3x3 with stride 2, padded at the bottom and right (TensorFlow's SAME for an even side)."""
    side = values.shape[-1]
    padded = np.pad(values, ((0, 0), (0, 0), (0, 1), (0, 1)))  # zeros are neutral: the input is never negative
    pooled: Floats = padded[:, :, 0:side:2, 0:side:2].copy()
    for y, x in np.ndindex(3, 3):
        np.maximum(pooled, padded[:, :, y : y + side - 1 : 2, x : x + side - 1 : 2], out=pooled)
    return pooled
