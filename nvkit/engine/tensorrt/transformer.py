"""NVIDIA's BERT plugins as a rewrite of the ONNX graph: the sequences of a batch follow one another without padding.

This module says whether a network and a TensorRT allow it; `transformer_graph` makes the graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nvkit.engine.tensorrt.flavours import Library
from nvkit.engine.tensorrt.fusions import LEAST_COMPUTE_CAPABILITY, SMALL_TILE
from nvkit.engine.tensorrt.onnx_tools import Links, attribute
from nvkit.engine.tensorrt.transformer_graph import ATTENTION, EMBEDDING, HEAD, SKIP, TYPES, Packer
from nvkit.errors import ConfigError, RangesError
from nvkit.quantize.graph import COMPOSITE

if TYPE_CHECKING:
    import onnx

    from nvkit.quantize.ranges import Ranges

PLUGINS = (EMBEDDING, ATTENTION, SKIP)
#: Compute capabilities with kernels for packed sequences in TensorRT 8.6.
COMPUTE_CAPABILITIES = ("7.2", "7.5", "8.0", "8.6", "8.7", "8.9", "9.0")
#: Tokens of the longest sequence: the embedding plugin has no kernel for more, and MLPerf has none.
LONGEST = 384

_CALIBRATE = "Run the calibrate stage again."
_INT8_HIDDEN = (768, 1024)
_FUNCTIONS = ("EmbedLayerNorm", "SelfAttention", "SkipLayerNorm", "Gelu")


@dataclass(frozen=True)
class PackedGraph:
    """A rewritten network.

    Attributes:
        model: The graph for TensorRT's parser.
        longest: Tokens of its longest sequence.
        amax: Range of the tensors that int8 kernels read or write, empty in fp16.
        precisions: Layer to the precision that NVIDIA's builders ask of it.
        notes: What was changed, for people.
    """

    model: onnx.ModelProto
    longest: int
    amax: Mapping[str, float] = field(default_factory=dict)
    precisions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def chosen_plugins(library: Library, settings: Any, target: str) -> tuple[tuple[str, ...], list[str]]:
    """Return the plugins to use for a transformer, none if one of them cannot be had, and what to say of them.

    Raises:
        ConfigError: the user insists on plugins that cannot be had.
    """
    notes = []
    if settings.use_fp8 and settings.precision != "fp8":
        notes.append(
            f"use_fp8: NVIDIA's fp8 plugin is not part of {library.title}; the engine computes in {settings.precision}"
            + ("; --precision fp8 is TensorRT's own" if library.strongly_typed else "")
        )
    reason = ""
    if settings.use_fusions == "never":
        reason = "use_fusions is never"
    elif library.strongly_typed:
        reason = f"{library.title} builds strongly typed networks, which NVIDIA's BERT plugins are not made for"
    elif settings.precision not in TYPES:
        reason = f"NVIDIA's BERT plugins compute in int8 and fp16, and precision is {settings.precision}"
    elif target not in COMPUTE_CAPABILITIES:
        reason = f"NVIDIA's BERT plugins have no kernels for compute capability {target}"
    elif missing := [name for name in PLUGINS if name not in library.plugins()]:
        reason = f"{library.title} has no {', '.join(missing)}"
    if reason and settings.use_fusions == "always":
        raise ConfigError(f"use_fusions is always, but {reason}.", "Set use_fusions to auto.")
    if settings.use_small_tile_gemm_plugin:
        why = reason or _without_tiles(library, settings, target)
        if not why:
            return (*PLUGINS, SMALL_TILE), notes
        notes.append(f"use_small_tile_gemm_plugin: not used, because {why}")
    return ((), [*notes, f"batches are padded: {reason}"]) if reason else (PLUGINS, notes)


def _without_tiles(library: Library, settings: Any, target: str) -> str:
    if settings.precision != "int8":
        return f"{SMALL_TILE} computes in int8"
    least = LEAST_COMPUTE_CAPABILITY[SMALL_TILE]
    if tuple(int(part) for part in target.split(".")) < least or SMALL_TILE not in library.plugins():
        return f"{library.title} has no {SMALL_TILE} for compute capability {target}"
    return ""


def longest_of(model: onnx.ModelProto) -> int:
    """Return the tokens of the longest sequence that a network takes: its positions, 384 at most."""
    links = Links(model)
    calls = [node for node in model.graph.node if node.domain == COMPOSITE and node.op_type == _FUNCTIONS[0]]
    position = links.value(calls[0].input[3]) if calls else None
    return LONGEST if position is None else min(LONGEST, len(position))


def obstacle(model: onnx.ModelProto, precision: str) -> str:
    """Say why a network cannot be packed with the plugins; empty if it can."""
    links = Links(model)
    calls = {name: [n for n in model.graph.node if n.domain == COMPOSITE and n.op_type == name] for name in _FUNCTIONS}
    if not all(calls.values()) or len(calls[_FUNCTIONS[0]]) != 1:
        return "the network is not made of nvkit's functions of a transformer"
    for node in model.graph.node:
        if not (node.domain == COMPOSITE and node.op_type in _FUNCTIONS) and not _linear(links, node):
            return f"the plugins have no place for node '{node.name}' ({node.op_type})"
    hidden = _hidden(links, calls[_FUNCTIONS[0]][0])
    for node in calls["SelfAttention"]:
        heads = attribute(node, "heads", 0)
        if not isinstance(heads, int) or heads * HEAD != hidden:
            return f"attention has {heads} heads in {hidden} channels, and the plugin's kernels are for heads of {HEAD}"
    if precision == "int8" and hidden not in _INT8_HIDDEN:
        return f"{hidden} channels; {SKIP} has int8 kernels for {' and '.join(map(str, _INT8_HIDDEN))}"
    return ""


def pack(model: onnx.ModelProto, precision: str, observed: Ranges | None, *, tiles: bool = False) -> PackedGraph:
    """Return the packed form of a network that has no `obstacle`.

    Args:
        model: The fp32 network, with calls of nvkit's functions.
        precision: "int8" or "fp16".
        observed: Activation ranges, needed for int8.
        tiles: Compute products by NVIDIA's small-tile GEMM plugin where NVIDIA's int8 builder does.

    Raises:
        RangesError: the ranges of int8 lack a tensor.
    """
    seen: dict[str, float] = {}
    if precision == "int8" and observed is not None:
        seen = {name: entry.amax or 1.0 for name, entry in observed.tensors.items()}
        if missing := sorted(_read(model) - seen.keys()):  # TensorRT 8.6 would compute both sides of it in fp16
            raise RangesError(f"The activation ranges lack {len(missing)} tensors, first '{missing[0]}'.", _CALIBRATE)
    packer = Packer(model, precision, seen, tiles)
    packed = packer.model()
    notes = [f"sequences packed without padding, by {', '.join(PLUGINS)}"]
    if packer.tiles:
        notes.append(f"{SMALL_TILE}: {packer.tiles} matrix products")
    amax = {name: seen[name] for name in _read(model) if name in seen}
    return PackedGraph(packed, longest_of(model), amax, packer.precisions, tuple(notes))


def _read(model: onnx.ModelProto) -> set[str]:
    """Return what plugins and convolutions read in int8. GELU is inside of a kernel, and the logits stay fp16."""
    readers = ("SelfAttention", "SkipLayerNorm", "MatMul")
    return {node.input[0] for node in model.graph.node if node.op_type in readers}


def _linear(links: Links, node: onnx.NodeProto) -> bool:
    """Tell whether a node is a matrix product with constant weights that a constant bias follows, or that bias."""
    if node.op_type == "MatMul":
        readers = links.readers[node.output[0]]
        return node.input[1] in links.constants and [reader.op_type for reader in readers] == ["Add"]
    made = [links.made_by(name, "MatMul") for name in node.input]
    return node.op_type == "Add" and any(made) and any(name in links.constants for name in node.input)


def _hidden(links: Links, embedding: onnx.NodeProto) -> int:
    gamma = links.value(embedding.input[5])
    return 0 if gamma is None else len(gamma)
