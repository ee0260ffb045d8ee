"""The function nvkit.DetectObjects against a plain loop, and the anchors against published values."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from nvkit.benchmarks.convolutions import finish
from nvkit.benchmarks.retinanet.anchors import LEVELS, anchors, encode_boxes, overlaps
from nvkit.benchmarks.retinanet.detect import FUNCTION_OPSET, OPERATOR, detect_objects
from nvkit.quantize.graph import COMPOSITE

Array = npt.NDArray[Any]
SMALL = (40, 18, 9)


def run(logits: Array, deltas: Array, boxes: Array, **changes: Any) -> Array:
    given: dict[str, Any] = {
        "score_threshold": 0.05,
        "iou_threshold": 0.5,
        "detections": 30,
        "candidates": 25,
        "levels": SMALL,
        "image_size": 100,
        **changes,
    }
    node = helper.make_node(OPERATOR, ["logits", "deltas", "anchors"], ["out"], domain=COMPOSITE, **given)
    model = finish(
        [node],
        {"anchors": boxes},
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", *logits.shape[1:]]),
            helper.make_tensor_value_info("deltas", TensorProto.FLOAT, ["b", *deltas.shape[1:]]),
        ],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["b", given["detections"], 6])],
        "detect",
        opset=FUNCTION_OPSET,
        functions=[detect_objects(len(given["levels"]))],
    )
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["out"], {"logits": logits, "deltas": deltas})[0])


def iou(one: Array, other: Array) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0.0) * max(height, 0.0)
    both = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1]) - shared
    return float(shared / both) if both > 0 else 0.0


def plain(logits: Array, deltas: Array, boxes: Array, detections: int, candidates: int, size: float) -> list[list[Any]]:
    """Detect on one image with loops over pairs, in float64; rows of score, class, x1, y1, x2, y2."""
    found = []
    start = 0
    for count in SMALL:
        pairs = [
            (1 / (1 + np.exp(-float(logits[a, k]))), a, k)
            for a in range(start, start + count)
            for k in range(logits.shape[1])
        ]
        pairs = [pair for pair in pairs if pair[0] > 0.05]
        pairs.sort(key=lambda pair: (-pair[0], pair[1], pair[2]))
        for score, a, k in pairs[:candidates]:
            x1, y1, x2, y2 = boxes[a].astype(float)
            dx, dy, dw, dh = deltas[a].astype(float)
            x, y = (x1 + x2) / 2 + dx * (x2 - x1), (y1 + y2) / 2 + dy * (y2 - y1)
            limit = np.log(1000 / 16)
            w, h = (x2 - x1) * np.exp(min(dw, limit)), (y2 - y1) * np.exp(min(dh, limit))
            corners = np.clip([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 0, size)
            found.append([score, k, *corners])
        start += count
    found.sort(key=lambda row: -row[0])
    kept: list[list[Any]] = []
    for row in found:
        if all(row[1] != other[1] or iou(np.array(row[2:]), np.array(other[2:])) <= 0.5 for other in kept):
            kept.append(row)
    return kept[:detections]


def small_anchors(rng: np.random.Generator) -> Array:
    low = rng.uniform(-5, 90, (sum(SMALL), 2))
    return np.concatenate([low, low + rng.uniform(5, 40, (sum(SMALL), 2))], axis=1).astype(np.float32)


@pytest.mark.parametrize("density", [-6.0, -2.0, 1.0])
def test_detections_are_those_of_a_plain_loop(density: float) -> None:
    rng = np.random.default_rng(5)
    boxes = small_anchors(rng)
    logits = rng.normal(density, 2, (3, sum(SMALL), 70)).astype(np.float32)  # more classes than a row of squares has
    logits[:, :, 3:67] -= 6  # so that boxes of one class meet
    deltas = rng.normal(0, 0.4, (3, sum(SMALL), 4)).astype(np.float32)
    deltas[:, :5, 2:] = 6  # beyond what is decoded
    outputs = run(logits, deltas, boxes)
    suppressed = 0
    for image in range(3):
        expected = plain(logits[image], deltas[image], boxes, 30, 25, 100.0)
        suppressed += sum(SMALL) - len(expected)
        rows = outputs[image, : len(expected)]
        np.testing.assert_allclose(rows[:, 4], [row[0] for row in expected], rtol=1e-5)
        assert rows[:, 5].tolist() == [row[1] for row in expected]
        corners = np.array([row[2:] for row in expected]).reshape(-1, 4)
        np.testing.assert_allclose(rows[:, :4] * 100, corners[:, [1, 0, 3, 2]], atol=2e-3)
        assert not outputs[image, len(expected) :].any()
        assert rows[:, :4].min(initial=0) >= 0
        assert rows[:, :4].max(initial=0) <= 1
    assert suppressed > 0


def test_boxes_suppress_each_other_only_within_a_class() -> None:
    boxes = np.tile(np.array([[10, 20, 50, 60]], np.float32), (sum(SMALL), 1))
    logits = np.full((1, sum(SMALL), 40), -9, np.float32)
    logits[0, [0, 1, 45], [7, 7, 7]] = [1, 2, 1.5]  # the second is best, of the same class in another level
    logits[0, 0, 39] = 0.5
    rows = run(logits, np.zeros((1, sum(SMALL), 4), np.float32), boxes)[0]
    assert rows[:3, 5].tolist() == [7, 39, 0]
    np.testing.assert_allclose(rows[0], [0.2, 0.1, 0.6, 0.5, 1 / (1 + np.exp(-2)), 7], rtol=1e-6)


def test_equal_scores_keep_the_order_of_anchors_and_the_threshold_is_not_a_detection() -> None:
    boxes = np.stack([np.arange(sum(SMALL)), np.zeros(sum(SMALL))] * 2, axis=1).astype(np.float32)
    boxes[:, 2:] += 1
    logits = np.full((1, sum(SMALL), 2), -9, np.float32)
    logits[0, [4, 11, 30], 1] = 1.0  # equal scores
    logits[0, 20, 0] = 0.0  # a score of exactly 0.5
    zeros = np.zeros((1, sum(SMALL), 4), np.float32)
    rows = run(logits, zeros, boxes, score_threshold=0.5)[0]
    assert (rows[:, 4] > 0).sum() == 3
    np.testing.assert_allclose(rows[:3, 1] * 100, [4, 11, 30], rtol=1e-5)
    assert (run(logits, zeros, boxes, score_threshold=0.4999)[0][:, 4] > 0).sum() == 4


def test_fewer_candidates_than_detections_are_padded() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(3, 1, (2, sum(SMALL), 2)).astype(np.float32)
    deltas = np.zeros((2, sum(SMALL), 4), np.float32)
    outputs = run(logits, deltas, small_anchors(rng), detections=90, candidates=4)
    assert outputs.shape == (2, 90, 6)
    assert ((outputs[:, :, 4] > 0).sum(axis=1) <= 12).all()
    assert (outputs[:, 0, 4] > 0).all()


def test_anchors_are_those_of_the_reference() -> None:
    made = anchors()
    assert made.shape == (120_087, 4)
    assert sum(LEVELS) == 120_087
    # torchvision's values: corners of the first position, and the last anchor of P7 (centre 684, stride 114).
    assert made[:9].tolist() == [
        [-23, -11, 23, 11],
        [-28, -14, 28, 14],
        [-35, -18, 35, 18],
        [-16, -16, 16, 16],
        [-20, -20, 20, 20],
        [-25, -25, 25, 25],
        [-11, -23, 11, 23],
        [-14, -28, 14, 28],
        [-18, -35, 18, 35],
    ]
    assert made[9].tolist() == [-15, -11, 31, 11]  # the next position of P3 lies 8 pixels to the right
    assert made[900].tolist() == [-23, -3, 23, 19]  # the next row
    assert made[90_000].tolist() == [-45, -23, 45, 23]
    assert made[-1].tolist() == [397, 110, 971, 1258]


def test_boxes_are_coded_as_they_are_decoded() -> None:
    rng = np.random.default_rng(2)
    reference, wanted = small_anchors(rng).astype(float), small_anchors(rng).astype(float)
    shift, growth = np.split(encode_boxes(wanted, reference), 2, axis=1)
    size, centre = reference[:, 2:] - reference[:, :2], (reference[:, :2] + reference[:, 2:]) / 2
    middle, half = centre + shift * size, np.exp(growth) * size / 2
    np.testing.assert_allclose(np.concatenate([middle - half, middle + half], axis=1), wanted)
    table = overlaps(wanted, reference)
    assert table.shape == (sum(SMALL), sum(SMALL))
    assert table[3, 8] == pytest.approx(iou(wanted[3], reference[8]))
