"""ONNX graph to TensorRT's network definition."""

from __future__ import annotations

from typing import Any

from nvkit.engine.tensorrt.flavours import Library
from nvkit.engine.tensorrt.prepare import Prepared
from nvkit.errors import ConfigError, EngineBuildError, ModelError

_CLASSES = "nvkit/classes"
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
    if prepared.ranges is not None:
        _set_ranges(library, network, prepared.ranges.amax, settings.precision == "int8")
    return network


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


def _set_ranges(library: Library, network: Any, amax: Any, everywhere: bool) -> None:
    """Set the range of the inputs and, if everywhere, of every tensor.

    A tensor that TensorRT's parser put in gets that of what it is made from.
    """
    trt = library.trt
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
        if layer.name == _CLASSES:
            # The scores are compared, so they keep their resolution; their range is a bound and not observed.
            layer.precision = trt.DataType.INT8
            layer.set_output_type(0, trt.DataType.FLOAT)
