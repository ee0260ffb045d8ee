"""Reading an ONNX network and finding the tensors that an int8 network quantises."""

from __future__ import annotations

import math
import tempfile
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nvkit.errors import ModelError, nearest

if TYPE_CHECKING:
    import onnx

#: Per-channel Q/DQ needs the `axis` attribute that came with this opset.
MIN_OPSET = 13

#: Domain of composite operations: calls of model-local functions that a backend may have one kernel for.
COMPOSITE = "nvkit"

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_SHAPE_VALUES = 64  # constants of at most so many values may be shapes, which inference reads
_COMBINING = frozenset({"Add", "Sum", "Concat", "Mul"})
_POOLING = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool", "ReduceMean"})
_NON_NEGATIVE = frozenset({"Relu", "Sigmoid", "Softmax"})
_SIGN_KEEPING = _POOLING | {"Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Identity", "Dropout"}


def load_model(path: Path) -> onnx.ModelProto:
    """Read an ONNX file, with initialisers as constants.

    Files of IR version 3 list every weight among the graph inputs too, which makes weights something a caller may
    replace and so keeps runtimes from folding them; they are taken off that list.

    Raises:
        ModelError: the file is missing, truncated, or not ONNX.
    """
    import onnx

    if not path.is_file():
        raise ModelError(f"{path} does not exist.", "Give the path of an ONNX file.")
    try:
        model = onnx.load(str(path))
    except Exception as error:
        raise _broken(path, error) from error
    if not model.graph.node:
        raise _broken(path, "it holds no graph")
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) < len(model.graph.input):
        del model.graph.input[:]
        model.graph.input.extend(inputs)
        model.ir_version = max(model.ir_version, 4)
    return model


def prepare(path: Path) -> onnx.ModelProto:
    """Return the network that ranges are observed on and Q/DQ is put into.

    It is the fp32 network at opset 13 or later, with constants folded and batch normalisation merged into the
    convolutions (ONNX Runtime's basic optimisations, which keep standard operators and tensor names), and with
    the shapes of all tensors. Every node has a name.

    A network with composite operations is nvkit's own and has nothing to fold; its calls are kept, so that ranges
    are those of tensors between them and a backend can still put its kernels in.

    Raises:
        ModelError: the file is not a valid ONNX network.
    """
    model = load_model(path)
    try:
        if any(node.domain == COMPOSITE for node in model.graph.node):
            _infer_types(model)
        else:
            model = _folded(model)
    except Exception as error:
        raise _broken(path, error) from error
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    return model


def quantizable(model: onnx.ModelProto) -> list[str]:
    """Return the activations that an int8 network quantises, in network order.

    These are the inputs of convolutions and matrix products, and those of additions, concatenations and poolings
    that lie before one. What comes after the last weighted layer stays float, so logits keep their resolution;
    that layer is a thousandth of a ResNet-50's work. A tensor between a layer and its ReLU is left out, because
    both runtimes compute the pair as one, and so is one between a matrix product and its bias. Composite operations
    compute in float.
    """
    return _before_weighted(model, composites=False)


def observable(model: onnx.ModelProto) -> list[str]:
    """Return the activations that need a range, in network order.

    Beside the quantisable ones these are what composite operations read and make, for a backend whose kernels of
    them are int8 inside and out.
    """
    return _before_weighted(model, composites=True)


def _before_weighted(model: onnx.ModelProto, *, composites: bool) -> list[str]:
    constants = {tensor.name for tensor in model.graph.initializer}
    products = _unbiased(model, constants)
    inner: set[str] = set()  # tensors with a weighted layer somewhere after them
    wanted: set[str] = set()
    for node in reversed(model.graph.node):
        weighted = node.op_type in WEIGHTED
        reaches = weighted or any(name in inner for name in node.output)
        if not reaches:
            continue
        inner.update(node.input)
        inputs = [name for name in node.input if name and name not in constants | products]
        if node.domain == COMPOSITE:
            wanted.update([*inputs, *node.output] if composites else [])
        elif weighted:
            wanted.update(inputs if node.op_type == "MatMul" else inputs[:1])
        elif node.op_type in _COMBINING | _POOLING:
            wanted.update(inputs)
    floats = _float_tensors(model)
    order = [value.name for value in model.graph.input] + [n for node in model.graph.node for n in node.output]
    return [name for name in dict.fromkeys(order) if name in wanted and name in floats]


def _unbiased(model: onnx.ModelProto, constants: Collection[str]) -> set[str]:
    """Return the matrix products that only an addition of a constant reads."""
    readers = consumers(model)
    return {
        node.output[0]
        for node in model.graph.node
        if node.op_type == "MatMul"
        and [reader.op_type for reader in readers[node.output[0]]] == ["Add"]
        and any(name in constants for name in readers[node.output[0]][0].input)
    }


def keep_output(model: onnx.ModelProto, output: str, path: Path) -> None:
    """Make `output` the only graph output and drop the nodes that only others need (ONNX Runtime runs them all).

    Raises:
        ModelError: the network of `path` has no such output.
    """
    outputs = {value.name: value for value in model.graph.output}
    if output not in outputs:
        raise ModelError(f"{path} has no output '{output}'.", nearest(output, outputs))
    kept = outputs[output]
    del model.graph.output[:]
    model.graph.output.append(kept)
    if any(attribute.HasField("g") for node in model.graph.node for attribute in node.attribute):
        return  # branches and loops read tensors that are not among their node's inputs
    producer = {name: number for number, node in enumerate(model.graph.node) for name in node.output if name}
    needed: set[int] = set()
    waiting = [output]
    while waiting:
        number = producer.get(waiting.pop())
        if number is not None and number not in needed:
            needed.add(number)
            waiting.extend(model.graph.node[number].input)
    for number in reversed(range(len(model.graph.node))):
        if number not in needed:
            del model.graph.node[number]


def non_negative(model: onnx.ModelProto) -> set[str]:
    """Return the tensors that cannot be negative, whatever the input: ReLUs and what only moves or averages them."""
    found: set[str] = set()
    for node in model.graph.node:
        if node.op_type in _NON_NEGATIVE or (node.op_type in _SIGN_KEEPING and node.input and node.input[0] in found):
            found.update(node.output)
    return found


def consumers(model: onnx.ModelProto) -> dict[str, list[onnx.NodeProto]]:
    """Map each tensor to the nodes that read it."""
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in model.graph.node:
        for name in node.input:
            readers[name].append(node)
    return readers


def _folded(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnx
    import onnxruntime

    if _opset(model) < MIN_OPSET:
        model = onnx.version_converter.convert_version(model, MIN_OPSET)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory(prefix="nvkit-") as folder:
        target = Path(folder) / "prepared.onnx"
        options.optimized_model_filepath = str(target)
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        onnx.shape_inference.infer_shapes_path(str(target))
        return onnx.load(str(target))


def _infer_types(model: onnx.ModelProto) -> None:
    """Add the types of all tensors, in place; weights are not copied for it, they may be more than a gigabyte."""
    import onnx

    bare = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
    bare.graph.MergeFrom(onnx.GraphProto(node=model.graph.node, input=model.graph.input, output=model.graph.output))
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) > _SHAPE_VALUES:
            bare.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        else:
            bare.graph.initializer.append(tensor)
    inferred = onnx.shape_inference.infer_shapes(bare)
    del model.graph.value_info[:]
    model.graph.value_info.extend(inferred.graph.value_info)


def _float_tensors(model: onnx.ModelProto) -> set[str]:
    values = [*model.graph.input, *model.graph.value_info, *model.graph.output]
    return {value.name for value in values if value.type.tensor_type.elem_type == 1}


def _opset(model: onnx.ModelProto) -> int:
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)


def _broken(path: Path, reason: Any) -> ModelError:
    size = path.stat().st_size
    first = str(reason).strip().splitlines()[0][:200] if str(reason).strip() else type(reason).__name__
    return ModelError(
        f"{path} ({size:,} bytes) is not a usable ONNX network: {first}.",
        "It may be truncated: compare its size and checksum with the source and fetch it again.",
    )
