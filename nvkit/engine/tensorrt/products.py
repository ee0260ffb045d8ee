"""The matrix products of a packed transformer as fully connected layers, which TensorRT 8.6 has beside convolutions.

ONNX cannot say it, so it is done on TensorRT's own definition. NVIDIA's fp16 builders use these layers and its int8
builders convolutions. builder_options "products=fully_connected" chooses them.
"""

from __future__ import annotations

from typing import Any

from nvkit.engine.tensorrt.flavours import Library
from nvkit.errors import ConfigError, nearest

OPTION = "products"
_KINDS = ("convolution", "fully_connected")


def fully_connected(library: Library, options: dict[str, str]) -> bool:
    """Tell whether the options ask for fully connected layers.

    Raises:
        ConfigError: they ask for something else, or this TensorRT has none.
    """
    kind = options.get(OPTION, _KINDS[0])
    if kind not in _KINDS:
        raise ConfigError(f"builder_options: {OPTION} is '{kind}'.", nearest(kind, _KINDS))
    if kind == _KINDS[1] and not hasattr(library.trt.LayerType, "FULLY_CONNECTED"):
        raise ConfigError(f"{library.title} has no fully connected layers.", f"Leave {OPTION} out.")
    return kind == _KINDS[1]


def connect_fully(library: Library, network: Any) -> None:
    """Put a fully connected layer in the place of every 1x1 convolution; names of layers and tensors stay."""
    trt = library.trt
    made: dict[str, Any] = {}
    for number in range(network.num_layers):
        layer = network.get_layer(number)
        if layer.type != trt.LayerType.CONVOLUTION:
            continue
        layer.__class__ = trt.IConvolutionLayer  # the bindings give every layer its base class
        old = layer.get_output(0)
        new = network.add_fully_connected(layer.get_input(0), layer.num_output_maps, layer.kernel, layer.bias)
        name, tensor = layer.name, old.name
        layer.name, old.name = f"{name}/convolution", f"{tensor}/convolution"
        new.name, new.get_output(0).name = name, tensor
        made[old.name] = new.get_output(0)
    for number in range(network.num_layers):
        layer = network.get_layer(number)
        for i in range(layer.num_inputs):
            source = layer.get_input(i)
            if source is not None and source.name in made:
                layer.set_input(i, made[source.name])
    for number in range(network.num_outputs):
        output = network.get_output(number)
        if output.name in made:
            network.unmark_output(output)
            network.mark_output(made[output.name])
            made[output.name].dtype = output.dtype
