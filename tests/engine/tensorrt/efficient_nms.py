"""What EfficientNMS_TRT computes, in numpy, by its source (NVIDIA/TensorRT v8.6.0), and graphs that hold it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

SELECTED = 5000


def run(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray], name: str = "EfficientNMS_TRT") -> np.ndarray:
    """Run a graph with the plugin: ONNX Runtime up to it, numpy, ONNX Runtime from it on; return the output."""
    (node,) = [node for node in model.graph.node if node.op_type == name]
    fields = {entry.name: numpy_helper.to_array(entry.t) for entry in node.attribute if entry.HasField("t")}
    given = _run(model, inputs, list(node.input))
    found = dict(zip(node.output, efficient_nms(*given, {k: v.item() for k, v in fields.items()}), strict=True))
    (output,) = _run(model, found, [model.graph.output[0].name])
    return output


def efficient_nms(
    deltas: np.ndarray, logits: np.ndarray, anchors: np.ndarray, fields: Mapping[str, Any]
) -> tuple[np.ndarray, ...]:
    """Return number, boxes [x1, y1, x2, y2], scores and classes of the detections of every image."""
    assert (fields["box_coding"], fields["score_activation"], fields["class_agnostic"]) == (1, 1, 0)
    assert fields["background_class"] == -1
    rows, images = int(fields["max_output_boxes"]), len(logits)
    number, classes = np.zeros((images, 1), np.int32), np.zeros((images, rows), np.int32)
    boxes, scores = np.zeros((images, rows, 4), np.float32), np.zeros((images, rows), np.float32)
    least = np.log(fields["score_threshold"] / (1 - fields["score_threshold"]))
    for image in range(images):
        table = anchors[image if len(anchors) > 1 else 0]
        anchor, label = np.nonzero(logits[image] >= least)
        order = np.argsort(-logits[image][anchor, label], kind="stable")[:SELECTED]
        anchor, label = anchor[order], label[order]
        near, size = table[anchor, :2], table[anchor, 2:]
        centre = deltas[image][anchor, :2] * size + near
        reach = np.exp(deltas[image][anchor, 2:]) * size / 2
        corners = np.concatenate([centre - reach, centre + reach], axis=1)
        alive = np.ones(len(order), bool)
        for i in range(len(order)):
            if not alive[i]:
                continue
            if number[image, 0] == rows:
                break
            row = number[image, 0]
            boxes[image, row], classes[image, row] = corners[i], label[i]
            scores[image, row] = 1 / (1 + np.exp(-logits[image, anchor[i], label[i]]))
            number[image, 0] += 1
            later = np.arange(len(order)) > i
            alive &= ~(later & (label == label[i]) & (overlaps(corners[i], corners) >= fields["iou_threshold"]))
    return number, boxes, scores, classes


def overlaps(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the intersection over union of a box with each other one."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    both = np.prod(np.maximum(sides, 0), axis=1)
    return both / (np.prod(box[2:] - box[:2]) + np.prod(others[:, 2:] - others[:, :2], axis=1) - both)


def _run(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray], outputs: list[str]) -> list[np.ndarray]:
    import onnxruntime

    makers = {name: node for node in model.graph.node for name in node.output}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    needed: list[onnx.NodeProto] = []
    waiting = [name for name in outputs if name not in constants]
    while waiting:
        name = waiting.pop()
        if name in inputs or name not in makers or makers[name] in needed:
            continue
        needed.append(makers[name])
        waiting += makers[name].input
    nodes = [node for node in model.graph.node if node in needed]
    read = {name for node in nodes for name in node.input}
    wanted = [name for name in outputs if name not in constants]
    kinds = {np.dtype(np.float32): 1, np.dtype(np.int32): 6}
    graph = helper.make_graph(
        nodes,
        "part",
        [helper.make_tensor_value_info(k, kinds[v.dtype], v.shape) for k, v in inputs.items() if k in read],
        [helper.make_tensor_value_info(name, 1, None) for name in wanted],
        [tensor for name, tensor in constants.items() if name in read],
    )
    part = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(part.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = dict(zip(wanted, session.run(wanted, {k: v for k, v in inputs.items() if k in read}), strict=True))
    return [found[name] if name in found else numpy_helper.to_array(constants[name]) for name in outputs]
