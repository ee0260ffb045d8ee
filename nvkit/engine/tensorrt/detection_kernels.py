"""A detector's graph that ends with its heads: what the engine gives, and what nvkit's kernels make of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from nvkit.engine.tensorrt.detection_heads import Heads, Level
from nvkit.engine.tensorrt.detection_plugin import GROWTH
from nvkit.engine.tensorrt.onnx_tools import Floats, Links, attribute, prune, put
from nvkit.errors import ModelError

if TYPE_CHECKING:
    import onnx

#: What to do about a network that is not of the form that nvkit writes.
EXPORT = "Export the network as nvkit's own RetinaNet: its path, or no path for synthetic weights."

_BEST_LOGIT = 8.0  # a score of 0.9997: int8 does not tell greater ones apart
_INT8_STEPS = 127
_VECTOR = 32  # channels side by side in TensorRT's layout CHW32


@dataclass(frozen=True)
class Detection:
    """What is left to do behind an engine that ends with the heads; part of the engine's card.

    Attributes:
        output: Name of the output that the detections are.
        levels: Outputs of the heads, level by level.
        shapes: Anchors at a position.
        classes: Number of classes.
        vector: Channels of the class logits side by side: 32 where they are int8, 1 where they are fp32.
        scale: Logit of one int8 step; 1 for fp32.
        shift: Logit of int8 zero; 0 for fp32.
        score_threshold: A score must be greater.
        iou_threshold: Of two boxes of a class that overlap by more, the one with the lower score is dropped.
        candidates: Pairs of anchor and class of each level that may become detections.
        detections: Rows of the output.
        image_size: Pixels of a side.
        growth: Greatest dw and dh.
    """

    output: str
    levels: tuple[Level, ...]
    shapes: int
    classes: int
    vector: int
    scale: float
    shift: float
    score_threshold: float
    iou_threshold: float
    candidates: int
    detections: int
    image_size: int
    growth: float = GROWTH


@dataclass(frozen=True)
class Ending:
    """What became of the end of a detector's graph.

    Attributes:
        notes: What was done, for people.
        plugins: TensorRT's plugins that it needs.
        amax: Ranges that follow from what a tensor means.
        float_outputs: Layers that compute in int8 and give floats.
        rangeless: Tensors that stay float.
        outputs: Engine outputs that are not linear floats, to type and layout.
        detection: What is left to do behind the engine; None if the graph does all.
        anchors: Their x1, y1, x2, y2 in pixels, [anchors, 4], where something is left.
    """

    notes: tuple[str, ...]
    plugins: tuple[str, ...] = ()
    amax: Mapping[str, float] = field(default_factory=dict)
    float_outputs: frozenset[str] = frozenset()
    rangeless: frozenset[str] = frozenset()
    outputs: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    detection: Detection | None = None
    anchors: Floats | None = None


def end_with_heads(
    model: onnx.ModelProto, call: onnx.NodeProto, heads: Heads, anchors: Floats, *, quantised: bool
) -> Ending:
    """End the graph with the heads' last convolutions, in place.

    The int8 of the class logits covers what can become a detection: from the threshold up. Nothing else of them is
    looked at, so this is finer than the range that a calibration sees, most of which is background. Its middle is not
    zero, which the convolutions' bias takes up.

    Args:
        model: Graph with the shapes of all tensors.
        call: The call of nvkit.DetectObjects.
        heads: The heads' convolutions.
        anchors: x1, y1, x2, y2 in pixels, [anchors, 4].
        quantised: Whether the convolutions compute in int8; class logits are then int8, else fp32.

    Raises:
        ModelError: a bias is no constant.
    """
    links = Links(model)
    score = float(attribute(call, "score_threshold", 0.0))  # type: ignore[arg-type]
    least = math.log(score / (1.0 - score)) if score > 0.0 else -_BEST_LOGIT
    shift = (_BEST_LOGIT + least) / 2 if quantised else 0.0
    amax = (_BEST_LOGIT - least) / 2
    del model.graph.output[:]
    for tensor in heads.outputs():
        model.graph.output.append(next(value for value in model.graph.value_info if value.name == tensor))
    biases: dict[str, str] = {}
    for level in heads.levels if quantised else ():
        conv = links.producer[level.logits]
        biased = conv.input[2] if len(conv.input) > 2 else ""
        if biased not in biases:
            known = links.value(biased) if biased else np.zeros(heads.shapes * heads.classes, np.float32)
            if known is None:
                raise ModelError(f"The bias '{biased}' is no constant.", EXPORT)
            biases[biased] = put(model, f"{level.logits}/shifted_bias", known.astype(np.float32) - np.float32(shift))
        conv.input[:] = [*conv.input[:2], biases[biased]]
    del model.functions[:]
    prune(model)
    detection = Detection(
        call.output[0],
        heads.levels,
        heads.shapes,
        heads.classes,
        _VECTOR if quantised else 1,
        amax / _INT8_STEPS if quantised else 1.0,
        shift,
        score,
        float(attribute(call, "iou_threshold", 0.0)),  # type: ignore[arg-type]
        int(attribute(call, "candidates", 0)),  # type: ignore[call-overload]
        int(attribute(call, "detections", 0)),  # type: ignore[call-overload]
        int(attribute(call, "image_size", 0)),  # type: ignore[call-overload]
    )
    scores, deltas = ([getattr(level, name) for level in heads.levels] for name in ("logits", "deltas"))
    return Ending(
        (f"detections by nvkit's kernels, behind the engine, from {'int8' if quantised else 'fp32'} class logits",),
        amax={**dict.fromkeys(scores, amax), **dict.fromkeys(deltas, GROWTH)},
        float_outputs=layers(model, deltas) if quantised else frozenset(),
        outputs=dict.fromkeys(scores, ("int8", "chw32")) if quantised else {},
        detection=detection,
        anchors=anchors,
    )


def layers(model: onnx.ModelProto, tensors: list[str]) -> frozenset[str]:
    """Return the names of the layers that make these tensors."""
    links = Links(model)
    return frozenset(links.producer[name].name for name in tensors)
