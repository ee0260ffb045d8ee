"""The graph of a packed transformer, node by node: plugins, 1x1 convolutions, GELU as TensorRT fuses it.

The network comes with its composite operations as functions of domain "nvkit". Here each call becomes a plugin, each
matrix product with its bias a 1x1 convolution, and activations are [tokens, channels, 1, 1]. What the plugins take is
known from their sources (NVIDIA/TensorRT, release 8.6, plugin/embLayerNormPlugin, bertQKVToContextPlugin and
skipLayerNormPlugin) and from the builders in NVIDIA's submissions (closed/NVIDIA/code/bert/tensorrt, v2.1 to v4.1) and
in demo/BERT. Version 2 of all three is the one for packed sequences:

- CustomEmbLayerNormPluginDynamic reads ids, segments, cumulative lengths [sequences + 1] and a tensor of which it only
  looks at the length: that of the longest sequence. It has kernels up to 384, converts fp32 weights itself, and makes
  fp16 [tokens, hidden, 1, 1]; its second output is a mask that packed sequences do not need, but attention must be
  given something in its place.
- CustomQKVToContextPluginDynamic reads [tokens, 3 hidden, 1, 1] in which q, k and v of one head lie side by side. It
  computes in int8 or fp16 and, told otherwise or on a GPU that it has no kernels for, ends the process.
- CustomSkipLayerNormPluginDynamic has int8 kernels for a hidden size of 768 and 1024, and ends in an error elsewhere.
  It has no epsilon, which BERT's 1e-12 is nothing beside the resolution of fp16.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nvkit.engine.tensorrt.fusions import SMALL_TILE
from nvkit.engine.tensorrt.onnx_tools import Floats, Links, attribute, plugin_node
from nvkit.engine.tensorrt.packed import CUMULATIVE, LONGEST

if TYPE_CHECKING:
    import onnx

EMBEDDING = "CustomEmbLayerNormPluginDynamic"
ATTENTION = "CustomQKVToContextPluginDynamic"
SKIP = "CustomSkipLayerNormPluginDynamic"
HEAD = 64
"""Channels of an attention head that the plugin has kernels for on every GPU."""
TYPES = {"fp16": 1, "int8": 2}
"""Precision to the number that trt.DataType has for it, which the plugins are told."""

_VERSION = "2"
_PROBABILITIES = "probabilities"  # behind an attention's name: trained ranges have it, others are 1, as softmax's are
_GELU = (("three", 3.0), ("cubic", 0.044715), ("scale", 0.7978845608028654), ("one", 1.0), ("half", 0.5))


class Packer:
    """Makes the packed graph node by node; a node's outputs keep their names, and layers are named after them."""

    def __init__(self, model: onnx.ModelProto, precision: str, amax: Mapping[str, float], tiles: bool) -> None:
        self._source, self._links = model, Links(model)
        self._precision, self._amax, self._tiled = precision, amax, tiles
        self._packed = type(model)(ir_version=model.ir_version)
        self._nodes = self._packed.graph.node
        self._mask = ""
        self.precisions: dict[str, str] = {}
        self.tiles = 0

    def model(self) -> onnx.ModelProto:
        """Return the packed graph."""
        from onnx import TensorProto, helper

        make = {
            "EmbedLayerNorm": self._embedding,
            "SelfAttention": self._attention,
            "SkipLayerNorm": self._skip,
            "Gelu": self._gelu,
            "Add": self._linear,
        }
        for node in self._source.graph.node:
            if node.op_type in make:
                make[node.op_type](node)
        embedding = next(node for node in self._source.graph.node if node.op_type == "EmbedLayerNorm")
        dims = {
            embedding.input[0]: "tokens",
            embedding.input[1]: "tokens",
            CUMULATIVE: "ends",
            LONGEST: "longest",
        }
        graph = self._packed.graph
        graph.name = self._source.graph.name
        graph.input.extend(helper.make_tensor_value_info(name, TensorProto.INT32, [dim]) for name, dim in dims.items())
        logits = self._source.graph.output[0].name
        width = len(np.asarray(self._links.value(self._bias(self._links.producer[logits]))))
        graph.output.append(helper.make_tensor_value_info(logits, TensorProto.FLOAT16, ["tokens", width, 1, 1]))
        self._packed.opset_import.extend(e for e in self._source.opset_import if e.domain in ("", "ai.onnx"))
        return self._packed

    def _embedding(self, node: onnx.NodeProto) -> None:
        ids, segments, word, position, token_type, gamma, beta = node.input
        fields = {
            "bert_embeddings_layernorm_beta": self._value(beta),
            "bert_embeddings_layernorm_gamma": self._value(gamma),
            "bert_embeddings_word_embeddings": self._value(word),
            "bert_embeddings_token_type_embeddings": self._value(token_type),
            "bert_embeddings_position_embeddings": self._value(position),
            "output_fp16": _int(1),  # also for int8: TensorRT quantises behind it
        }
        self._mask = f"{node.output[0]}/mask"
        self._plugin(EMBEDDING, [ids, segments, CUMULATIVE, LONGEST], [node.output[0], self._mask], fields, _VERSION)

    def _attention(self, node: onnx.NodeProto) -> None:
        heads = attribute(node, "heads")
        assert isinstance(heads, int)
        fields: dict[str, npt.NDArray[np.generic]] = {
            "type_id": _int(TYPES[self._precision]),
            "hidden_size": _int(heads * HEAD),
            "num_heads": _int(heads),
            "has_mask": _int(1),
            "var_seqlen": _int(1),
            "use_int8_scale_max": _int(1),
        }
        if self._precision == "int8":
            probability = self._amax.get(f"{node.output[0]}/{_PROBABILITIES}", 1.0)
            fields["dq_probs"] = np.array([probability / 127.0], np.float32)
        self._plugin(ATTENTION, [node.input[0], self._mask, CUMULATIVE, LONGEST], node.output, fields, _VERSION)

    def _skip(self, node: onnx.NodeProto) -> None:
        branch, skip, gamma, beta = node.input
        fields = {
            "type_id": _int(TYPES[self._precision]),
            "beta": self._value(beta),
            "gamma": self._value(gamma),
        }
        self._plugin(SKIP, [branch, skip], node.output, fields, _VERSION)

    def _linear(self, node: onnx.NodeProto) -> None:
        """Write a matrix product and its bias as a 1x1 convolution, or with what follows as a small-tile GEMM."""
        from onnx import helper

        product = self._product(node)
        kernel = self._value(product.input[1]).T
        bias = self._value(self._bias(node)).reshape(-1)
        source, target = product.input[0], node.output[0]
        readers = self._links.readers[target]
        if any(reader.op_type == "SelfAttention" for reader in readers):
            kernel, bias = _by_head(kernel), _by_head(bias)
        gelu = next((reader for reader in readers if reader.op_type == "Gelu"), None)
        if self._tiled and len(readers) == 1 and self._tiles(readers[0], target):
            self._tile(source, gelu.output[0] if gelu else target, kernel, bias, gelu is not None)
            return
        names = [self._constant(product.input[1], kernel[:, :, None, None]), self._constant(self._bias(node), bias)]
        self._nodes.append(helper.make_node("Conv", [source, *names], [target], name=target, kernel_shape=[1, 1]))
        if any(reader.op_type == "SkipLayerNorm" for reader in readers):
            self.precisions[target] = self._precision  # as NVIDIA's builders ask

    def _tiles(self, reader: onnx.NodeProto, tensor: str) -> bool:
        """Tell whether NVIDIA computes this product by the plugin: all but the one behind the GELU."""
        made = self._product(self._links.producer[tensor]).input[0]
        return reader.op_type in ("SelfAttention", "Gelu", "SkipLayerNorm") and not (
            self._links.made_by(made, "Gelu") is not None
        )

    def _tile(self, source: str, target: str, kernel: Floats, bias: Floats, gelu: bool) -> None:
        """Put a small-tile GEMM in; fields as NVIDIA's int8 builder has them, scales of ones as for convolutions."""
        ones = np.ones(len(bias), np.float32)
        fields: dict[str, npt.NDArray[np.generic]] = {
            "inputChannels": _int(kernel.shape[1]),
            "weight": kernel,
            "bias": bias,
            "scale": ones,
            "fairShareCacheSize": _int(120),
            "dynamicRanges": np.array([self._amax[source], self._amax[target]], np.float32),
            **({"rescale": ones, "epilogueScaleBiasGelu": _int(1)} if gelu else {"epilogueScaleBias": _int(1)}),
        }
        self._plugin(SMALL_TILE, [source], [target], fields, "1")
        self.tiles += 1

    def _gelu(self, node: onnx.NodeProto) -> None:
        """Write GELU as the elementwise operations that TensorRT fuses with the convolution before it.

        Order and operands are those of NVIDIA's builders. The steps are told to compute in fp32, without which
        TensorRT takes each of them in fp16 or int8 by itself. Every GELU has constants of its own, as there.
        """
        from onnx import helper

        x, target = node.input[0], node.output[0]
        if any(target in made.output for made in self._nodes):
            return  # a small-tile GEMM has it
        constants = {
            key: self._constant(f"{target}/{key}", np.full((1, 1, 1, 1), value, np.float32)) for key, value in _GELU
        }
        steps = ("cubed", "weighted", "sum", "scaled", "tanh", "shifted", "halved")
        cubed, weighted, total, scaled, tanh, shifted, halved = (f"{target}/{step}" for step in steps)
        chain = [
            ("Pow", [x, constants["three"]], cubed),
            ("Mul", [cubed, constants["cubic"]], weighted),
            ("Add", [x, weighted], total),
            ("Mul", [total, constants["scale"]], scaled),
            ("Tanh", [scaled], tanh),
            ("Add", [tanh, constants["one"]], shifted),
            ("Mul", [shifted, constants["half"]], halved),
            ("Mul", [halved, x], target),
        ]
        for operator, inputs, output in chain:
            self._nodes.append(helper.make_node(operator, inputs, [output], name=output))
            self.precisions[output] = "fp32"
        self.precisions.update(dict.fromkeys(constants.values(), "fp32"))

    def _plugin(
        self,
        operator: str,
        inputs: list[str],
        outputs: list[str],
        fields: Mapping[str, npt.NDArray[np.generic]],
        version: str,
    ) -> None:
        self._nodes.append(plugin_node(operator, outputs[0], inputs, outputs, fields, version))

    def _constant(self, name: str, value: Floats) -> str:
        """Add an initialiser in its place: of more than a gigabyte of them no copies are made on the way."""
        from onnx import TensorProto

        tensor = self._packed.graph.initializer.add()
        tensor.name, tensor.data_type = name, TensorProto.FLOAT
        tensor.raw_data = value.astype("<f4", copy=False).tobytes()
        tensor.dims.extend(value.shape)
        return name

    def _value(self, name: str) -> Floats:
        return np.asarray(self._links.value(name), np.float32)

    def _bias(self, add: onnx.NodeProto) -> str:
        names: list[str] = [name for name in add.input if name in self._links.constants]
        return names[0]

    def _product(self, add: onnx.NodeProto) -> onnx.NodeProto:
        nodes: list[onnx.NodeProto] = [self._links.producer[name] for name in add.input if name in self._links.producer]
        return nodes[0]


def _by_head(rows: Floats) -> Floats:
    """Return rows q|k|v, each of all heads, in the plugin's order: q, k and v of the first head, of the second, ..."""
    rest = rows.shape[1:]
    return np.ascontiguousarray(rows.reshape(3, -1, HEAD, *rest).swapaxes(0, 1)).reshape(-1, *rest)


def _int(value: int) -> npt.NDArray[np.int32]:
    return np.array([value], np.int32)
