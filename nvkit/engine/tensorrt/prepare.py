"""The ONNX graph that TensorRT parses, made from the seam's `Network`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from nvkit.engine.base import Network
from nvkit.engine.tensorrt import detection, transformer
from nvkit.engine.tensorrt.detection_kernels import Ending
from nvkit.engine.tensorrt.fusions import SMALL_TILE, fuse
from nvkit.engine.tensorrt.onnx_graph import CLASSES, Tail, classes_on_device, convolutional_tail
from nvkit.engine.tensorrt.onnx_tools import inlined
from nvkit.engine.tensorrt.onnx_types import set_input_type, to_fp8, to_half
from nvkit.engine.tensorrt.packed import Form, Packed, Padded
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
        float_outputs: Layers that compute in int8 and give floats.
        outputs: Outputs that are not linear floats or whole numbers, to type and layout.
        detector: What became of a detector's end, None of another network.
        form: How batches of samples of different lengths lie in memory, None where all have one shape.
        precisions: Layer to the precision that is asked of it.
    """

    model: onnx.ModelProto
    tail: Tail
    ranges: TensorRanges | None = None
    plugins: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default_factory=tuple)
    float_outputs: frozenset[str] = frozenset()
    outputs: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    detector: Ending | None = None
    form: Form | None = None
    precisions: Mapping[str, str] = field(default_factory=dict)


def implicit_graph(network: Network, settings: Any, plugins: Collection[str], way: str = "kernels") -> Prepared:
    """Return the fp32 graph, with the range of every tensor beside it, for a TensorRT that takes ranges.

    Args:
        network: The network; its Q/DQ form is not used, for implicit ranges run faster on TensorRT 8.6.
        settings: Resolved values.
        plugins: Plugins that may be put into an int8 graph.
        way: How a detector's graph ends, see `detection`.

    Raises:
        EngineBuildError: there are no ranges for int8.
        ModelError: the ONNX file is not usable, or lacks the output.
    """
    from nvkit.quantize.graph import keep_output, prepare
    from nvkit.quantize.ranges import Ranges

    model = prepare(network.model)
    keep_output(model, network.output, network.model)
    if network.variable:
        return _implicit_variable(model, network, settings, plugins)
    quantised = settings.precision == "int8"
    call, ending = detection.call_of(model), None
    if call is not None:
        ending = detection.end(model, call, way, quantised=quantised)
        tail = Tail(None, 0, ending.notes)
    else:
        tail = classes_on_device(model, network.output, network.background)
    notes = list(tail.notes)
    scaled = settings.input_dtype == "int8"
    given = {value.name: network.input_scale * _INT8_STEPS for value in model.graph.input} if scaled else {}
    ranges = TensorRanges(given, {"given": len(given)}) if given else None
    found = ending.plugins if ending else ()
    floats = ending.float_outputs if ending else frozenset[str]()
    if quantised:
        if network.ranges is None:
            raise EngineBuildError("There are no activation ranges to build an int8 engine from.", _CALIBRATE)
        if tail.logits and (done := convolutional_tail(model, tail.logits)):
            notes.append(done)
            floats = frozenset({CLASSES})
        ranges = every_range(model, Ranges.load(network.ranges), {**given, **(ending.amax if ending else {})})
        fused = fuse(model, ranges.amax, plugins) if plugins else ()
        notes += fused
        put_in = {name for name in plugins if any(node.op_type == name for node in model.graph.node)}
        found = tuple(sorted({*found, *put_in}))
        here = {name for node in model.graph.node for name in node.output} | {value.name for value in model.graph.input}
        here -= ending.rangeless if ending else frozenset()
        ranges = replace(ranges, amax={name: value for name, value in ranges.amax.items() if name in here})
    _finish(model)
    outputs = ending.outputs if ending else {}
    return Prepared(model, tail, ranges, found, tuple(notes), floats, outputs, ending)


def _implicit_variable(model: onnx.ModelProto, network: Network, settings: Any, plugins: Collection[str]) -> Prepared:
    """Return a network of samples of different lengths: packed by NVIDIA's plugins, else padded and in float."""
    from nvkit.quantize.ranges import Ranges

    precision = settings.precision
    reason = transformer.obstacle(model, precision) if plugins else ""
    if (reason or not plugins) and precision == "int8":
        raise EngineBuildError(
            "TensorRT with implicit ranges computes transformers in int8 through NVIDIA's plugins only: "
            f"{reason or 'they cannot be had'}.",
            "Choose --precision fp16.",
        )
    if reason or not plugins:
        form = Padded(tuple(value.name for value in model.graph.input), transformer.longest_of(model))
        model = inlined(model)
        _finish(model)
        return Prepared(model, _NO_TAIL, form=form, notes=(f"batches are padded: {reason}",) if reason else ())
    if precision == "int8" and network.ranges is None:
        raise EngineBuildError("There are no activation ranges to build an int8 engine from.", _CALIBRATE)
    observed = Ranges.load(network.ranges) if precision == "int8" and network.ranges is not None else None
    graph = transformer.pack(model, precision, observed, tiles=SMALL_TILE in plugins)
    sources = tuple(value.name for value in graph.model.graph.input[:2])
    return Prepared(
        graph.model,
        _NO_TAIL,
        TensorRanges(graph.amax, {"observed": len(graph.amax)}) if graph.amax else None,
        tuple(sorted(name for name in plugins if any(node.op_type == name for node in graph.model.graph.node))),
        graph.notes,
        form=Packed(sources, graph.longest),
        precisions=graph.precisions,
    )


def typed_graph(network: Network, settings: Any, way: str = "kernels") -> Prepared:
    """Return the graph in which every tensor has its type, for a TensorRT with strongly typed networks.

    Args:
        network: The network.
        settings: Resolved values.
        way: How a detector's graph ends, see `detection`.

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
    form = detached = ending = None
    if network.variable:
        form = Padded(tuple(value.name for value in model.graph.input), transformer.longest_of(model))
        model = inlined(model)
        tail = _NO_TAIL
    elif detection.call_of(model) is not None:
        model = prepare(source)  # for the shapes
        call = detection.call_of(model)
        assert call is not None
        tail = _NO_TAIL
        if way != "body":
            ending = detection.end(model, call, way, quantised=False)
        else:
            detached = detection.detach(model, call)
            ending = Ending(("detections by the function's own operators, in fp32",))
    else:
        tail = classes_on_device(model, network.output, network.background)
    notes = list(tail.notes)
    if precision == "fp8":
        to_fp8(model)
        notes.append("Q/DQ of int8 made that of fp8: the same ranges, 448 steps")
    if precision == "fp16":
        to_half(model)
        notes.append("weights and activations in fp16")
    elif form is not None and precision in QUANTISED:
        to_half(model)  # attention and normalisations, which no Q and DQ surround
        notes.append("what is not quantised in fp16")
    for value in list(model.graph.input):
        set_input_type(model, value.name, settings.input_dtype, network.input_scale)
    if detached is not None:
        model = detection.attach(model, detached)
    notes += ending.notes if ending else ()
    _finish(model)
    return Prepared(model, tail, notes=tuple(notes), form=form, detector=ending)


_CALIBRATE = "Run the calibrate stage first."
_NO_TAIL = Tail(None, 0, ())


def _finish(model: onnx.ModelProto) -> None:
    """Drop what other tools left: shapes that no longer hold, and operator sets that no node is of."""
    del model.graph.value_info[:]
    used = {node.domain or "ai.onnx" for node in model.graph.node} | {"ai.onnx"}
    for number in reversed(range(len(model.opset_import))):
        if (model.opset_import[number].domain or "ai.onnx") not in used:
            del model.opset_import[number]
