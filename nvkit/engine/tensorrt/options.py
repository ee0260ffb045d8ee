"""The builder config: precision flags, memory, tactics, device, optimisation profiles, and the user's own options."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

from nvkit.engine.tensorrt import products
from nvkit.engine.tensorrt.flavours import PROFILE_SHARING, Library
from nvkit.engine.tensorrt.packed import Form, Packed
from nvkit.errors import BackendUnavailableError, ConfigError, nearest

_PERCENT = "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"
_PIPES = "CUDA_MPS_PIPE_DIRECTORY"
# What a tactic source needs: sonames of the releases that TensorRT links, and a call that says whether it works.
_TACTIC_LIBRARIES = {
    "CUBLAS": (("libcublas.so.12", "libcublas.so.11"), "cublasCreate_v2"),
    "CUBLAS_LT": (("libcublasLt.so.12", "libcublasLt.so.11"), "cublasLtCreate"),
    "CUDNN": (("libcudnn.so.8",), "cudnnCreate"),
}
_NOT_OPTIONS = {
    "DLA_core": "dla_core", "builder_optimization_level": "builder_optimization_level", "profiling_verbosity": "",
    "progress_monitor": "", "default_device_type": "dla_core", "num_compute_capabilities": "compute_capability",
    "max_workspace_size": "workspace_size",
}  # fmt: skip


def make_config(
    library: Library, builder: Any, network: Any, settings: Any, target: str, form: Form | None = None
) -> tuple[Any, dict[str, Any]]:
    """Return the builder config, and the options in force for people.

    Args:
        library: TensorRT.
        builder: Its builder.
        network: The parsed network.
        settings: Resolved values.
        target: Compute capability to build for.
        form: How batches lie in memory where samples have different lengths.

    Raises:
        ConfigError: a setting that this TensorRT does not know or cannot honour.
        BackendUnavailableError: there is no DLA.
    """
    trt = library.trt
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.clear_flag(trt.BuilderFlag.TF32)
    chosen: dict[str, Any] = {"TF32": "off"}
    check_active_sms(settings.active_sms)
    if library.portable:
        config.num_compute_capabilities = 1
        config.set_compute_capability(library.targets[target], 0)
    if not library.strongly_typed:
        flags = _flags(trt, settings, form)
        for flag in flags:
            config.set_flag(flag)
        chosen["flags"] = "+".join(flag.name for flag in flags) or "none"
        chosen["tactic sources"] = _set_tactic_sources(trt, config)
    if settings.workspace_size is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_size)
        chosen["workspace bytes"] = settings.workspace_size
    if settings.builder_optimization_level is not None:
        if not hasattr(config, "builder_optimization_level"):
            raise ConfigError(f"{library.title} has no optimisation levels.", "Leave builder_optimization_level out.")
        config.builder_optimization_level = settings.builder_optimization_level
    chosen["optimisation level"] = getattr(config, "builder_optimization_level", "as it comes")
    if settings.dla_core is not None:
        _use_dla(library, builder, config, settings.dla_core)
        chosen["device"] = f"DLA core {settings.dla_core}, GPU for what it cannot do"
    for key, value in parse_options(settings.builder_options).items():
        if not (key == products.OPTION and isinstance(form, Packed)):  # that one changed the network already
            _set_option(library, config, key, value)
        chosen[key] = value
    if not library.strongly_typed and library.shares_profiles:
        config.set_preview_feature(getattr(trt.PreviewFeature, PROFILE_SHARING), True)
    count = profiles(library, settings)
    if form is not None:
        _add_length_profiles(builder, config, form, settings, count)
    else:
        _add_profiles(builder, config, network, settings, count)
    return config, chosen


def profiles(library: Library, settings: Any) -> int:
    """Return the number of optimisation profiles: one where contexts share it, else one for each copy stream."""
    return 1 if library.shares_profiles else int(settings.gpu_copy_streams)


def max_batch(settings: Any) -> int:
    """Return the samples of the largest batch."""
    return int(settings.batch_size if settings.dla_core is None else settings.dla_batch_size or settings.batch_size)


def parse_options(text: str | None) -> dict[str, str]:
    """Return builder_options as a mapping.

    Raises:
        ConfigError: a word is not key=value.
    """
    found = {}
    for word in (text or "").replace(",", " ").split():
        key, equals, value = word.partition("=")
        if not (key and equals and value):
            raise ConfigError(f"builder_options has '{word}'.", "Write key=value, several separated by spaces.")
        found[key] = value
    return found


def check_active_sms(percent: int | None) -> None:
    """Refuse a share of the SMs that this process was not started with: CUDA gives a process its SMs once, through MPS.

    Raises:
        ConfigError: with how to start it.
    """
    if percent in (None, 100):
        return
    pipes = Path(os.environ.get(_PIPES, "/tmp/nvidia-mps"))
    if os.environ.get(_PERCENT) != str(percent) or not (pipes / "control").exists():
        raise ConfigError(
            f"active_sms is {percent}, but this process does not run under CUDA MPS with {percent} % of the SMs.",
            f"Start `nvidia-cuda-mps-control -d` and then nvkit with {_PERCENT}={percent}, or set active_sms to 100.",
        )


def _flags(trt: Any, settings: Any, form: Form | None) -> list[Any]:
    """Return precision flags. INT8 alone was fastest for ResNet-50 on an H200: with FP16 too, TensorRT mixes both.

    A transformer has both, and no precision is insisted on, as in NVIDIA's submissions: its plugins make fp16 around
    the int8 layers.
    """
    flag = trt.BuilderFlag
    if form is not None:
        return [
            getattr(flag, name) for name in {"int8": ("INT8", "FP16"), "fp16": ("FP16",)}.get(settings.precision, ())
        ]
    flags = [flag.INT8] if settings.precision == "int8" or settings.input_dtype == "int8" else []
    if settings.precision == "fp16" or settings.input_dtype == "fp16":
        flags.append(flag.FP16)
    if settings.precision == "int8":
        flags.append(flag.PREFER_PRECISION_CONSTRAINTS)
    return flags


def _set_tactic_sources(trt: Any, config: Any) -> str:
    """Leave out compiled convolutions, which took minutes and gained nothing, and libraries that do not work here."""
    sources = config.get_tactic_sources()
    absent = ["JIT_CONVOLUTIONS", *(name for name in _TACTIC_LIBRARIES if not _works(name))]
    for name in absent:
        if hasattr(trt.TacticSource, name):
            sources &= ~(1 << int(getattr(trt.TacticSource, name)))
    config.set_tactic_sources(sources)
    used = [name for name, value in trt.TacticSource.__members__.items() if sources >> int(value) & 1]
    return "+".join(used) or "none"


def _works(source: str) -> bool:
    """Tell whether the library of a tactic source loads and makes a handle."""
    names, create = _TACTIC_LIBRARIES[source]
    for name in names:
        try:
            function = getattr(ctypes.CDLL(name), create)
        except (OSError, AttributeError):
            continue
        return int(function(ctypes.byref(ctypes.c_void_p()))) == 0
    return False


def _use_dla(library: Library, builder: Any, config: Any, core: int) -> None:
    trt = library.trt
    cores = 0 if library.portable else int(builder.num_DLA_cores)
    if core >= cores:
        raise BackendUnavailableError(
            f"dla_core is {core}, but {library.title} finds {cores or 'no'} DLA cores here.",
            "Leave dla_core out; DLAs are on NVIDIA's Jetson boards (Xavier, Orin).",
        )
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)


def _set_option(library: Library, config: Any, key: str, value: str) -> None:
    """Set one of builder_options: an attribute of the builder config, `flags` or `tactic_sources`."""
    trt = library.trt
    if key in ("flags", "tactic_sources"):
        names = trt.BuilderFlag if key == "flags" else trt.TacticSource
        for word in value.split("+"):
            if word not in names.__members__:
                raise ConfigError(f"{library.title} has no {key} '{word}'.", nearest(word, names.__members__))
        wanted = [names.__members__[word] for word in value.split("+")]
        if key == "flags":
            for flag in wanted:
                config.set_flag(flag)
        else:
            config.set_tactic_sources(sum(1 << int(source) for source in wanted))
        return
    if key in _NOT_OPTIONS:
        own = _NOT_OPTIONS[key]
        raise ConfigError(
            f"builder_options sets {key}, which nvkit sets itself.", f"Use {own}." if own else "Leave it out."
        )
    known = [name for name in dir(config) if not name.startswith("_") and _settable(config, name)]
    if key not in known:
        raise ConfigError(f"The builder config of {library.title} has no option '{key}'.", nearest(key, known))
    present = getattr(config, key)
    members = getattr(type(present), "__members__", {})
    if members and value not in members:
        raise ConfigError(f"{key} is '{value}'.", nearest(value, members))
    try:
        setattr(config, key, members[value] if members else type(present)(value))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"builder_options: {key} cannot be '{value}'.", f"It is {present} as it comes.") from error


def _settable(config: Any, name: str) -> bool:
    declared = getattr(type(config), name, None)
    value = getattr(config, name, None)
    simple = isinstance(value, (int, float, str)) or hasattr(type(value), "__members__")
    return isinstance(declared, property) and declared.fset is not None and simple and name not in _NOT_OPTIONS


def _add_length_profiles(builder: Any, config: Any, form: Form, settings: Any, count: int) -> None:
    """Add `count` profiles from one token to a batch of the longest samples."""
    usual = settings.bert_opt_seqlen or form.longest
    if usual > form.longest:
        raise ConfigError(
            f"bert_opt_seqlen is {usual}, but the network takes {form.longest} tokens.", f"Give at most {form.longest}."
        )
    for _ in range(count):
        profile = builder.create_optimization_profile()
        for name, shapes in form.profile(max_batch(settings), usual).items():
            profile.set_shape(name, *shapes)
        config.add_optimization_profile(profile)


def _add_profiles(builder: Any, config: Any, network: Any, settings: Any, count: int) -> None:
    """Add `count` optimisation profiles from one sample to the largest batch."""
    batch = max_batch(settings)
    inputs = [network.get_input(number) for number in range(network.num_inputs)]
    for tensor in inputs:
        first, *rest = tuple(tensor.shape)
        if -1 in rest:
            raise ConfigError(
                f"Input '{tensor.name}' has the shape {tuple(tensor.shape)}: more than the batch is left open.",
                "Export the network with a free batch axis only.",
            )
        if first not in (-1, batch):
            raise ConfigError(
                f"batch_size is {batch}, but input '{tensor.name}' has the fixed batch size {first}.",
                f"Set batch_size to {first} or export the network with a free batch axis.",
            )
        if settings.dla_core is not None:  # a DLA runs one batch size
            tensor.shape = (batch, *rest)
    if settings.dla_core is not None or all(tensor.shape[0] != -1 for tensor in inputs):
        return
    for _ in range(count):
        profile = builder.create_optimization_profile()
        for tensor in inputs:
            sample = tuple(tensor.shape)[1:]
            profile.set_shape(tensor.name, (1, *sample), (batch, *sample), (batch, *sample))
        config.add_optimization_profile(profile)
