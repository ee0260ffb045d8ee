"""Backends "tensorrt" and "tensorrt-rtx" behind the Backend seam."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nvkit.engine.base import BuildReport, Network
from nvkit.engine.tensorrt.card import PLAN, carry, check_card, elsewhere, read_card, write_card
from nvkit.engine.tensorrt.device import NoGpu, gpu
from nvkit.engine.tensorrt.flavours import Library, load_library, unavailable
from nvkit.engine.tensorrt.options import max_batch, profiles
from nvkit.errors import BackendUnavailableError, ConfigError, nearest
from nvkit.store import replacing, write_json

if TYPE_CHECKING:
    from nvkit.engine.base import Runner

GRAPH_VERSION = 1
"""Changes whenever the same network and settings give another graph."""

_BUILD_SETTINGS = (
    "precision",
    "batch_size",
    "input_dtype",
    "input_format",
    "workspace_size",
    "builder_optimization_level",
    "builder_options",
    "use_fusions",
    "disable_beta1_smallk",
    "use_small_tile_gemm_plugin",
    "bert_opt_seqlen",
    "use_fp8",
    "nms_type",
    "active_sms",
    "dla_core",
    "dla_batch_size",
)
_LOAD_SETTINGS = (
    "compute_capability",
    "gpu_copy_streams",
    "gpu_inference_streams",
    "use_graphs",
    "graphs_max_seqlen",
    "start_from_device",
    "run_infer_on_copy_streams",
)
_FP8 = (8, 9)  # least compute capability with fp8 tensor cores


class TensorRtBackend:
    """Backend "tensorrt": engines for the GPU of this machine."""

    name = "tensorrt"
    settings = frozenset({*_BUILD_SETTINGS, *_LOAD_SETTINGS})
    scheme: str | None = "int8"

    def unavailable(self) -> str | None:
        """Return why engines cannot be built here and what to install, or None if they can."""
        return unavailable(self.name)

    def cannot_run(self, settings: Any) -> str | None:
        """Return why engines of these settings cannot run here, and what to do, or None if they can.

        Raises:
            ConfigError: TensorRT does not build for this compute capability, or the GPU here has another.
        """
        try:
            target = _target(load_library(self.name), settings)
        except BackendUnavailableError as error:
            return str(error)
        reason = elsewhere(target)
        return f"{reason[0].upper()}{reason[1:]}. {carry(target)}" if reason else None

    def identity(self, settings: Any) -> dict[str, Any]:
        """Return TensorRT's version, the GPU or the compute capability built for, and every builder option.

        Raises:
            BackendUnavailableError: there is no TensorRT, or no GPU and none named.
            ConfigError: TensorRT does not build for this compute capability, or the GPU here has another.
        """
        library = load_library(self.name)
        return {
            "backend": self.name,
            "version": library.version,
            "gpu": None if library.portable else gpu().name,
            "compute_capability": _target(library, settings),
            "graph": GRAPH_VERSION,
            "profiles": profiles(library, settings),
            "shared_profile": library.shares_profiles,
            **{key: getattr(settings, key) for key in _BUILD_SETTINGS},
            "active_sms": settings.active_sms or 100,  # unset and all are one
        }

    def build(self, network: Network, settings: Any, folder: Path, cache: Path | None = None) -> BuildReport:
        """Build the engine, and write plan, card and list of layers.

        Raises:
            BackendUnavailableError: there is no TensorRT, GPU or DLA for these settings.
            ConfigError: a setting cannot be honoured, or the GPU does not compute in this precision.
            ModelError: the ONNX file is not usable, or TensorRT cannot parse it.
            EngineBuildError: TensorRT cannot build it.
        """
        from nvkit.engine.tensorrt import detector
        from nvkit.engine.tensorrt.build import build_plan
        from nvkit.engine.tensorrt.layers import summary, to_json
        from nvkit.engine.tensorrt.packed import told

        identity = self.identity(settings)
        library, target = load_library(self.name), identity["compute_capability"]
        _check_precision(library, settings, target)
        built = build_plan(library, network, settings, target, cache)
        with replacing(folder / PLAN) as temporary:
            temporary.write_bytes(built.plan)
        fixed = settings.dla_core is not None
        card = {
            **identity,
            "library": library.module,
            **built.tensors,
            "max_batch": max_batch(settings),
            "fixed_batch": fixed,
            "plugins": list(built.prepared.plugins),
            "lengths": told(built.prepared.form),
        }
        ending = built.prepared.detector
        if ending is not None and ending.detection is not None and ending.anchors is not None:
            card["detection"] = detector.save(folder, ending.detection, ending.anchors)
        write_card(folder, built.plan, card)
        write_json(folder / "layers.json", to_json(built.layers, built.layer_text))
        counts, facts = summary(built.layers)
        details = {
            "library": library.title,
            "built for": identity["gpu"] or f"compute capability {target}",
            "engine bytes": len(built.plan),
            "TensorRT's build seconds": round(built.seconds, 1),
            **facts,
            "options": built.options,
            "notes": built.notes,
            "warnings": built.warnings,
        }
        if built.prepared.ranges is not None:
            details["ranges"] = dict(built.prepared.ranges.origins)
        return BuildReport(layers=counts, details=details)

    def load(self, folder: Path, settings: Any) -> Runner:
        """Open the engine on this machine's GPU.

        Raises:
            EngineBuildError: the engine is missing, damaged, or of another TensorRT.
            BackendUnavailableError: it is for another machine, or there is no GPU.
            ConfigError: the settings ask for more than it was built for.
        """
        card = read_card(folder)
        check_card(card, folder, load_library(self.name), settings)
        from nvkit.engine.tensorrt.runner import open_runner

        opened: Runner = open_runner(folder, card, settings)
        return opened


class TensorRtRtxBackend(TensorRtBackend):
    """Backend "tensorrt-rtx": TensorRT for RTX, which builds for a compute capability on a machine without a GPU."""

    name = "tensorrt-rtx"


def _target(library: Library, settings: Any) -> str:
    """Return the compute capability to build for: the one of the settings, or that of the GPU here."""
    wanted = settings.compute_capability
    here = None
    try:
        here = gpu()
    except NoGpu as error:
        if wanted is None or not library.portable:
            fix = (
                "Give --compute-capability, e.g. 8.9, or a GPU's profile."
                if library.portable
                else "Install the driver."
            )
            raise BackendUnavailableError(f"There is no GPU to build for: {error}.", fix) from None
    if library.portable:
        target = wanted or (here.compute_capability if here else "")
        if target not in library.targets:
            raise ConfigError(
                f"{library.title} does not build for compute capability {target}, "
                f"but for {', '.join(library.targets)}.",
                "Use backend tensorrt on a machine with this GPU.",
            )
        return target
    assert here is not None
    if wanted not in (None, here.compute_capability):
        raise ConfigError(
            f"The profile is for compute capability {wanted}, and the {here.name} here has {here.compute_capability}.",
            f"Choose the profile of this GPU, or give --compute-capability {here.compute_capability}.",
        )
    return here.compute_capability


def _check_precision(library: Library, settings: Any, target: str) -> None:
    if settings.precision != "fp8":
        return
    known = ("fp32", "fp16", "int8")
    if not library.strongly_typed or not hasattr(library.trt.DataType, "FP8"):
        raise ConfigError(f"{library.title} has no precision 'fp8'.", nearest("fp8", known))
    if tuple(int(part) for part in target.split(".")) < _FP8:
        raise ConfigError(
            f"GPUs of compute capability {target} have no fp8; 8.9 and later have.", nearest("fp8", known)
        )
