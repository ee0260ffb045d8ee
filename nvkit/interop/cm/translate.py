"""A command of CM's script to the equivalent of nvkit."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nvkit.interop.cm.data import Decision, expanded, raw
from nvkit.interop.cm.newer import in_older_words
from nvkit.interop.cm.outcomes import Told, flag_text
from nvkit.interop.cm.outcomes import table as outcome_table
from nvkit.interop.cm.parse import Parsed, parse
from nvkit.interop.cm.script import require_this_script
from nvkit.interop.cm.select import Selection, select
from nvkit.interop.cm.settings import settings_of
from nvkit.interop.cm.target import Target, target
from nvkit.interop.cm.touched import touching
from nvkit.interop.cm.values import value
from nvkit.tables import Table

_OUTPUTS = ("CM_MLPERF_OUTPUT_DIR", expanded("N_LOG_DIR"))


@dataclass(frozen=True)
class Translation:
    """An nvkit command and how it came about.

    Attributes:
        seed: Edition of the script, v2.1 or v3.x.
        selected: Variations that CM chooses, combined ones last.
        env: Variable to its final value in CM.
        names: Arguments of `nvkit.configure` besides the settings.
        overrides: Setting to value, only what differs from what the profile resolves to by itself.
        stage: The stage of nvkit, the name of its command.
        run_mode: The script's run mode.
        options: Further options of the command: outputs, fresh, dry_run.
        outcomes: What became of each word.
        decisions: Decisions of nvkit that touch this command.
    """

    seed: str
    selected: tuple[str, ...]
    env: Mapping[str, str]
    names: Mapping[str, Any]
    overrides: Mapping[str, Any]
    stage: str
    run_mode: str
    options: Mapping[str, Any]
    outcomes: Table
    decisions: tuple[Decision, ...]

    @property
    def command(self) -> list[str]:
        """The words of the nvkit command."""
        named = {key: value for key, value in self.names.items() if key != "benchmark"}
        words = [
            "nvkit",
            self.stage,
            str(self.names["benchmark"]),
            *(f"--{key}={value}" for key, value in named.items()),
        ]
        if self.stage == "run" and self.run_mode != "run_harness":
            words.append(f"--run-mode={self.run_mode}")
        return words + [flag_text(key, value) for key, value in {**self.options, **self.overrides}.items()]

    def shell_line(self) -> str:
        """Return the command as one line for a shell."""
        return shlex.join(self.command)

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of nvkit's notebooks."""
        options = {key: value for key, value in self.options.items() if key in ("outputs", "fresh")}
        return {**self.names, "overrides": dict(self.overrides), **options}


def translate(words: Sequence[str], nvidia_code: str = "") -> Translation:
    """Translate a command of CM's script reproduce-mlperf-inference-nvidia.

    Args:
        words: The command, as one text or in separate words; see `nvkit.interop.cm.parse`.
        nvidia_code: Checkout of NVIDIA's code, to run that instead of nvkit's own harness.

    Raises:
        ConfigError: not such a command, an unknown word (the nearest is named), words that exclude each other, a
            combination that no round has, or a value of the wrong type.
    """
    newer = in_older_words(parse(words))
    parsed = newer.parsed
    require_this_script(parsed)
    selection = select(parsed)
    wanted = target(selection, newer.round, original=bool(nvidia_code))
    implementation = "nvidia-original" if nvidia_code else "nvkit"
    values = settings_of(selection, parsed, wanted, implementation)
    overrides = {key: _plain(entry.value) for key, entry in values.items() if entry.fate == "kept"}
    options = _options(selection, parsed, wanted)
    if nvidia_code:
        overrides = {"nvidia_code": nvidia_code, **overrides}
    return Translation(
        seed=selection.edition.name,
        selected=(*(c.tag for c in selection.chosen), *(v.name for v in selection.combined)),
        env=selection.env,
        names=_names(wanted, implementation),
        overrides=overrides,
        stage=wanted.stage,
        run_mode=wanted.run_mode,
        options=options,
        outcomes=outcome_table(Told(selection, wanted, values, options).outcomes(newer)),
        decisions=touching(selection, parsed, wanted),
    )


def _names(wanted: Target, implementation: str) -> dict[str, str]:
    """Return the names, those that are nvkit's defaults left out where the script has no word for them."""
    named = {key: getattr(wanted, key) for key in ("profile", "benchmark", "scenario", "mode", "round")}
    if wanted.power != "MaxP":
        named["power"] = wanted.power
    return {**named, **({"implementation": implementation} if implementation != "nvkit" else {})}


def _options(selection: Selection, parsed: Parsed, wanted: Target) -> dict[str, Any]:
    around = raw("flags")["around"]
    options: dict[str, Any] = {}
    for flag, text in parsed.flags.items():
        option = around.get(flag, {}).get("option")
        if option == "outputs":
            options["outputs"] = text
        elif option and (option != "dry_run" or wanted.stage == "run") and value(text, "bool", f"--{flag}", ""):
            options[option] = True
    for variable in reversed(_OUTPUTS):
        if folder := selection.env.get(variable):
            options["outputs"] = folder
    if (again := selection.env.get("CM_RERUN")) and value(again, "bool", selection.set_by("CM_RERUN"), ""):
        options["fresh"] = True
    return options


def _plain(value: Any) -> Any:
    return value if isinstance(value, (bool, int, float)) else str(value)
