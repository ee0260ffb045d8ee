"""Seeded weights for BERT that keep what each token is, and let it learn a little of the others.

Plain random layers mix all tokens until the last layer cannot tell them apart: 48 residual additions of equal weight
leave hardly anything of the first one. Here a block adds little to the stream that passes it, as in trained networks,
and layer normalisation takes the stream back to one size. No channel is larger than others.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator

import numpy as np

from nvkit.benchmarks.bert.network import Floats, Size, parameter_shapes
from nvkit.benchmarks.bert.tensors import OUTPUT
from nvkit.progress import tqdm

# Standard deviations beside the 1 of a word's embedding, and of what each product makes from inputs of 1.
_TABLE = {"word": 1.0, "position": 0.25, "token_type": 0.25}
_GAIN = {"qkv": 1.25, "projected": 0.2, "intermediate": 1.0, "output": 0.2}
_BIAS = 0.05
_GAMMA = 0.05  # around 1


def seeded_weights(size: Size, seed: int) -> Iterator[tuple[str, Floats]]:
    """Draw the parameters one by one, in the order of `parameter_shapes`; those of the last layer are zero.

    Args:
        size: The network's size.
        seed: Same seed, same weights.
    """
    shapes = parameter_shapes(size)
    for name, shape in tqdm(shapes.items(), desc="Seeding weights", unit="tensor", leave=False):
        block, part = name.rsplit("/", 1)
        if block == OUTPUT:
            yield name, np.zeros(shape, np.float32)
            continue
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        values = rng.standard_normal(shape, dtype=np.float32)
        if part == "kernel":
            values *= _GAIN[block.rsplit("/", 1)[1]] / math.sqrt(shape[0])
        elif part in _TABLE:
            values *= _TABLE[part]
        elif part in ("bias", "beta"):
            values *= _BIAS
        elif part == "gamma":
            values *= _GAMMA
            values += 1
        yield name, values
