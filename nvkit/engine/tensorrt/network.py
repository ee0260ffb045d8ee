"""ONNX graph to TensorRT's network definition."""

from __future__ import annotations

from typing import Any

from nvkit.engine.tensorrt.flavours import Library
from nvkit.engine.tensorrt.options import parse_options
from nvkit.engine.tensorrt.packed import Packed
from nvkit.engine.tensorrt.prepare import Prepared
from nvkit.engine.tensorrt.products import connect_fully, fully_connected
from nvkit.errors import ConfigError, EngineBuildError, ModelError

_FORMATS = ("linear", "chw4", "chw32")  # layouts that the runner puts samples into
_DTYPES = {"fp32": "FLOAT", "fp16": "HALF", "int8": "INT8", "int32": "INT32"}


def parse(library: Library, builder: Any, prepared: Prepared, settings: Any) -> Any:
    """Return the network definition of a graph.

    Raises:
        ModelError: TensorRT's parser refuses the graph; the message names the nodes.
        ConfigError: the input cannot have the type of the settings.
        EngineBuildError: TensorRT makes no network at all.
    """
    trt = library.trt
    flags = trt.NetworkDefinitionCreationFlag
    kind = flags.STRONGLY_TYPED if library.strongly_typed else flags.EXPLICIT_BATCH
    network = builder.create_network(1 << int(kind))
    if network is None:
        raise EngineBuildError(
            f"{library.title} makes no network: {'; '.join(library.log.taken()) or 'it does not say why'}.",
            "Check the driver with `nvkit doctor`.",
        )
    parser = trt.OnnxParser(network, library.log)
    if not parser.parse(prepared.model.SerializeToString()):
        raise ModelError(
            f"{library.title} cannot parse the network: {'; '.join(_errors(parser, prepared)) or 'no reason given'}.",
            "An operator that it lacks needs a newer TensorRT; --backend onnxruntime runs on the CPU.",
        )
    for number in range(network.num_inputs):
        _set_input(library, network.get_input(number), settings)
    for number in range(network.num_outputs):
        _set_output(library, network.get_output(number), prepared)
    if isinstance(prepared.form, Packed) and fully_connected(library, parse_options(settings.builder_options)):
        connect_fully(library, network)
    if prepared.form is not None:
        _set_hints(library, network, prepared)
    elif prepared.ranges is not None:
        _set_ranges(library, network, prepared, settings.precision == "int8")
    return network


def _set_hints(library: Library, network: Any, prepared: Prepared) -> None:
    """Set the ranges and precisions that the graph comes with, and no others.

    A tensor between a convolution and its GELU must not have a range: TensorRT would round to int8 between the two.
    """
    amax = prepared.ranges.amax if prepared.ranges is not None else {}
    types = {name: getattr(library.trt.DataType, kind) for name, kind in _DTYPES.items()}
    for number in range(network.num_layers):
        layer = network.get_layer(number)
        if layer.name in prepared.precisions:
            layer.precision = types[prepared.precisions[layer.name]]
        for i in range(layer.num_outputs):
            tensor = layer.get_output(i)
            if tensor.name in amax:
                tensor.set_dynamic_range(-amax[tensor.name], amax[tensor.name])


def _errors(parser: Any, prepared: Prepared) -> list[str]:
    nodes = prepared.model.graph.node
    found = []
    for number in range(parser.num_errors):
        error = parser.get_error(number)
        index = error.node()
        name = error.node_name() if hasattr(error, "node_name") else ""
        if not name and 0 <= index < len(nodes):
            name = nodes[index].name or nodes[index].op_type
        found.append(f"node '{name}': {error.desc()}" if name else str(error.desc()))
    return found


def _set_input(library: Library, tensor: Any, settings: Any) -> None:
    trt = library.trt
    if settings.input_format not in _FORMATS:
        raise ConfigError(
            f"input_format is {settings.input_format}, which is for volumes; input '{tensor.name}' has none.",
            f"Choose among {', '.join(_FORMATS)}.",
        )
    wanted = getattr(trt.DataType, _DTYPES[settings.input_dtype])
    if tensor.dtype != wanted:
        # A strongly typed network takes the types of the graph, which are set there.
        if library.strongly_typed or tensor.dtype != trt.DataType.FLOAT or settings.input_dtype == "int32":
            raise ConfigError(
                f"input_dtype is {settings.input_dtype}, but input '{tensor.name}' is {tensor.dtype.name}.",
                "Choose the input_dtype of the network.",
            )
        tensor.dtype = wanted
    tensor.allowed_formats = 1 << int(getattr(trt.TensorFormat, settings.input_format.upper()))


def _set_output(library: Library, tensor: Any, prepared: Prepared) -> None:
    """Set type and layout of an output that is to have others than the parser gave it."""
    if tensor.name in prepared.outputs:
        dtype, layout = prepared.outputs[tensor.name]
        tensor.dtype = getattr(library.trt.DataType, _DTYPES[dtype])
        tensor.allowed_formats = 1 << int(getattr(library.trt.TensorFormat, layout.upper()))


def _set_ranges(library: Library, network: Any, prepared: Prepared, everywhere: bool) -> None:
    """Set the range of the inputs and, if everywhere, of every tensor.

    A tensor that TensorRT's parser put in gets that of what it is made from.
    """
    trt = library.trt
    assert prepared.ranges is not None
    amax = prepared.ranges.amax
    floats = (trt.DataType.FLOAT, trt.DataType.HALF, trt.DataType.INT8)

    def give(tensor: Any, fallback: float | None) -> float | None:
        known: float | None = amax.get(tensor.name, fallback)
        if known is not None and tensor.dtype in floats:
            tensor.set_dynamic_range(-known, known)
        return known

    made: dict[str, float | None] = {}
    for number in range(network.num_inputs):
        tensor = network.get_input(number)
        made[tensor.name] = give(tensor, None)
    for number in range(network.num_layers if everywhere else 0):
        layer = network.get_layer(number)
        sources = [layer.get_input(i) for i in range(layer.num_inputs)]
        known = [value for source in sources if source is not None and (value := made.get(source.name)) is not None]
        for i in range(layer.num_outputs):
            tensor = layer.get_output(i)
            made[tensor.name] = give(tensor, max(known, default=None))
        if layer.name in prepared.float_outputs:
            # What is compared keeps its resolution; its range is a bound and not observed.
            layer.precision = trt.DataType.INT8
            layer.set_output_type(0, trt.DataType.FLOAT)
            if prepared.detector is not None:  # scores and boxes stay floats to the end
                made.update({layer.get_output(i).name: None for i in range(layer.num_outputs)})
