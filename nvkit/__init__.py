"""nvkit: reproduce NVIDIA's MLPerf Inference results, step by step, in notebooks.

Usage, the same in a notebook, a script and the command line::

    config = nvkit.configure(profile="cpu", benchmark="resnet50", scenario="Offline", quick=True)
    run = nvkit.open_run(config)
    result = nvkit.stages.run(config, run)
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from nvkit import stages
    from nvkit.config import RunConfig
    from nvkit.runs import RunFolder, StageResult, open_run

__all__ = ["RunConfig", "RunFolder", "StageResult", "__version__", "configure", "open_run", "publish", "stages"]

_LAZY = {"RunConfig": "nvkit.config", "RunFolder": "nvkit.runs", "StageResult": "nvkit.runs", "open_run": "nvkit.runs"}
RESULT_MIME = "application/vnd.nvkit.result+json"


def configure(
    profile: str = "auto",
    benchmark: str = "resnet50",
    scenario: str = "all",
    mode: str = "both",
    round: str = "v4.1",
    quick: bool = False,
    data_dir: str = "",
    model_path: str = "",
    overrides: Mapping[str, Any] | None = None,
    implementation: str = "nvkit",
    power: str = "MaxP",
) -> RunConfig:
    """Resolve names and values to a configuration; arguments are those of the notebooks' parameters cell.

    Profile "auto" is the one that `nvkit.config.detect` finds for this machine.

    Raises:
        ConfigError: an unknown name or setting (the nearest is named), or a value of the wrong type or range.
    """
    from nvkit.config import resolve

    paths = {"data_dir": data_dir, "model_path": model_path}
    values = {**(overrides or {}), **{key: path for key, path in paths.items() if path}}
    if profile == "auto":
        from nvkit.config.detect import detect

        profile = detect().profile
    return resolve(
        profile,
        benchmark,
        scenario,
        mode=mode,
        round=round,
        quick=quick,
        overrides=values,
        implementation=implementation,
        power=power,
    )


def publish(result: StageResult) -> None:
    """Display a result as JSON in the last cell of a notebook: the sign that the notebook ran to its end."""
    from IPython.display import display

    bundle = {RESULT_MIME: result.model_dump(mode="json"), "text/plain": f"published {result.stage}"}
    display(bundle, raw=True)


def __getattr__(name: str) -> Any:
    if name == "stages":
        return import_module("nvkit.stages")
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'nvkit' has no attribute '{name}'")
