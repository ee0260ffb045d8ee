"""Explicit Q/DQ int8 networks from activation ranges, by ONNX Runtime's QDQ quantizer.

nvkit decides which tensors are quantised and with which range; the library rewrites the graph. Two schemes:

- "uint8", for ONNX Runtime on CPUs: activations that cannot be negative are uint8 with zero point 0, which makes ReLU
  part of the quantisation, all others uint8 with zero point 128; weights are int8 per output channel, biases int32.
  x86 multiplies uint8 by int8 in one instruction (VNNI), while the int8 by int8 network that the library makes by
  default runs slower than fp32.
- "int8", for TensorRT: symmetric int8, float biases, Q/DQ pairs on weights, and the output of a convolution that is
  added to a shortcut is left alone, so that TensorRT fuses convolution, addition and ReLU.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nvkit.errors import RangesError, nearest
from nvkit.quantize.graph import COMPOSITE, WEIGHTED, consumers, non_negative, prepare, quantizable
from nvkit.quantize.ranges import Ranges, TensorRange
from nvkit.store import file_digest, replacing

if TYPE_CHECKING:
    import onnx

SCHEMES = ("uint8", "int8")


@dataclass(frozen=True)
class QdqReport:
    """What a quantisation did.

    Attributes:
        path: The Q/DQ ONNX file.
        digest: SHA-256 of the file.
        scheme: "uint8" or "int8".
        tensors: Activations that got Q/DQ, in network order.
        without_range: Activations that int8 would quantise but for which there is no range; they stay float.
        layers: Operator type to the number of its nodes that have int8 weights.
        bytes_before: Size of the fp32 file.
        bytes_after: Size of the Q/DQ file.
    """

    path: Path
    digest: str
    scheme: str
    tensors: tuple[str, ...]
    without_range: tuple[str, ...]
    layers: Mapping[str, int]
    bytes_before: int
    bytes_after: int


def quantize(model: Path, ranges: Ranges, out: Path, *, scheme: str = "uint8") -> QdqReport:
    """Write the explicit Q/DQ int8 network of an fp32 one.

    Weights are symmetric int8 for each output channel (scale = largest magnitude / 127). Values outside a tensor's
    amax are clipped. Layers after the last weighted one, and that layer's output, stay float.

    Args:
        model: The fp32 ONNX file that the ranges belong to.
        ranges: Activation ranges by tensor name.
        out: The file to write, atomically.
        scheme: "uint8" for ONNX Runtime on CPUs, "int8" for TensorRT.

    Raises:
        ModelError: the ONNX file is not usable.
        RangesError: the ranges are of another network, or none of them fits a tensor, or the scheme is unknown.
    """
    if scheme not in SCHEMES:
        raise RangesError(f"There is no quantisation scheme '{scheme}'.", nearest(scheme, SCHEMES))
    digest = file_digest(model) if model.is_file() else ""
    if digest and ranges.model and ranges.model != digest:
        raise RangesError(
            f"The activation ranges were observed on another network (SHA-256 {ranges.model[:12]}..., "
            f"{model.name} is {digest[:12]}...).",
            "Run the calibrate stage for this network.",
        )
    network = prepare(model)
    candidates = quantizable(network)
    if scheme == "int8":
        candidates = _without_fused_additions(network, candidates)
    ranged = [name for name in candidates if name in ranges.tensors]
    if not ranged:
        raise RangesError(
            f"None of the {len(ranges.tensors)} ranges is of a tensor that int8 quantises in {model.name} "
            f"(the first such tensor is '{candidates[0] if candidates else 'none'}').",
            "Use ranges of this network.",
        )
    positive = non_negative(network)
    limits = {name: _limits(ranges.tensors[name], scheme, name in positive) for name in ranged}
    quantized = _insert(network, limits, scheme)
    layers = _int8_layers(quantized)
    with replacing(out) as temporary:
        temporary.write_bytes(quantized.SerializeToString())
    return QdqReport(
        path=out,
        digest=file_digest(out),
        scheme=scheme,
        tensors=tuple(ranged),
        without_range=tuple(name for name in candidates if name not in limits),
        layers=layers,
        bytes_before=model.stat().st_size,
        bytes_after=out.stat().st_size,
    )


def _limits(known: TensorRange, scheme: str, positive: bool) -> tuple[float, float]:
    """Return the smallest and the largest value that the quantised tensor represents."""
    amax = known.amax if known.amax > 0 else 1.0  # a tensor of zeros: any scale represents it
    return (0.0 if scheme == "uint8" and positive else -amax), amax


def _without_fused_additions(network: onnx.ModelProto, names: list[str]) -> list[str]:
    """Leave out one convolution output of each addition: the one that TensorRT computes in the same kernel."""
    producer = {name: node for node in network.graph.node for name in node.output}
    readers = consumers(network)
    fused = set()
    for node in network.graph.node:
        if node.op_type != "Add":
            continue
        for name in node.input:
            layer = producer.get(name)
            if layer is not None and layer.op_type in WEIGHTED and len(readers[name]) == 1:
                fused.add(name)
                break
    return [name for name in names if name not in fused]


def _insert(network: onnx.ModelProto, limits: Mapping[str, tuple[float, float]], scheme: str) -> onnx.ModelProto:
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    class Quantizer(QDQQuantizer):  # type: ignore[misc]
        """The library's, for the tensors that have a range only: by itself it quantises each layer's output."""

        def quantize_activation_tensor(self, tensor_name: str) -> None:
            if tensor_name in limits:
                super().quantize_activation_tensor(tensor_name)

        def quantize_output_same_as_input(self, output_name: str, input_name: str, node_name: str) -> None:
            if output_name in limits:
                super().quantize_output_same_as_input(output_name, input_name, node_name)

    data = {name: (np.float32(low), np.float32(high)) for name, (low, high) in limits.items()}
    symmetric = scheme == "int8"
    options: dict[str, Any] = {
        "ActivationSymmetric": symmetric,
        "WeightSymmetric": True,
        "AddQDQPairToWeight": symmetric,
        "QuantizeBias": not symmetric,
        "QDQKeepRemovableActivations": True,
    }
    floats = [node.name for node in network.graph.node if node.op_type in WEIGHTED and node.input[0] not in limits]
    quantizer = Quantizer(
        network,
        True,  # per channel
        False,  # full 8-bit weights: VNNI accumulates in 32 bits and cannot saturate in between
        QuantType.QInt8,
        QuantType.QInt8 if symmetric else QuantType.QUInt8,
        TensorsData(CalibrationMethod.MinMax, data),
        [],
        floats,
        sorted(
            {*QDQRegistry, *QLinearOpsRegistry, "ReduceMean", "Sum"} - {"Softmax"}
        ),  # stays float, as its Gemm's output
        options,
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    result: onnx.ModelProto = quantizer.model.model
    _feed_composites(result)
    return result


def _feed_composites(network: onnx.ModelProto) -> None:
    """Let composite operations read the floats themselves where the library gave them what came through Q and DQ.

    They compute in float, so a pair in front of them would only cost time and, on a transformer's residual stream,
    which passes one in every block, accuracy.
    """
    producer = {name: node for node in network.graph.node for name in node.output}
    for node in network.graph.node:
        if node.domain != COMPOSITE:
            continue
        for position, name in enumerate(node.input):
            dequantize = producer.get(name)
            quantize = producer.get(dequantize.input[0]) if dequantize is not None else None
            if quantize is not None and quantize.op_type == "QuantizeLinear":
                node.input[position] = quantize.input[0]


def _int8_layers(network: onnx.ModelProto) -> dict[str, int]:
    """Count the layers whose weights come out of a DequantizeLinear."""
    dequantized = {node.output[0] for node in network.graph.node if node.op_type == "DequantizeLinear"}
    layers = Counter(
        node.op_type
        for node in network.graph.node
        if node.op_type in WEIGHTED and all(name in dequantized for name in node.input[:2])
    )
    return dict(layers.most_common())
