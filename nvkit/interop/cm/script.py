"""Which script a command is of: only CM's reproduce-mlperf-inference-nvidia is translated."""

from __future__ import annotations

from nvkit.errors import ConfigError, nearest
from nvkit.interop.cm.data import Dependency, dependencies, raw
from nvkit.interop.cm.parse import Parsed

_TELLING = {"reproduce", "nvidia-harness", "harness"}
_OTHERS = {
    "run-mlperf": "run-mlperf-inference-app",
    "run-mlperf-inference": "run-mlperf-inference-app",
    "app": "app-mlperf-inference",
    "cudnn": "get-cudnn",
    "cuda": "install-cuda-prebuilt",
    "gui": "gui",
    "submission": "generate-mlperf-inference-submission",
}


def require_this_script(parsed: Parsed) -> None:
    """Refuse a command of another script, saying of which it is.

    Raises:
        ConfigError: another script's tags or name, or tags that many scripts share.
    """
    this = raw("variations")["script"]
    full = ",".join(this["tags"])
    chosen = [tag for tag in parsed.tags if not tag.startswith("_")]
    if parsed.script:
        if parsed.script not in (this["name"], this["uid"]):
            raise ConfigError(
                f"The command is of the script '{parsed.script}', not of {this['name']}.",
                nearest(parsed.script, [this["name"]]),
            )
        return
    strange = [tag for tag in chosen if tag not in this["tags"]]
    if not strange and "nvidia" in ",".join(chosen) and _TELLING & set(chosen):
        return
    if not strange:
        raise ConfigError(
            f"The tags '{','.join(chosen)}' are of many scripts.", f"nvkit translates those of {full}; name them."
        )
    if called := _called(chosen, this["name"]):
        raise ConfigError(
            f"The command is of the script {called.script}. {_instead(called)}", f"nvkit translates {full}."
        )
    for tag, name in _OTHERS.items():
        if tag in chosen:
            raise ConfigError(f"The command is of the script {name}.", f"nvkit translates {full}.")
    raise ConfigError(
        f"The command is of another script: {this['name']} has no tag '{strange[0]}'.",
        nearest(strange[0], this["tags"]),
    )


def _called(chosen: list[str], this: str) -> Dependency | None:
    """Return the script that this one calls and that has these tags; of several, the one with fewest others."""
    fitting: list[tuple[int, Dependency]] = []
    for dependency in dependencies():
        tags = {tag for tag in dependency.tags.split(",") if not tag.startswith("_")}
        if dependency.script != this and (set(chosen) <= tags or tags <= set(chosen)):
            fitting.append((len(tags ^ set(chosen)), dependency))
    return min(fitting, key=lambda found: found[0])[1] if fitting else None


def _instead(called: Dependency) -> str:
    place = called.place
    instead = {
        "doctor": f"'nvkit doctor' says what this machine has of it ({place.name}).",
        "pyproject": f"nvkit brings it ({place.name}).",
        "setting": f"In nvkit it is --{place.name.replace('_', '-')}.",
        "option": f"In nvkit it is --{place.name.replace('_', '-')}.",
        "stage": f"In nvkit it is 'nvkit {place.name}'.",
        "none": f"nvkit does without: {place.name}.",
    }
    return instead[place.kind]
