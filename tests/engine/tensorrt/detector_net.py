"""A detector of two levels that ends as RetinaNet does, small enough to run in a moment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nvkit.benchmarks.retinanet.detect import OPERATOR, detect_objects
from nvkit.engine.base import Network
from nvkit.quantize import collect
from nvkit.quantize.graph import COMPOSITE

SIDE = 64
CLASSES = 7
SHAPES = 3
GRIDS = (8, 5)
CHANNELS = 8
ROWS = 40
CANDIDATES = 60
SCORE, IOU = 0.05, 0.5


def anchors() -> np.ndarray:
    """Anchors [positions * shapes, 4] of both levels, some of them over the edge of the image."""
    levels = []
    for grid in GRIDS:
        step = SIDE / grid
        y, x = np.meshgrid(np.arange(grid), np.arange(grid), indexing="ij")
        centre = np.stack([x, y], axis=-1).reshape(-1, 1, 2) * step
        half = np.array([[step, step], [step, 2 * step], [2 * step, step]]) * 0.7
        levels.append(np.concatenate([centre - half, centre + half], axis=2).reshape(-1, 4))
    return np.concatenate(levels).astype(np.float32)


def detector(folder: Path, *, prior: float = -3.5, seed: int = 5) -> Network:
    """Write network and ranges; about one score in four is above the threshold."""
    rng = np.random.default_rng(seed)

    def conv(name: str, outputs: int, inputs: int, kernel: int, bias: float = 0.0, gain: float = 1.0) -> None:
        weight = rng.standard_normal((outputs, inputs, kernel, kernel)) * gain / np.sqrt(inputs * kernel * kernel)
        constants[f"{name}/kernel"] = weight.astype(np.float32)
        constants[f"{name}/bias"] = (rng.standard_normal(outputs) * 0.1 + bias).astype(np.float32)

    constants: dict[str, np.ndarray] = {"anchors": anchors()}
    nodes: list[onnx.NodeProto] = []

    def add(operator: str, inputs: list[str], output: str, **more: object) -> str:
        nodes.append(helper.make_node(operator, inputs, [output], name=output, **more))
        return output

    def run(name: str, source: str, output: str, kernel: int, stride: int = 1) -> str:
        pads = [kernel // 2] * 4
        sources = [source, f"{name}/kernel", f"{name}/bias"]
        return add("Conv", sources, output, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads)

    conv("stem", CHANNELS, 3, 3, gain=3.0)
    conv("inner", CHANNELS, CHANNELS, 1, gain=2.0)
    conv("cls", SHAPES * CLASSES, CHANNELS, 3, bias=prior, gain=0.15)
    conv("box", SHAPES * 4, CHANNELS, 3, gain=0.04)
    at = add("Relu", [run("stem", "images", "stem", 3, 4)], "stem_relu")
    at = add("MaxPool", [at], "pooled", kernel_shape=[2, 2], strides=[2, 2])  # 8 x 8
    constants["sizes"] = np.array([1, CHANNELS, *[GRIDS[0]] * 2], np.int64)
    coarse = add("AveragePool", [at], "coarse", kernel_shape=[4, 4], strides=[1, 1])  # 5 x 5
    small = add("MaxPool", [at], "small", kernel_shape=[2, 2], strides=[2, 2])
    constants["double"] = np.array([1, 1, 2, 2], np.float32)
    up = add(
        "Resize",
        [small, "", "double"],
        "up",
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    fine = add("Add", [run("inner", at, "inner", 1), up], "fine")
    del constants["sizes"]
    for head, values, target in (("cls", CLASSES, "class_logits"), ("box", 4, "box_deltas")):
        constants[f"{target}/rows"] = np.array([0, -1, values], np.int64)
        parts = []
        for source, grid in ((fine, GRIDS[0]), (coarse, GRIDS[1])):
            made = run(head, source, f"{head}_{grid}", 3)
            turned = add("Transpose", [made], f"{made}/pixels", perm=[0, 2, 3, 1])
            parts.append(add("Reshape", [turned, f"{target}/rows"], f"{made}/anchors"))
        add("Concat", parts, target, axis=1)
    nodes.append(
        helper.make_node(
            OPERATOR,
            ["class_logits", "box_deltas", "anchors"],
            ["detections"],
            name=OPERATOR,
            domain=COMPOSITE,
            score_threshold=SCORE,
            iou_threshold=IOU,
            detections=ROWS,
            candidates=CANDIDATES,
            levels=[SHAPES * grid * grid for grid in GRIDS],
            image_size=SIDE,
        )
    )
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("detections", TensorProto.FLOAT, ["batch", ROWS, 6])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(COMPOSITE, 1)]
    model = helper.make_model(graph, opset_imports=opsets, functions=[detect_objects(2)], ir_version=8)
    onnx.checker.check_model(model)
    path = folder / "detector.onnx"
    onnx.save(model, str(path))
    collect(path, [{"images": images(8)}], "max", total=8).save(folder / "ranges.json")
    return Network(path, folder / "ranges.json", None, "detections", input_scale=0.02)


def images(count: int, seed: int = 1) -> np.ndarray:
    """Images [count, 3, SIDE, SIDE]."""
    return np.random.default_rng(seed).standard_normal((count, 3, SIDE, SIDE), dtype=np.float32)
