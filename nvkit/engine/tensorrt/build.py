"""Building: prepared graph to plan, with what TensorRT said and did."""

from __future__ import annotations

import re
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nvkit.engine.base import Network
from nvkit.engine.tensorrt import layers as layer_list
from nvkit.engine.tensorrt import transformer
from nvkit.engine.tensorrt.card import elsewhere
from nvkit.engine.tensorrt.detection import chosen_way
from nvkit.engine.tensorrt.device import gpu
from nvkit.engine.tensorrt.flavours import Library
from nvkit.engine.tensorrt.fusions import LEAST_COMPUTE_CAPABILITY, SMALL_TILE
from nvkit.engine.tensorrt.network import parse
from nvkit.engine.tensorrt.options import make_config
from nvkit.engine.tensorrt.prepare import QUANTISED, Prepared, implicit_graph, typed_graph
from nvkit.engine.tensorrt.progress import shown
from nvkit.engine.tensorrt.timing_cache import TimingCache
from nvkit.errors import BackendUnavailableError, ConfigError, EngineBuildError

_MEMORY = re.compile(r"out of memory|OutOfMemory|insufficient memory|cudaErrorMemoryAllocation|[Rr]equested size", re.I)
# Warnings of TensorRT 8.6 that say nothing: SmallTileGEMM_TRT has a field for each epilogue and is given the one in
# use, BERT's plugins can do without some, and nvkit gives ranges without a calibrator. Of every timing cache that
# it wrote itself TensorRT says that it will not use it, and means Myelin's part, which is empty: a BERT whose kernels
# were in such a cache was built without timing one.
_EMPTY = re.compile(
    r"Attribute (epilogue\w*|filterDim\w|bias|dq_probs|rescale) not found in plugin node|Calibrator is not being used"
    r"|myelinCache\.h::deserializeFromBuffer|The timing cache will not be used"
)
_RANGELESS = "Missing scale and zero-point for tensor"  # of what a transformer's graph leaves to fp16 on purpose
_NO_KERNEL = re.compile(r"[Cc]ould not find any implementation for node ([^.\n]+)")
_LOG_LINES = 3


@dataclass(frozen=True)
class Built:
    """A plan and how it came about.

    Attributes:
        plan: The serialised engine.
        prepared: The graph that it was built from.
        tensors: Inputs and outputs as the card has them.
        layers: Its layers.
        layer_text: What TensorRT itself said of them.
        options: Options in force.
        notes: What a person should know: changes of the graph, fall-backs, the timing cache.
        warnings: Warnings and errors of TensorRT's log, each once, without those that say nothing.
        seconds: Time of TensorRT's own build.
    """

    plan: bytes
    prepared: Prepared
    tensors: dict[str, list[dict[str, Any]]]
    layers: list[layer_list.Layer]
    layer_text: str
    options: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0


def build_plan(library: Library, network: Network, settings: Any, target: str, cache: Path | None) -> Built:
    """Build a plan; where NVIDIA's fusions were put in unasked and do not build, build it once more without them.

    Args:
        library: TensorRT.
        network: What to build.
        settings: Resolved values.
        target: Compute capability to build for.
        cache: Folder of timing caches, or None for none.

    Raises:
        EngineBuildError, ModelError, ConfigError, BackendUnavailableError: see `build_once`.
    """
    if network.variable:
        plugins, notes = transformer.chosen_plugins(library, settings, target)
        return _build_once(library, network, settings, target, cache, plugins, notes)
    plugins, why_not = chosen_plugins(library, settings, target)
    notes = [why_not] if why_not else []
    if plugins:
        try:
            return _build_once(library, network, settings, target, cache, plugins, notes)
        except (EngineBuildError, ConfigError) as error:
            if settings.use_fusions == "always":
                raise
            notes.append(f"built without NVIDIA's fusions, because with them: {error.what}")
    return _build_once(library, network, settings, target, cache, (), notes)


def chosen_plugins(library: Library, settings: Any, target: str) -> tuple[tuple[str, ...], str]:
    """Return the fusions to use, and why none or not all of them.

    Raises:
        ConfigError: the user insists on fusions that cannot be had.
    """
    if settings.use_fusions == "never" or (settings.use_fusions == "auto" and settings.precision != "int8"):
        return (), ""
    reason = ""
    if settings.precision != "int8":
        reason = f"NVIDIA's residual plugins compute in int8, and precision is {settings.precision}"
    elif library.strongly_typed:
        reason = f"{library.title} builds strongly typed networks, which NVIDIA's residual plugins are not made for"
    elif settings.dla_core is not None:
        reason = "a DLA runs no plugins"
    wanted = dict(LEAST_COMPUTE_CAPABILITY)
    if settings.disable_beta1_smallk:
        del wanted[SMALL_TILE]
    here = tuple(int(part) for part in target.split("."))
    known = library.plugins() if not reason else {}
    found = tuple(name for name, least in wanted.items() if name in known and here >= least)
    if not reason and len(found) < len(wanted):
        missing = ", ".join(name for name in wanted if name not in found)
        reason = f"{library.title} has no {missing} for compute capability {target}"
    if settings.use_fusions == "always" and not found:
        raise ConfigError(f"use_fusions is always, but {reason}.", "Set use_fusions to auto.")
    return found, f"NVIDIA's fusions: {reason}" if reason else ""


def _build_once(
    library: Library,
    network: Network,
    settings: Any,
    target: str,
    cache: Path | None,
    plugins: Collection[str],
    notes: list[str],
) -> Built:
    trt, log = library.trt, library.log
    log.taken()
    log.layers = ""
    way, said_of_way = chosen_way(library, settings.nms_type, target)
    if library.strongly_typed:
        prepared = typed_graph(network, settings, way)
    else:
        prepared = implicit_graph(network, settings, plugins, way)
    notes = [*notes, *([said_of_way] if prepared.detector and said_of_way else [])]
    builder = _builder(library)
    definition = parse(library, builder, prepared, settings)
    config, options = make_config(library, builder, definition, settings, target, prepared.form)
    timing = None
    if cache is not None and not library.portable:  # for a compute capability nothing is timed
        timing = TimingCache(cache, library, f"{gpu().name} {settings.active_sms or 100} percent")
        timing.use(config)
    started = time.perf_counter()
    with shown(trt, config, f"TensorRT {settings.precision}, batch {settings.batch_size}"):
        memory = builder.build_serialized_network(definition, config)
    seconds = time.perf_counter() - started
    said = log.taken()
    if memory is None:
        raise _failed(library, settings, said)
    if timing is not None:
        timing.save(config)
    plan = bytes(memory)
    text, layers = _layers(library, plan, target)
    notes = [*notes, *_computed(library, settings.precision, layers)]
    return Built(
        plan,
        prepared,
        _tensors(library, definition, prepared, settings),
        layers,
        text,
        options,
        [*prepared.notes, *notes, *(timing.notes if timing else [])],
        [
            line
            for line in dict.fromkeys([*said, *log.taken()])
            if not _EMPTY.search(line) and not (prepared.precisions and _RANGELESS in line)
        ],
        seconds,
    )


def _builder(library: Library) -> Any:
    try:
        builder = library.trt.Builder(library.log)
    except (TypeError, RuntimeError) as error:  # the bindings' way of saying that the library returned nothing
        raise BackendUnavailableError(
            f"{library.title} cannot start: {'; '.join(library.log.taken()) or error}.",
            "Check GPU and driver with `nvkit doctor`; the driver must be as new as TensorRT's CUDA.",
        ) from error
    return builder


def _failed(library: Library, settings: Any, said: list[str]) -> EngineBuildError:
    text = " | ".join(said[-_LOG_LINES:]) or "its log says nothing"
    what = f"{library.title} could not build the {settings.precision} engine of batch {settings.batch_size}: {text}."
    whole = "\n".join(said)
    if _MEMORY.search(whole):
        return EngineBuildError(what, "The GPU's memory is too small for this: reduce batch_size or gpu_copy_streams.")
    if node := _NO_KERNEL.search(whole):
        return EngineBuildError(
            what,
            f"No kernel fits '{node[1].strip()}': raise or leave out workspace_size, or try another precision or "
            "builder_optimization_level.",
        )
    return EngineBuildError(what, "Try another precision or builder_optimization_level.")


def _computed(library: Library, precision: str, layers: list[layer_list.Layer]) -> list[str]:
    """Return a note on how many layers with weights compute in the precision that was asked for.

    Raises:
        EngineBuildError: a strongly typed network in int8 or fp8 that mostly computes in another precision.
    """
    weighted = [layer for layer in layers if layer_list.WEIGHTED.search(layer.type)]
    if not weighted:
        return ["TensorRT names no layers with weights"] if layers else ["TensorRT gave no list of layers"]
    others = [layer.precision for layer in weighted if layer.precision != precision]
    share = f"{len(weighted) - len(others)} of {len(weighted)} layers with weights in {precision}"
    if library.strongly_typed and precision in QUANTISED and 2 * len(others) > len(weighted):
        raise EngineBuildError(
            f"{library.title} computes {share}, the others in {', '.join(sorted(set(others)))}: it has no {precision} "
            "kernels for them.",
            "Choose --precision int8 or fp16.",
        )
    return [share]


def _layers(library: Library, plan: bytes, target: str) -> tuple[str, list[layer_list.Layer]]:
    """Return the layers in TensorRT's words and as a list; an engine for another machine cannot be opened here."""
    if elsewhere(target) is None:
        engine = library.trt.Runtime(library.log).deserialize_cuda_engine(plan)
        if engine is not None:
            inspector = engine.create_engine_inspector()
            text = inspector.get_engine_information(library.trt.LayerInformationFormat.JSON)
            return text, layer_list.from_inspector(text, library.log.layers)
    return library.log.layers, layer_list.from_log(library.log.layers)


def _tensors(library: Library, network: Any, prepared: Prepared, settings: Any) -> dict[str, list[dict[str, Any]]]:
    inputs = [network.get_input(number) for number in range(network.num_inputs)]
    outputs = [network.get_output(number) for number in range(network.num_outputs)]

    def entry(tensor: Any, **more: Any) -> dict[str, Any]:
        dtype = library.trt.nptype(tensor.dtype).__name__
        return {"name": tensor.name, "dtype": dtype, "shape": list(tuple(tensor.shape)[1:]), **more}

    made = [entry(tensor, offset=prepared.tail.offset) for tensor in outputs]
    if prepared.detector is not None and (left := prepared.detector.detection) is not None:
        made = [{"name": left.output, "dtype": "float32", "shape": [left.detections, 6], "offset": 0}]
    return {"inputs": [entry(tensor, format=settings.input_format) for tensor in inputs], "outputs": made}
