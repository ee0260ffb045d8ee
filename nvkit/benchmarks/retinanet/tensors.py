"""Names and shapes of the network's input, and what its classes are.

They stand apart so that preprocessing needs no ONNX and the network no OpenCV.
"""

from __future__ import annotations

INPUT = "images"
SIDE = 800
SAMPLE_SHAPE = (3, SIDE, SIDE)
"""One sample: RGB channels, height, width."""

CLASSES = 264
"""Classes of MLPerf's OpenImages subset. A label is a category id of the annotations, 0 to 263; there is no
background class."""

INPUT_RANGE = 2.64064
"""What an int8 sample of 127 stands for: the range of `images` in NVIDIA's calibration cache (3caa54fc x 127)."""

INPUT_SCALE = INPUT_RANGE / 127.0
"""What one step of an int8 sample stands for."""
