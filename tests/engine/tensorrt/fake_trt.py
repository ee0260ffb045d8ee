"""A stand-in for TensorRT 8.6's Python module: it parses real ONNX, builds nothing, and remembers what it was told."""

from __future__ import annotations

import enum
import json
import re
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import onnx

__version__ = "8.6.1"


class DataType(enum.Enum):
    FLOAT = 0
    HALF = 1
    INT8 = 2
    INT32 = 3


class TensorFormat(enum.IntEnum):
    LINEAR = 0
    CHW4 = 3
    CHW32 = 5


class NetworkDefinitionCreationFlag(enum.IntEnum):
    EXPLICIT_BATCH = 0


class BuilderFlag(enum.IntEnum):
    FP16 = 0
    INT8 = 1
    GPU_FALLBACK = 3
    TF32 = 7
    PREFER_PRECISION_CONSTRAINTS = 11


class TacticSource(enum.IntEnum):
    CUBLAS = 0
    CUBLAS_LT = 1
    CUDNN = 2
    EDGE_MASK_CONVOLUTIONS = 3
    JIT_CONVOLUTIONS = 4


class ProfilingVerbosity(enum.Enum):
    LAYER_NAMES_ONLY = 0
    DETAILED = 2


class HardwareCompatibilityLevel(enum.Enum):
    NONE = 0
    AMPERE_PLUS = 1


class PreviewFeature(enum.Enum):
    FASTER_DYNAMIC_SHAPES_0805 = 0
    PROFILE_SHARING_0806 = 2


class MemoryPoolType(enum.Enum):
    WORKSPACE = 0


class DeviceType(enum.Enum):
    GPU = 0
    DLA = 1


class LayerInformationFormat(enum.Enum):
    JSON = 1


class ILogger:
    class Severity(enum.Enum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3
        VERBOSE = 4


def nptype(dtype: DataType) -> type:
    return {DataType.FLOAT: np.float32, DataType.HALF: np.float16, DataType.INT8: np.int8, DataType.INT32: np.int32}[
        dtype
    ]


class Tensor:
    def __init__(self, name: str, dtype: DataType, shape: tuple[int, ...] = ()) -> None:
        self.name, self.dtype, self.shape = name, dtype, shape
        self.allowed_formats = 0
        self.range: tuple[float, float] | None = None

    def set_dynamic_range(self, low: float, high: float) -> None:
        self.range = (low, high)


class LayerType(enum.Enum):
    CONVOLUTION = 0
    FULLY_CONNECTED = 1
    OTHER = 2


class Layer:
    type = LayerType.OTHER

    def __init__(self, name: str, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        self.name, self._inputs, self._outputs = name, inputs, outputs
        self.num_inputs, self.num_outputs = len(inputs), len(outputs)
        self.precision: DataType | None = None
        self.weights: list[Any] = []
        self.output_types: dict[int, DataType] = {}

    def get_input(self, index: int) -> Tensor:
        return self._inputs[index]

    def get_output(self, index: int) -> Tensor:
        return self._outputs[index]

    def set_input(self, index: int, tensor: Tensor) -> None:
        self._inputs[index] = tensor

    def set_output_type(self, index: int, dtype: DataType) -> None:
        self.output_types[index] = dtype


class IConvolutionLayer(Layer):
    """What a layer is only after it has been told its class, as with TensorRT's bindings."""

    type = LayerType.CONVOLUTION

    @property
    def kernel(self) -> np.ndarray[Any, Any]:
        return self.weights[0]

    @property
    def bias(self) -> np.ndarray[Any, Any]:
        return self.weights[1]

    @property
    def num_output_maps(self) -> int:
        return len(self.bias)


class Network:
    def __init__(self, flags: int) -> None:
        self.flags = flags
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.layers: list[Layer] = []
        self.num_inputs = self.num_outputs = self.num_layers = 0

    def get_input(self, index: int) -> Tensor:
        return self.inputs[index]

    def get_output(self, index: int) -> Tensor:
        return self.outputs[index]

    def get_layer(self, index: int) -> Layer:
        return self.layers[index]

    def add_fully_connected(self, source: Tensor, count: int, kernel: Any, bias: Any) -> Layer:
        layer = Layer("", [source], [Tensor("", DataType.FLOAT, (-1, count, 1, 1))])
        layer.type, layer.weights = LayerType.FULLY_CONNECTED, [kernel, bias]
        self.layers.append(layer)
        self.num_layers += 1
        return layer

    def unmark_output(self, tensor: Tensor) -> None:
        self.outputs.remove(tensor)

    def mark_output(self, tensor: Tensor) -> None:
        self.outputs.append(tensor)


class OnnxParser:
    """Makes a layer of every node, and before the first one a layer of its own, as TensorRT's parser does."""

    unknown = "NoSuchOperator"

    def __init__(self, network: Network, logger: Any) -> None:
        self._network = network
        self._errors: list[Any] = []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> Any:
        return self._errors[index]

    def parse(self, content: bytes) -> bool:
        graph = onnx.load_from_string(content).graph
        made: dict[str, Tensor] = {}
        weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
        for value in graph.input:
            dims = tuple(dim.dim_value or -1 for dim in value.type.tensor_type.shape.dim)
            whole = value.type.tensor_type.elem_type == onnx.TensorProto.INT32
            made[value.name] = Tensor(value.name, DataType.INT32 if whole else DataType.FLOAT, dims)
            self._network.inputs.append(made[value.name])
        for number, node in enumerate(graph.node):
            if node.op_type == self.unknown:
                error = SimpleNamespace(node=lambda number=number: number, desc=lambda: "No importer registered")
                self._errors.append(error)
                return False
            sources = [made[name] for name in node.input if name in made]
            if number == 0:
                moved = Tensor("(Unnamed Layer* 0) [Shuffle]_output", DataType.FLOAT)
                self._network.layers.append(Layer("shuffle", sources, [moved]))
                sources = [moved]
            integer = node.op_type in ("ArgMax", "Cast")
            outputs = [
                Tensor(name, DataType.INT32 if integer else DataType.FLOAT, (-1, 1, 1, 1)) for name in node.output
            ]
            made.update({tensor.name: tensor for tensor in outputs})
            self._network.layers.append(Layer(node.name, sources, outputs))
            if node.op_type == "Conv":
                self._network.layers[-1].type = LayerType.CONVOLUTION
                self._network.layers[-1].weights = [weights.get(name) for name in node.input[1:]]
        self._network.outputs = [made[value.name] for value in graph.output]
        for value, tensor in zip(graph.output, self._network.outputs, strict=True):
            if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16:
                tensor.dtype = DataType.HALF
        network = self._network
        network.num_inputs, network.num_outputs = len(network.inputs), len(network.outputs)
        network.num_layers = len(network.layers)
        return True


class Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, tuple[Any, Any, Any]] = {}

    def set_shape(self, name: str, low: Any, best: Any, high: Any) -> None:
        self.shapes[name] = (low, best, high)


class TimingCacheObject:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def combine(self, other: TimingCacheObject, ignore_mismatch: bool) -> bool:
        self.content = b"+".join(sorted({*self.content.split(b"+"), *other.content.split(b"+")}))
        return True

    def serialize(self) -> bytes:
        return self.content


class BuilderConfig:
    def __init__(self) -> None:
        self.set_flags = {BuilderFlag.TF32}
        self.pools: dict[MemoryPoolType, int] = {}
        self.tactics = 0b11111
        self.profiles: list[Profile] = []
        self.previews: set[PreviewFeature] = set()
        self.cache: TimingCacheObject | None = None
        self.profiling_verbosity = ProfilingVerbosity.LAYER_NAMES_ONLY
        self.default_device_type = DeviceType.GPU
        self._values: dict[str, Any] = {"builder_optimization_level": 3, "max_aux_streams": -1, "DLA_core": -1}
        self._values["hardware_compatibility_level"] = HardwareCompatibilityLevel.NONE

    def set_flag(self, flag: BuilderFlag) -> None:
        self.set_flags.add(flag)

    def clear_flag(self, flag: BuilderFlag) -> None:
        self.set_flags.discard(flag)

    def set_preview_feature(self, feature: PreviewFeature, enable: bool) -> None:
        (self.previews.add if enable else self.previews.discard)(feature)

    def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None:
        self.pools[pool] = size

    def get_tactic_sources(self) -> int:
        return self.tactics

    def set_tactic_sources(self, sources: int) -> bool:
        self.tactics = sources
        return True

    def add_optimization_profile(self, profile: Profile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, content: bytes) -> TimingCacheObject | None:
        return None if content == b"refused" else TimingCacheObject(content)

    def set_timing_cache(self, cache: TimingCacheObject, ignore_mismatch: bool) -> bool:
        self.cache = cache
        return True

    def get_timing_cache(self) -> TimingCacheObject | None:
        return self.cache


def _attribute(name: str) -> property:
    return property(lambda self: self._values[name], lambda self, value: self._values.__setitem__(name, value))


for _name in ("builder_optimization_level", "max_aux_streams", "DLA_core", "hardware_compatibility_level"):
    setattr(BuilderConfig, _name, _attribute(_name))


class Builder:
    """`plans` are what builds return, one after the other (None: it failed); the last is returned again and again."""

    plans: ClassVar[list[bytes | None]] = [b"a plan"]
    layers = ""
    complaint = ""
    warnings: tuple[str, ...] = ()
    made: ClassVar[list[Builder]] = []
    num_DLA_cores = 0  # noqa: N815 - TensorRT's name

    def __init__(self, logger: Any) -> None:
        self.logger = logger
        self.network: Network | None = None
        self.config: BuilderConfig | None = None
        Builder.made.append(self)

    def create_network(self, flags: int) -> Network:
        self.network = Network(flags)
        return self.network

    def create_builder_config(self) -> BuilderConfig:
        self.config = BuilderConfig()
        return self.config

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: Network, config: BuilderConfig) -> bytes | None:
        if config.cache is not None:
            config.cache.content = b"+".join(filter(None, [config.cache.content, b"timed"]))
        for line in Builder.warnings:
            self.logger.log(ILogger.Severity.WARNING, line)
        self.logger.log(ILogger.Severity.VERBOSE, Builder.layers)
        plan = Builder.plans.pop(0) if len(Builder.plans) > 1 else Builder.plans[0]
        if plan is None:
            self.logger.log(ILogger.Severity.ERROR, Builder.complaint)
        return plan


LAYERS = {
    "Layers": [
        {
            "Name": f"conv_{number}{suffix}",
            "LayerType": "CaskConvolution",
            "Inputs": [{"Name": "x", "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}],
            "Outputs": [{"Name": "y", "Format/Datatype": "Row major linear FP32 format"}],
            "Weights": {"Type": "Int8", "Count": 432},
            "TacticName": "sm80_xmma_fprop_implicit_gemm",
        }
        for suffix in ("", " [profile 1]")
        for number in range(2)
    ]
}


class Runtime:
    def __init__(self, logger: Any) -> None:
        pass

    def deserialize_cuda_engine(self, plan: bytes) -> Any:
        return Engine()


class Inspector:
    """Tells no types and layouts of an engine with an open batch, only those of weights, as TensorRT 8.6 does."""

    def get_engine_information(self, kind: LayerInformationFormat) -> str:
        return re.sub(r'("Format/Datatype": )"[^"]*"', r'\1"N/A due to dynamic shapes"', json.dumps(LAYERS))


class Engine:
    def create_engine_inspector(self) -> Inspector:
        return Inspector()


PLUGINS = ["RnRes2FullFusion_TRT", "SmallTileGEMM_TRT"]


def init_libnvinfer_plugins(logger: Any, namespace: str) -> bool:
    return True


def get_plugin_registry() -> Any:
    return SimpleNamespace(plugin_creator_list=[SimpleNamespace(name=name) for name in PLUGINS])
