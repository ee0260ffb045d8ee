"""Convolutions of the networks that nvkit builds, and how a network is put together from nodes and parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

OPSET = 13
IR_VERSION = 8
"""Explicit, because every onnxruntime since 1.20 reads it and not every one reads the newest."""

Floats = npt.NDArray[np.float32]
Parameters = dict[str, tuple[Floats, Floats]]
"""Kernel [out, in / groups, k, k] and bias [out] of each convolution, by its name."""


@dataclass(frozen=True)
class Conv:
    """One convolution: square kernel, padded by half of it on each side."""

    name: str
    inputs: int
    outputs: int
    kernel: int
    stride: int
    groups: int = 1


def conv_node(conv: Conv, source: str, target: str, *, bias: bool = True, name: str | None = None) -> onnx.NodeProto:
    """Return the ONNX node of a convolution; its parameters are `<conv.name>/kernel` and `<conv.name>/bias`.

    Args:
        conv: The convolution.
        source: Tensor that it reads.
        target: Tensor that it makes.
        bias: Whether it has a bias.
        name: Of the node, where several share the parameters.
    """
    pad = conv.kernel // 2
    grouped: dict[str, Any] = {"group": conv.groups} if conv.groups > 1 else {}
    return helper.make_node(
        "Conv",
        [source, f"{conv.name}/kernel", *([f"{conv.name}/bias"] if bias else [])],
        [target],
        name=name or f"{conv.name}/Conv2D",
        kernel_shape=[conv.kernel, conv.kernel],
        strides=[conv.stride, conv.stride],
        pads=[pad, pad, pad, pad],
        **grouped,
    )


def initialisers(parameters: Parameters) -> dict[str, Floats]:
    """Return kernels and biases by the names that `conv_node` reads."""
    return {
        f"{name}/{part}": value
        for name, pair in parameters.items()
        for part, value in zip(("kernel", "bias"), pair, strict=True)
    }


def finish(
    nodes: list[onnx.NodeProto],
    parameters: Mapping[str, npt.NDArray[np.generic]],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    name: str,
    *,
    opset: int = OPSET,
    functions: Sequence[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    """Wrap nodes and parameters into a model of this opset and this module's IR version."""
    tensors = [numpy_helper.from_array(np.ascontiguousarray(value), key) for key, value in parameters.items()]
    graph = helper.make_graph(nodes, name, inputs, outputs, tensors)
    domains = sorted({function.domain for function in functions})
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)],
        ir_version=IR_VERSION,
        producer_name="nvkit",
        **({"functions": list(functions)} if functions else {}),
    )
