"""Backends: how an ONNX network becomes an engine on disk, and an engine a runner.

`backend(name)` imports only the one that is asked for, so that a missing library of another is never noticed. The
seam itself is `nvkit.engine.base`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from nvkit.errors import ConfigError, nearest

if TYPE_CHECKING:
    from nvkit.engine.base import Backend

_WHERE = {
    "null": ("nvkit.engine.null", "NullBackend"),
    "onnxruntime": ("nvkit.engine.onnxruntime", "OnnxRuntimeBackend"),
    "tensorrt": ("nvkit.engine.tensorrt.backend", "TensorRtBackend"),
    "tensorrt-rtx": ("nvkit.engine.tensorrt.backend", "TensorRtRtxBackend"),
}

#: Names that `backend` knows.
BACKENDS = tuple(sorted(_WHERE))


def backend(name: str) -> Backend:
    """Return the backend of this name.

    Raises:
        ConfigError: there is none of this name.
    """
    if name not in _WHERE:
        raise ConfigError(f"There is no backend '{name}'.", nearest(name, BACKENDS))
    module, attribute = _WHERE[name]
    made: Backend = getattr(import_module(module), attribute)()
    return made
