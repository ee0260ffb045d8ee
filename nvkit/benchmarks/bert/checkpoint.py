"""Parameters and trained activation ranges of BERT from an ONNX file that PyTorch exported.

Such a file's initialisers have the names of the PyTorch module's parameters, e.g.
`bert.encoder.layer.0.attention.self.query.weight`, [outputs, inputs]; exporters that fold the transposition of a
weight give the result a number for a name, and then it is found beside its bias. The fake-quantised file also holds
the magnitudes (`..._quantizer._amax`) that its training found for the inputs of matrix products and additions. Which
tensor each belongs to is as in NVIDIA's submissions (closed/NVIDIA/code/bert/tensorrt/int8_builder_var_seqlen.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from nvkit.benchmarks.bert.network import Floats, Size, parameter_shapes
from nvkit.benchmarks.bert.tensors import HEAD_SIZE, OUTPUT
from nvkit.errors import ModelError
from nvkit.quantize.graph import load_model

_WORDS = "embeddings.word_embeddings.weight"
_HEAD = "qa_outputs."
_USE = (
    "Use bert_large_v1_1.onnx or bert_large_v1_1_fake_quant.onnx, or export BertForQuestionAnswering with torch.onnx."
)


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds, in the names of `nvkit.benchmarks.bert.network`.

    Attributes:
        size: The network's size.
        parameters: Every parameter.
        amax: Tensor to the magnitude that int8 represents as its largest; empty if the file was not trained for int8.
    """

    size: Size
    parameters: Mapping[str, Floats]
    amax: Mapping[str, float]


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a BERT for question answering.

    Raises:
        ModelError: the file is missing, not ONNX, or lacks parameters; the message names them.
    """
    file = _File(path)
    size = _size(file)
    parameters: dict[str, Floats] = {}
    for name, sources in _sources(size).items():
        parts = [part for source in sources if (part := file.parameter(source)) is not None]
        if len(parts) == len(sources):
            parameters[name] = np.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]
    file.require_all()
    for name, shape in parameter_shapes(size).items():
        if parameters[name].shape != shape:
            raise ModelError(
                f"{path}: {' and '.join(_sources(size)[name])} give {name} the shape {list(parameters[name].shape)}, "
                f"not {list(shape)}.",
                _USE,
            )
    amax = _amax(file, size) if file.trained else {}
    file.require_all()
    return Checkpoint(size, parameters, amax)


class _File:
    """Initialisers by name, lower case, without the underscores around a part and without the module's own prefix."""

    def __init__(self, path: Path) -> None:
        self.path = path
        model = load_model(path)
        tensors = {
            ".".join(part.strip("_") for part in tensor.name.lower().split(".")): tensor
            for tensor in model.graph.initializer
        }
        words = next((name for name in tensors if name.endswith(_WORDS)), None)
        if words is None:
            first = next(iter(tensors), "none")
            raise ModelError(f"{path} has no initialiser '...{_WORDS}' (its first: '{first}'): it is no BERT.", _USE)
        self._prefix = words.removesuffix(_WORDS)
        self._tensors = {self._role(name): tensor for name, tensor in tensors.items()}
        self._folded = {self._role(name): tensor for name, tensor in _folded_kernels(model).items()}
        self._missing: list[str] = []
        self.trained = any(name.endswith("quantizer.amax") for name in tensors)

    def _role(self, name: str) -> str:
        """Return a name without the prefixes of the modules around: of the encoder, and of the output layer."""
        _, head, end = name.rpartition(_HEAD)
        return f"{head}{end}" if head else name.removeprefix(self._prefix)

    def layers(self) -> int:
        """Count the encoder layers."""
        numbers = {name.split(".")[2] for name in self._tensors if name.startswith("encoder.layer.")}
        return len(numbers)

    def parameter(self, name: str) -> Floats | None:
        """Return a parameter, kernels as [inputs, outputs]; what is missing is remembered."""
        if name in self._tensors:
            value = _floats(self._tensors[name])
            return value.T if value.ndim == 2 and "embeddings" not in name else value
        if name in self._folded:
            return _floats(self._folded[name])
        self._missing.append(name)
        return None

    def amax(self, name: str) -> float:
        """Return the magnitude of a quantizer; what is missing is remembered."""
        tensor = self._tensors.get(f"{name}.amax")
        if tensor is None:
            self._missing.append(f"{name}._amax")
            return 0.0
        return float(np.max(_floats(tensor)))

    def require_all(self) -> None:
        """Raise a ModelError if anything that was asked for is missing."""
        if self._missing:
            first = ", ".join(self._missing[:3]) + (", ..." if len(self._missing) > 3 else "")
            raise ModelError(f"{self.path} lacks {len(self._missing)} of the initialisers of a BERT: {first}.", _USE)


def _folded_kernels(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """Return kernels [inputs, outputs] that have other names, under those that go with the bias added behind them."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    products = {node.output[0]: node for node in model.graph.node if node.op_type == "MatMul"}
    found = {}
    for node in model.graph.node:
        biases = [name for name in node.input if name in constants and name.endswith(".bias")]
        kernels = [products[name].input[1] for name in node.input if name in products]
        if node.op_type == "Add" and biases and kernels and kernels[0] in constants:
            found[biases[0].lower().removesuffix("bias") + "weight"] = constants[kernels[0]]
    return found


def _size(file: _File) -> Size:
    words = file.parameter(_WORDS)
    file.require_all()
    if words is None or words.ndim != 2 or words.shape[1] % HEAD_SIZE:
        raise ModelError(f"{file.path}: {_WORDS} is not [vocabulary, a multiple of {HEAD_SIZE}].", _USE)
    return Size(file.layers(), words.shape[1] // HEAD_SIZE, words.shape[0])


def _sources(size: Size) -> dict[str, list[str]]:
    """Return the initialisers that each parameter is made of, joined along the last axis where they are several."""
    sources = {
        "embeddings/word": [_WORDS],
        "embeddings/position": ["embeddings.position_embeddings.weight"],
        "embeddings/token_type": ["embeddings.token_type_embeddings.weight"],
    }

    def dense(name: str, *modules: str) -> None:
        sources[f"{name}/kernel"] = [f"{module}.weight" for module in modules]
        sources[f"{name}/bias"] = [f"{module}.bias" for module in modules]

    def normalised(name: str, module: str) -> None:
        sources.update({f"{name}/gamma": [f"{module}.layernorm.weight"], f"{name}/beta": [f"{module}.layernorm.bias"]})

    normalised("embeddings", "embeddings")
    for layer in range(size.layers):
        module = f"encoder.layer.{layer}"
        dense(f"l{layer}/qkv", *(f"{module}.attention.self.{part}" for part in ("query", "key", "value")))
        dense(f"l{layer}/projected", f"{module}.attention.output.dense")
        normalised(f"l{layer}/attended", f"{module}.attention.output")
        dense(f"l{layer}/intermediate", f"{module}.intermediate.dense")
        dense(f"l{layer}/output", f"{module}.output.dense")
        normalised(f"l{layer}/hidden", f"{module}.output")
    dense(OUTPUT, _HEAD.rstrip("."))
    return sources


def _amax(file: _File, size: Size) -> dict[str, float]:
    amax: dict[str, float] = {}
    source = "embeddings"
    for layer in range(size.layers):
        module, attention = f"encoder.layer.{layer}", f"encoder.layer.{layer}.attention"
        amax[source] = file.amax(f"{attention}.self.query.input_quantizer")
        # One tensor holds queries, keys and values: the inputs of the scores (qv) and the second of the sum (av).
        parts = ("qv_a_input_quantizer", "qv_b_input_quantizer", "av_b_input_quantizer")
        amax[f"l{layer}/qkv"] = max(file.amax(f"{attention}.self.{part}") for part in parts)
        amax[f"l{layer}/attention/probabilities"] = file.amax(f"{attention}.self.av_a_input_quantizer")
        amax[f"l{layer}/attention"] = file.amax(f"{attention}.output.dense.input_quantizer")
        amax[f"l{layer}/projected"] = file.amax(f"{attention}.output.add_local_input_quantizer")
        amax[f"l{layer}/attended"] = file.amax(f"{module}.intermediate.dense.input_quantizer")
        amax[f"l{layer}/gelu"] = file.amax(f"{module}.output.dense.input_quantizer")
        amax[f"l{layer}/output"] = file.amax(f"{module}.output.add_local_input_quantizer")
        source = f"l{layer}/hidden"
    amax[source] = file.amax("encoder.final_input_quantizer")
    return amax


def _floats(tensor: onnx.TensorProto) -> Floats:
    value: npt.NDArray[np.generic] = numpy_helper.to_array(tensor)
    return value.astype(np.float32, copy=False)
