"""The function nvkit.DetectObjects: from class logits and box deltas to at most so many detections of an image.

What it computes is the post-processing of MLCommons' reference model: of each pyramid level the best pairs of anchor
and class above the score threshold, boxes decoded and cut to the image, then suppression among boxes of one class. The
body is in standard operators, so that any runtime runs it; a backend with a kernel for it exchanges the call.

Sorting all 31.7 million pairs would take longer than a small network. The best 1000 pairs of a level lie in the 1000
anchors with the best single class, so these anchors are found first and only their pairs are sorted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
from onnx import AttributeProto, helper

from nvkit.benchmarks.retinanet.anchors import LARGEST_GROWTH
from nvkit.quantize.graph import COMPOSITE

OPERATOR = "DetectObjects"
FUNCTION_OPSET = 17

_ATTRIBUTES = ("score_threshold", "iou_threshold", "detections", "candidates", "levels", "image_size")
_CLASSES_IN_A_ROW = 32


def detect_objects(levels: int) -> onnx.FunctionProto:
    """Return the function for a pyramid of so many levels.

    Inputs: class_logits [batch, anchors, classes], box_deltas [batch, anchors, 4] (dx, dy, dw, dh) and anchors
    [anchors, 4] (x1, y1, x2, y2 in pixels). Attributes: score_threshold and iou_threshold (a score must be greater, an
    overlap not), detections (rows of the output), candidates (pairs of each level), levels (anchors of each level) and
    image_size (pixels of a side). Output: [batch, detections, 6], rows of ymin, xmin, ymax, xmax (0 to 1), score and
    class in descending order of score, and rows of zeros after the last detection.
    """
    body = _Body()
    _candidates(body, levels)
    _boxes(body)
    _suppression(body)
    return helper.make_function(
        COMPOSITE,
        OPERATOR,
        ["class_logits", "box_deltas", "anchors"],
        ["detections"],
        body.nodes,
        [helper.make_opsetid("", FUNCTION_OPSET)],
        list(_ATTRIBUTES),
    )


class _Body:
    """Collects nodes; every method returns the name of the tensor that it makes."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []

    def op(self, operator: str, sources: Sequence[str], target: str = "", **attributes: Any) -> str:
        target = target or f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, sources, [target], **attributes))
        return target

    def ints(self, *values: int) -> str:
        return self.op("Constant", [], value_ints=list(values))

    def number(self, value: float) -> str:
        return self.op("Constant", [], value_float=float(value))

    def attribute(self, name: str, kind: str) -> str:
        """Return the value of the function's attribute; `kind` is float, int or ints."""
        target = f"given_{name}"
        self.nodes.append(helper.make_node("Constant", [], [target]))
        types = {"float": AttributeProto.FLOAT, "int": AttributeProto.INT, "ints": AttributeProto.INTS}
        self.nodes[-1].attribute.append(AttributeProto(name=f"value_{kind}", type=types[kind], ref_attr_name=name))
        return target

    def split(self, source: str, sizes: str, parts: int, what: str) -> list[str]:
        names = [f"{what}_{part}" for part in range(parts)]
        self.nodes.append(helper.make_node("Split", [source, sizes], names, axis=1))
        return names

    def best(self, source: str, count: str) -> tuple[str, str]:
        """Return the greatest values along axis 1, in descending order, and their positions."""
        names = f"{source}_best", f"{source}_at"
        self.nodes.append(helper.make_node("TopK", [source, count], names, axis=1))
        return names

    def rows(self, source: str, at: str, target: str = "") -> str:
        """Return rows [batch, n, ...] of [batch, rows, ...] at positions [batch, n]."""
        return self.op("GatherND", [source, self.op("Unsqueeze", [at, self.ints(-1)])], target, batch_dims=1)

    def entry(self, source: str, number: int) -> str:
        return self.op("Gather", [source, self.ints(number)])


def _candidates(body: _Body, levels: int) -> None:
    """Make `anchor` [batch, rows], the chosen anchors; and of each candidate `row`, `label` and `score`."""
    sizes, candidates = body.attribute("levels", "ints"), body.attribute("candidates", "int")
    kept = body.op("Min", [sizes, candidates], "anchors_kept")
    zero = body.op("Constant", [], value_int=0)
    starts = body.op("CumSum", [sizes, zero], "level_starts", exclusive=1)
    kept_starts = body.op("CumSum", [kept, zero], "row_starts", exclusive=1)

    greatest = body.op("ReduceMax", ["class_logits"], "anchor_logits", axes=[2], keepdims=0)
    chosen = []
    for level, part in enumerate(body.split(greatest, sizes, levels, "level_logits")):
        _, at = body.best(part, body.entry(kept, level))
        chosen.append(body.op("Add", [at, body.entry(starts, level)]))
    body.op("Concat", chosen, "anchor", axis=1)
    logits = body.rows("class_logits", "anchor", "row_logits")
    classes = body.op("Shape", ["class_logits"], "classes", start=2)

    found: dict[str, list[str]] = {"row": [], "label": [], "logit": []}
    for level, part in enumerate(body.split(logits, kept, levels, "level_rows")):
        pairs = body.op("Reshape", [part, body.ints(0, -1)], f"level_pairs_{level}")
        count = body.op("Min", [body.op("Mul", [body.entry(kept, level), classes]), candidates])
        best, at = body.best(pairs, count)
        found["logit"].append(best)
        found["row"].append(body.op("Add", [body.op("Div", [at, classes]), body.entry(kept_starts, level)]))
        found["label"].append(body.op("Mod", [at, classes]))
    for name, parts in found.items():
        body.op("Concat", parts, name, axis=1)
    body.op("Sigmoid", ["logit"], "score")


def _boxes(body: _Body) -> None:
    """Make `corners`: x1, y1, x2, y2 in pixels of each candidate, [batch, candidates, 4]."""
    half = body.number(0.5)
    anchor = body.op("Gather", ["anchors", "anchor"])
    deltas = body.rows("box_deltas", "anchor")
    low, high = _halves(body, anchor)
    size = body.op("Sub", [high, low])
    middle = body.op("Add", [low, body.op("Mul", [size, half])])
    shift, growth = _halves(body, deltas)
    centre = body.op("Add", [body.op("Mul", [shift, size]), middle])
    grown = body.op("Exp", [body.op("Min", [growth, body.number(LARGEST_GROWTH)])])
    reach = body.op("Mul", [body.op("Mul", [grown, size]), half])
    corners = body.op("Concat", [body.op("Sub", [centre, reach]), body.op("Add", [centre, reach])], axis=2)
    limit = body.op("Cast", [body.attribute("image_size", "int")], "image_side", to=onnx.TensorProto.FLOAT)
    cut = body.op("Clip", [corners, body.number(0.0), limit])
    body.rows(cut, "row", "corners")


def _halves(body: _Body, pairs: str) -> tuple[str, str]:
    """Return the first two and the last two of four columns."""
    axis, middle = body.ints(2), body.ints(2)
    return (
        body.op("Slice", [pairs, body.ints(0), middle, axis]),
        body.op("Slice", [pairs, middle, body.ints(4), axis]),
    )


def _suppression(body: _Body) -> None:
    """Make `detections` from the candidates that no better one of their class overlaps.

    The operator's own classes would need a score for each pair of candidate and class. Instead each class has its own
    square of the plane, so that boxes of two classes never meet; squares in rows of 32 keep the coordinates small.
    """
    number, overlap = body.attribute("detections", "int"), body.attribute("iou_threshold", "float")
    threshold = body.attribute("score_threshold", "float")
    wide = body.op("Constant", [], value_int=_CLASSES_IN_A_ROW)
    places = [body.op("Mod", ["label", wide]), body.op("Div", ["label", wide])]
    place = body.op("Concat", [body.op("Unsqueeze", [each, body.ints(2)]) for each in [*places, *places]], axis=2)
    square = body.op("Add", ["image_side", body.number(1.0)])
    shift = body.op("Mul", [body.op("Cast", [place], to=onnx.TensorProto.FLOAT), square])
    apart = body.op("Add", ["corners", shift])
    scores = body.op("Unsqueeze", ["score", body.ints(1)])
    chosen = body.op("NonMaxSuppression", [apart, scores, number, overlap, threshold])

    at = body.op("Gather", [chosen, body.ints(0, 2)], axis=1)
    ones = body.op("Expand", [body.number(1.0), body.op("Shape", [at], start=0, end=1)])
    nothing = body.op("Mul", ["score", body.number(0.0)])
    kept = body.op("ScatterND", [nothing, at, ones])
    left = body.op("Mul", ["score", kept], "left")
    rows = body.op("Min", [body.op("Shape", ["left"], start=1), number])
    score, order = body.best(left, rows)

    corners = body.op("Div", [body.rows("corners", order), "image_side"])
    low, high = _halves(body, corners)
    # ymin, xmin, ymax, xmax
    turned = [body.op("Gather", [pair, body.ints(1, 0)], axis=2) for pair in (low, high)]
    label = body.op("Cast", [body.op("GatherElements", ["label", order], axis=1)], to=onnx.TensorProto.FLOAT)
    columns = [body.op("Unsqueeze", [each, body.ints(2)]) for each in (score, label)]
    table = body.op("Concat", [*turned, *columns], axis=2)
    found = body.op("Cast", [body.op("Greater", [columns[0], body.number(0.0)])], to=onnx.TensorProto.FLOAT)
    missing = body.op("Sub", [number, rows])
    pads = body.op("Concat", [body.ints(0, 0, 0, 0), missing, body.ints(0)], axis=0)
    body.op("Pad", [body.op("Mul", [table, found]), pads], "detections")
