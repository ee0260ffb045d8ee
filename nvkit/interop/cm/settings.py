"""The settings of nvkit that a selection gives, and what the profile makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from nvkit.config import Settings, resolve
from nvkit.config.settings import no_effect
from nvkit.errors import ConfigError
from nvkit.interop.cm.data import places, raw
from nvkit.interop.cm.parse import Parsed
from nvkit.interop.cm.select import USER, Selection
from nvkit.interop.cm.target import Target
from nvkit.interop.cm.values import value

_FLAG = "--"


@dataclass(frozen=True)
class Value:
    """A value that the command gives to a setting.

    Attributes:
        setting: Name of the setting.
        value: The value, of the setting's type.
        variable: Variable, or flag of another script, that it comes from.
        who: Variation, flag or "env" that set the variable.
        fate: "kept" (it is in the nvkit command), "same" (the profile has it), or why it is left out.
    """

    setting: str
    value: Any
    variable: str
    who: str
    fate: str = "kept"


def settings_of(selection: Selection, parsed: Parsed, target: Target, implementation: str) -> dict[str, Value]:
    """Return setting to value for everything that the command gives, with its fate.

    Raises:
        ConfigError: a value of the wrong type or range, or names that `nvkit.config.resolve` refuses.
    """
    given: dict[str, Value] = {}
    for entry in sorted(_given(selection, parsed, target), key=lambda v: not v.who.startswith(_FLAG)):
        given.setdefault(entry.setting, entry)  # a flag before what variations say; then in the order of the data file
    if target.make_target:
        given["make_target"] = Value("make_target", target.make_target, "make_cmd", "--make_cmd")
    if target.stage == "setup":
        given["download_model"] = Value("download_model", True, "run mode", "_download_model")
    typed = _typed(given)
    baseline = _baseline(target, implementation)
    result = {}
    final = (baseline or Settings(backend="tensorrt")).model_copy(update={key: getattr(typed, key) for key in given})
    for key, entry in given.items():
        wanted = getattr(typed, key)
        fate = no_effect(key, final, target.benchmark, target.scenario, implementation)
        if not fate:
            fate = "same" if baseline and getattr(baseline, key) == wanted else "kept"
        result[key] = Value(key, wanted, entry.variable, entry.who, fate)
    return result


def _given(selection: Selection, parsed: Parsed, target: Target) -> Iterator[Value]:
    for variable, place in places().items():
        if place.kind != "setting" or place.read_as == "profile" or variable not in selection.env:
            continue
        who = selection.set_by(variable)
        for setting in place.settings(target.scenario):
            said = f"--env.{variable}" if who == USER else who if who.startswith(_FLAG) else f"_{who}"
            read = value(selection.env[variable], place.read_as, said, target.benchmark)
            yield Value(setting, read, variable, who)
    around: Mapping[str, Any] = raw("flags")["around"]
    for flag, text in parsed.flags.items():
        if setting := around.get(flag, {}).get("setting"):
            yield Value(setting, text, flag, f"--{flag}")


def _typed(given: Mapping[str, Value]) -> Settings:
    try:
        return Settings.model_validate({key: entry.value for key, entry in given.items()})
    except ValidationError as error:
        first = error.errors()[0]
        entry = given[str(first["loc"][0])]
        raise ConfigError(
            f"{entry.who}: {entry.setting} = {entry.value!r}: {first['msg']}.",
            f"{entry.setting}: {Settings.model_fields[entry.setting].description}.",
        ) from None


def _baseline(target: Target, implementation: str) -> Settings | None:
    """Return what the profile resolves to by itself; None for "auto", which is another on every machine."""
    if target.profile == "auto":
        return None
    config = resolve(
        target.profile,
        target.benchmark,
        target.scenario,
        mode=target.mode,
        round=target.round,
        power=target.power,
        implementation=implementation,
    )
    return config.scenarios[target.scenario]
