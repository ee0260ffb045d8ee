"""Detections by EfficientNMS_TRT, TensorRT's open plugin.

What it does is known from its source (NVIDIA/TensorRT v8.6.0, plugin/efficientNMSPlugin). It takes boxes, scores and
anchors of one float type. Of an image it lists the scores that reach the threshold, takes the 5,000 best, decodes their
boxes, and drops those that overlap a better one of their class by the threshold or more. It does not cut boxes to the
image, limit their growth, or know levels. Tensors of boxes are read as [x, y, w, h] where both boxes and anchors are.
Outputs are cleared before each batch, so that what is not a detection is zeros. It needs 24 bytes of workspace for each
fp32 score, and counts them in 32 bits: at most 67 images of RetinaNet's in a batch.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from nvkit.engine.tensorrt.onnx_tools import Floats, attribute, plugin_node, put

if TYPE_CHECKING:
    import onnx

EFFICIENT_NMS = "EfficientNMS_TRT"

#: Greatest dw and dh: the reference cuts greater ones.
GROWTH = math.log(1000 / 16)


def every_score(model: onnx.ModelProto, call: onnx.NodeProto, anchors: Floats) -> None:
    """Put the plugin in the place of a call of nvkit.DetectObjects.

    Args:
        model: The graph; the caller prunes it.
        call: The call.
        anchors: x1, y1, x2, y2 in pixels, [anchors, 4].
    """
    table = put(model, "nvkit/anchors", centred(anchors, call)[None])
    append(model, call, call.input[0], call.input[1], table)


def centred(anchors: Floats, call: onnx.NodeProto) -> Floats:
    """Return anchors as centre x, centre y, width and height in sides of the image."""
    low, high = anchors[:, :2], anchors[:, 2:]
    side = int(attribute(call, "image_size", 1))  # type: ignore[call-overload]
    table: Floats = np.concatenate([(low + high) / 2, high - low], axis=1).astype(np.float32) / np.float32(side)
    return table


def append(model: onnx.ModelProto, call: onnx.NodeProto, logits: str, deltas: str, anchors: str) -> None:
    """Add the plugin and what makes [batch, detections, 6] of its outputs, in the place of the call.

    Args:
        model: The graph.
        call: The call of nvkit.DetectObjects, which is removed.
        logits: Tensor [batch, anchors, classes].
        deltas: Tensor [batch, anchors, 4].
        anchors: Tensor [1 or batch, anchors, 4], as `centred` gives them.
    """
    from onnx import TensorProto, helper

    limits = np.array([[[math.inf, math.inf, GROWTH, GROWTH]]], np.float32)
    found = ["nvkit/count", "nvkit/boxes", "nvkit/scores", "nvkit/classes_found"]
    fields = {
        "score_threshold": np.array([attribute(call, "score_threshold")], np.float32),
        "iou_threshold": np.array([attribute(call, "iou_threshold")], np.float32),
        "max_output_boxes": np.array([attribute(call, "detections")], np.int32),
        "background_class": np.array([-1], np.int32),
        "score_activation": np.array([1], np.int32),  # scores are logits
        "class_agnostic": np.array([0], np.int32),
        "box_coding": np.array([1], np.int32),  # centre and size
    }
    last = put(model, "nvkit/last_axis", np.array([2], np.int64))
    nodes = [
        helper.make_node("Min", [deltas, put(model, "nvkit/limits", limits)], ["nvkit/deltas"], name="nvkit/limited"),
        plugin_node(EFFICIENT_NMS, "nvkit/nms", ["nvkit/deltas", logits, anchors], found, fields),
        helper.make_node(
            "Gather",  # x1, y1, x2, y2 to y1, x1, y2, x2
            [found[1], put(model, "nvkit/turn", np.array([1, 0, 3, 2], np.int64))],
            ["nvkit/turned"],
            name="nvkit/turned",
            axis=2,
        ),
        helper.make_node(
            "Clip",
            ["nvkit/turned", put(model, "nvkit/zero", np.float32(0)), put(model, "nvkit/one", np.float32(1))],
            ["nvkit/cut"],
            name="nvkit/cut",
        ),
        helper.make_node("Unsqueeze", [found[2], last], ["nvkit/score"], name="nvkit/score"),
        helper.make_node("Cast", [found[3]], ["nvkit/label_found"], name="nvkit/label_found", to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["nvkit/label_found", last], ["nvkit/label"], name="nvkit/label"),
        helper.make_node(
            "Concat", ["nvkit/cut", "nvkit/score", "nvkit/label"], list(call.output), name="nvkit/detections", axis=2
        ),
    ]
    model.graph.node.remove(call)
    model.graph.node.extend(nodes)
