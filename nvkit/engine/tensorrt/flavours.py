"""Which TensorRT is here, and what it can do.

What differs between TensorRT 8.6, 10, 11 and TensorRT for RTX is found by looking for the thing itself; version numbers
are only kept to tell engines apart.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from nvkit.engine.tensorrt.device import NoGpu, gpu
from nvkit.errors import BackendUnavailableError

#: Backend to the modules that provide it, and how to get one.
MODULES: Mapping[str, tuple[tuple[str, ...], str]] = {
    "tensorrt": (("tensorrt",), 'pip install "nvkit[gpu]"'),
    "tensorrt-rtx": (("tensorrt_rtx", "tensorrt_rtx_bindings"), 'pip install "nvkit[rtx]"'),
}

PROFILE_SHARING = "PROFILE_SHARING_0806"
"""TensorRT's name of the feature in trt.PreviewFeature."""

_LAYERS = ("Layers:", "Engine Layer Information:")  # how a build log starts its list; the second is TensorRT 8's


@dataclass(frozen=True)
class Library:
    """A TensorRT that was imported.

    Attributes:
        backend: "tensorrt" or "tensorrt-rtx".
        module: Name of the Python module.
        trt: The module.
        log: The logger; a process has one, because TensorRT keeps the first that it is given.
    """

    backend: str
    module: str
    trt: Any
    log: Any

    @property
    def version(self) -> str:
        """Version of the bindings."""
        return str(self.trt.__version__)

    @property
    def title(self) -> str:
        """Name and version for people."""
        return f"{'TensorRT for RTX' if self.portable else 'TensorRT'} {self.version}"

    @property
    def strongly_typed(self) -> bool:
        """Whether networks say the type of every tensor (else TensorRT chooses, from ranges and flags)."""
        return hasattr(self.trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")

    @property
    def shares_profiles(self) -> bool:
        """Whether execution contexts may use one optimisation profile together, so that kernels are timed once.

        TensorRT 8.6 can be told so; with TensorRT 10, whose networks can be strongly typed, it is always so.
        """
        return self.strongly_typed or hasattr(self.trt.PreviewFeature, PROFILE_SHARING)

    @property
    def portable(self) -> bool:
        """Whether engines are built for a compute capability, on any machine, and not for this GPU."""
        return self.backend == "tensorrt-rtx"

    @property
    def targets(self) -> dict[str, Any]:
        """Compute capability to TensorRT's name of it, e.g. {"8.9": ComputeCapability.SM89}; empty if not portable."""
        if not self.portable:
            return {}
        found = self.trt.ComputeCapability.__members__.items()
        return {f"{name[2:-1]}.{name[-1]}": value for name, value in found if name.startswith("SM")}

    def plugins(self) -> dict[str, Any]:
        """Load NVIDIA's plugins; return those that this TensorRT has, by name."""
        self.trt.init_libnvinfer_plugins(self.log, "")
        return {creator.name: creator for creator in self.trt.get_plugin_registry().plugin_creator_list}


@functools.lru_cache(maxsize=2)
def load_library(backend: str) -> Library:
    """Import the TensorRT of a backend.

    Raises:
        BackendUnavailableError: it is not installed, or its libraries do not load.
    """
    names, how = MODULES[backend]
    reasons = []
    for name in names:
        try:
            trt = import_module(name)
            # A source stub without its libraries, or a namespace left by another package, imports and has nothing.
            return Library(backend, name, trt, _logger(trt))
        except (ImportError, OSError, AttributeError) as error:
            reasons.append(f"{name}: {error}")
    raise BackendUnavailableError(f"Backend {backend} needs TensorRT ({'; '.join(reasons)}).", f"Install it: {how}.")


def unavailable(backend: str) -> str | None:
    """Return why engines of this backend cannot be built here and what to install, or None if they can."""
    try:
        library = load_library(backend)
        if not library.portable:
            gpu()
    except BackendUnavailableError as error:
        return str(error)
    except NoGpu as error:
        return (
            f"TensorRT builds and runs on an NVIDIA GPU, and {error}. Install the driver, or choose --backend "
            "tensorrt-rtx to build for another machine, or --profile cpu."
        )
    return None


def _logger(trt: Any) -> Any:
    worst = trt.ILogger.Severity.WARNING

    class Log(trt.ILogger):  # type: ignore[misc]
        """Keeps warnings and errors, and the list of layers that a verbose build log ends with."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.layers = ""
            self._kept: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity.value <= worst.value:
                self._kept.append(message.strip())
            elif message.lstrip().startswith(_LAYERS):
                self.layers = message

        def taken(self) -> list[str]:
            """Return the warnings and errors since the last call, each once."""
            kept, self._kept = self._kept, []
            return list(dict.fromkeys(kept))

    return Log()
