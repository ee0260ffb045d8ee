"""Names and shapes of the network's input and output, as in MLPerf's resnet50_v1.onnx.

They stand apart so that preprocessing needs no ONNX and the network no OpenCV.
"""

from __future__ import annotations

INPUT = "input_tensor:0"
CLASS_OUTPUT = "ArgMax:0"
SOFTMAX_OUTPUT = "softmax_tensor:0"
CLASSES = 1001
"""1000 classes of ImageNet after the background class 0."""

SIDE = 224
SAMPLE_SHAPE = (3, SIDE, SIDE)
"""One sample: RGB channels, height, width."""
