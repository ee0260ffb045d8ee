"""Check that an ONNX file classifies ImageNet images, and bring its input and output into the benchmark's form.

That form is the reference file's: input `input_tensor:0`, output a class number of 0 (background) to 1000. A file
that has it is used as it is; otherwise a copy with another head and tail is made in the store.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nvkit.benchmarks.resnet50.tensors import INPUT, SAMPLE_SHAPE
from nvkit.errors import ModelError
from nvkit.store import Store, file_digest, replacing

ADAPTER_VERSION = 1
"""Changes whenever the same file gives another copy."""

_CLASS = "nvkit/class:0"
_CLASS_COUNTS = (1001, 1000)
_EXPORT = "Export a float network with input [batch, 3, 224, 224] (batch symbolic) and output [batch, 1000 or 1001]."


@dataclass(frozen=True)
class Adapted:
    """A network in the benchmark's form.

    Attributes:
        path: The user's file, or the copy in the store.
        output: The output that holds the class numbers, 0 to 1000.
        classes: Classes of the network itself: 1001, or 1000 where it has no background class.
        notes: What was changed.
    """

    path: Path
    output: str
    classes: int
    notes: tuple[str, ...]


def adapt(path: Path, store: Store) -> Adapted:
    """Check a network and adapt it if it must be.

    Raises:
        ModelError: the file does not load, or is not a classifier of 224 x 224 images with 1000 or 1001 classes.
    """
    model = _load(path)
    source = _image_input(model, path)
    scores, argmax, classes = _output(model, path)
    if source == INPUT and argmax is not None and classes == 1001:
        _try_session(path)
        return Adapted(path, argmax, classes, ())

    notes = _change(model, source, scores, argmax, classes)
    key = {"adapted": file_digest(path), "adapter": ADAPTER_VERSION}

    def make(folder: Path) -> None:
        with replacing(folder / "adapted.onnx") as temporary:
            onnx.save_model(model, str(temporary))
        _try_session(folder / "adapted.onnx")

    copy = store.get_or_make("models", key, make).path / "adapted.onnx"
    return Adapted(copy, _CLASS, classes, tuple(notes))


def _load(path: Path) -> onnx.ModelProto:
    size = f"{path.stat().st_size:,} bytes"
    try:
        model = onnx.load_model(str(path), format="protobuf", load_external_data=False)
    except Exception as error:  # protobuf's errors have no common public base
        raise ModelError(
            f"{path} ({size}) is not a complete ONNX file; it was cut short or is something else.",
            "Download or export it again and compare its size.",
        ) from error
    if not model.graph.node:
        raise ModelError(f"{path} ({size}) holds no network.", "Download or export it again.")
    if any(tensor.data_location == TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise ModelError(f"{path} keeps its weights in other files.", "Save it as one file (onnx.save_model does).")
    return model


def _shape(value: onnx.ValueInfoProto) -> list[int | None]:
    """Return the dimensions; None where one is symbolic."""
    return [d.dim_value if d.HasField("dim_value") else None for d in value.type.tensor_type.shape.dim]


def _image_input(model: onnx.ModelProto, path: Path) -> str:
    weights = {tensor.name for tensor in model.graph.initializer}  # files of IR version 3 list them as inputs, too
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) == 1:
        shape = _shape(inputs[0])
        fits = inputs[0].type.tensor_type.elem_type == TensorProto.FLOAT and tuple(shape[1:]) == SAMPLE_SHAPE
        if fits and not shape[0]:
            return str(inputs[0].name)
    found = ", ".join(f"{value.name} {_shape(value)}" for value in inputs) or "none"
    raise ModelError(f"{path} has the input {found}, not one of float [batch, 3, 224, 224].", _EXPORT)


def _output(model: onnx.ModelProto, path: Path) -> tuple[str, str | None, int]:
    """Return the name of the class scores, that of an ArgMax output over them if there is one, and the class count."""
    try:
        inferred = onnx.shape_inference.infer_shapes(model)
    except Exception as error:  # as above
        raise ModelError(f"{path} is not a consistent network: {error}.", "Export it again.") from error
    shapes = {value.name: _shape(value) for value in [*inferred.graph.value_info, *inferred.graph.output]}

    def classes(name: str) -> int | None:
        last = shapes[name][-1] if len(shapes.get(name, [])) == 2 else None
        return last if last in _CLASS_COUNTS else None

    outputs = [str(value.name) for value in model.graph.output]
    for node in model.graph.node:
        if node.op_type == "ArgMax" and node.output[0] in outputs:
            # Older exports do not say the shape in front of ArgMax; the softmax output beside it does.
            count = classes(node.input[0]) or next((c for c in map(classes, outputs) if c), None)
            if count:
                return str(node.input[0]), str(node.output[0]), count
    for name in outputs:
        if count := classes(name):
            return name, None, count
    found = ", ".join(f"{name} {shapes.get(name)}" for name in outputs)
    raise ModelError(f"{path} has no output of 1000 or 1001 class scores nor an ArgMax of them: {found}.", _EXPORT)


def _change(model: onnx.ModelProto, source: str, scores: str, argmax: str | None, classes: int) -> list[str]:
    """Edit the network in place; return what was changed."""
    graph, notes = model.graph, []
    if source != INPUT:
        for node in graph.node:
            node.input[:] = [INPUT if name == source else name for name in node.input]
        next(value for value in graph.input if value.name == source).name = INPUT
        notes.append(f"input {source} renamed {INPUT}")
    if argmax is None:
        argmax = "nvkit/ArgMax:0"
        graph.node.append(helper.make_node("ArgMax", [scores], [argmax], name="nvkit/ArgMax", axis=1, keepdims=0))
        notes.append(f"ArgMax appended to {scores}")
    shift = 1 if classes == 1000 else 0
    graph.initializer.append(numpy_helper.from_array(np.array(shift, np.int64), "nvkit/first_class"))
    graph.node.append(helper.make_node("Add", [argmax, "nvkit/first_class"], [_CLASS], name="nvkit/class"))
    if shift:
        notes.append("1000 classes without background: class numbers count from 1")
    graph.output.insert(0, helper.make_tensor_value_info(_CLASS, TensorProto.INT64, None))
    return notes


def _try_session(path: Path) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base but Exception
        reason = str(error).splitlines()[0][:300]
        raise ModelError(f"ONNX Runtime cannot load {path}: {reason}", "Export the network again.") from error
