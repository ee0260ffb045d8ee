"""The ONNX graph that TensorRT parses, made from the seam's `Network`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from nvkit.engine.base import Network
from nvkit.engine.tensorrt.fusions import fuse
from nvkit.engine.tensorrt.onnx_graph import Tail, classes_on_device, convolutional_tail
from nvkit.engine.tensorrt.onnx_types import set_input_type, to_fp8, to_half
from nvkit.engine.tensorrt.ranges import TensorRanges, every_range
from nvkit.errors import EngineBuildError

if TYPE_CHECKING:
    import onnx

_INT8_STEPS = 127
QUANTISED = ("int8", "fp8")


@dataclass(frozen=True)
class Prepared:
    """A graph ready to be parsed.

    Attributes:
        model: The graph.
        tail: What became of its end.
        ranges: Ranges of all tensors for implicit int8, of int8 inputs for other implicit precisions, else None.
        plugins: Plugins that it holds.
        notes: What was changed, for people.
    """

    model: onnx.ModelProto
    tail: Tail
    ranges: TensorRanges | None = None
    plugins: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default_factory=tuple)


def implicit_graph(network: Network, settings: Any, plugins: Collection[str]) -> Prepared:
    """Return the fp32 graph, with the range of every tensor beside it, for a TensorRT that takes ranges.

    Args:
        network: The network; its Q/DQ form is not used, for implicit ranges run faster on TensorRT 8.6.
        settings: Resolved values.
        plugins: Plugins that may be put into an int8 graph.

    Raises:
        EngineBuildError: there are no ranges for int8.
        ModelError: the ONNX file is not usable, or lacks the output.
    """
    from nvkit.quantize.graph import keep_output, prepare
    from nvkit.quantize.ranges import Ranges

    model = prepare(network.model)
    keep_output(model, network.output, network.model)
    tail = classes_on_device(model, network.output, network.background)
    notes = list(tail.notes)
    scaled = settings.input_dtype == "int8"
    given = {value.name: network.input_scale * _INT8_STEPS for value in model.graph.input} if scaled else {}
    ranges = TensorRanges(given, {"given": len(given)}) if given else None
    found: tuple[str, ...] = ()
    if settings.precision == "int8":
        if network.ranges is None:
            raise EngineBuildError("There are no activation ranges to build an int8 engine from.", _CALIBRATE)
        if tail.logits and (done := convolutional_tail(model, tail.logits)):
            notes.append(done)
        ranges = every_range(model, Ranges.load(network.ranges), given)
        fused = fuse(model, ranges.amax, plugins) if plugins else ()
        notes += fused
        found = tuple(sorted(name for name in plugins if any(node.op_type == name for node in model.graph.node)))
        here = {name for node in model.graph.node for name in node.output} | {value.name for value in model.graph.input}
        ranges = replace(ranges, amax={name: value for name, value in ranges.amax.items() if name in here})
    _finish(model)
    return Prepared(model, tail, ranges, found, tuple(notes))


def typed_graph(network: Network, settings: Any) -> Prepared:
    """Return the graph in which every tensor has its type, for a TensorRT with strongly typed networks.

    Raises:
        EngineBuildError: there is no quantised network for int8 or fp8.
        ModelError: the ONNX file is not usable, or lacks the output.
    """
    from nvkit.quantize.graph import keep_output, load_model, prepare

    precision = settings.precision
    if precision in QUANTISED:
        if network.quantized is None:
            raise EngineBuildError(f"There is no quantised network to build an {precision} engine from.", _CALIBRATE)
        model, source = load_model(network.quantized), network.quantized
    else:
        model, source = prepare(network.model), network.model
    keep_output(model, network.output, source)
    tail = classes_on_device(model, network.output, network.background)
    notes = list(tail.notes)
    if precision == "fp8":
        to_fp8(model)
        notes.append("Q/DQ of int8 made that of fp8: the same ranges, 448 steps")
    if precision == "fp16":
        to_half(model)
        notes.append("weights and activations in fp16")
    for value in list(model.graph.input):
        set_input_type(model, value.name, settings.input_dtype, network.input_scale)
    _finish(model)
    return Prepared(model, tail, notes=tuple(notes))


_CALIBRATE = "Run the calibrate stage first."


def _finish(model: onnx.ModelProto) -> None:
    """Drop what other tools left: shapes that no longer hold, and operator sets that no node is of."""
    del model.graph.value_info[:]
    used = {node.domain or "ai.onnx" for node in model.graph.node} | {"ai.onnx"}
    for number in reversed(range(len(model.opset_import))):
        if (model.opset_import[number].domain or "ai.onnx") not in used:
            del model.opset_import[number]
