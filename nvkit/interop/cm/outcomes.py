"""What became of each word of a command."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nvkit.errors import ConfigError, nearest
from nvkit.interop.cm.data import Place, flags, places, raw
from nvkit.interop.cm.newer import Newer
from nvkit.interop.cm.parse import Parsed
from nvkit.interop.cm.select import DEFAULT, USER, Chosen, Selection, newer_flags
from nvkit.interop.cm.settings import Value
from nvkit.interop.cm.target import Target
from nvkit.tables import Table

LEFT_OUT = "left out"
NOTHING = "nothing"
_HARNESS = ("CM_MLPERF_", "MLPERF_", "CM_NVIDIA_")
_PROFILE_GROUPS = ("gpu-name", "gpu-connection", "device-memory", "device")
_NAMING_GROUPS = (*_PROFILE_GROUPS, "model", "backend", "loadgen-scenario", "power-mode", "run-mode")
_FAMILY = "the combined variations of this family apply"


@dataclass(frozen=True)
class Outcome:
    """What became of one word.

    Attributes:
        word: As the user gave it; in parentheses what CM adds by itself.
        kind: tag, default, combined, flag, env, dependency or command.
        became: What stands for it in nvkit's command, "nothing" or "left out".
        note: Remark.
    """

    word: str
    kind: str
    became: str
    note: str = ""


class Told:
    """Says of each word what became of it, from a selection and the settings that it gave."""

    def __init__(
        self, selection: Selection, target: Target, values: Mapping[str, Value], options: Mapping[str, Any]
    ) -> None:
        self.selection = selection
        self.options = options
        self.target = target
        self.values = values

    def outcomes(self, newer: Newer) -> list[Outcome]:
        """Return the outcome of every word, in the order of the command's parts.

        Raises:
            ConfigError: a flag or variable that neither the script nor CM has.
        """
        parsed = newer.parsed
        return [
            self._edition(),
            *self._command(parsed),
            *self._tags(),
            *(Outcome(word, "tag", became, note) for word, (became, note) in newer.notes.items()),
            *self._combined(),
            *self._flags(parsed),
            *self._variables(parsed),
            *(
                Outcome(
                    f"--{key}={value}",
                    "dependency",
                    LEFT_OUT,
                    "it is for a script that this one calls; nvkit calls none",
                )
                for key, value in parsed.dependencies.items()
            ),
            *self._defaults(),
        ]

    def _edition(self) -> Outcome:
        edition = self.selection.edition
        older = "only the older one has all of these tags; " if edition.name == "v2.1" else ""
        return Outcome(
            "(script)", DEFAULT, f"edition {edition.name}", f"{older}README of {edition.readme}, {edition.source}"
        )

    def _command(self, parsed: Parsed) -> Iterator[Outcome]:
        if parsed.action == "docker":
            yield Outcome("docker", "command", NOTHING, raw("flags")["around"]["docker"]["none"])

    def _tags(self) -> Iterator[Outcome]:
        for chosen in self.selection.chosen:
            word, kind = (f"_{chosen.tag}", "tag") if chosen.named else (f"(_{chosen.tag})", DEFAULT)
            fates = (
                [self._tag(chosen)] if self._named_by_group(chosen) else self._sets(chosen.variation.env, chosen.tag)
            )
            yield from (Outcome(word, kind, became, note) for became, note in fates)

    @staticmethod
    def _named_by_group(chosen: Chosen) -> bool:
        """Whether the variation chooses a name of nvkit or a family, and sets no setting by itself."""
        return chosen.variation.group in _NAMING_GROUPS or not chosen.variation.env

    def _tag(self, chosen: Chosen) -> tuple[str, str]:
        variation, target = chosen.variation, self.target
        became = {
            "model": target.benchmark,
            "backend": "the profile's backend",
            "loadgen-scenario": f"--scenario {target.scenario}",
            "power-mode": f"--power {target.power}",
            "run-mode": self._step(),
        }
        if not variation.group:
            return NOTHING, _FAMILY
        if variation.group not in _PROFILE_GROUPS:
            return became[variation.group], ""
        own = raw("variations")["profiles"].get(chosen.tag, target.profile)
        note = "profiles of GPUs run on CUDA" if chosen.tag == "cuda" else ""
        return f"--profile {target.profile}", note if own == target.profile else "another tag says more about the GPU"

    def _step(self) -> str:
        whole = self.target.run_mode == "run_harness" or self.target.stage != "run"
        return f"nvkit {self.target.stage}" + ("" if whole else f" --run-mode {self.target.run_mode}")

    def _combined(self) -> Iterator[Outcome]:
        for variation in self.selection.combined:
            for became, note in self._sets({**variation.default_env, **variation.env}, variation.name):
                yield Outcome(f"(_{variation.name})", "combined", became, note)

    def _sets(self, env: Mapping[str, str], who: str) -> list[tuple[str, str]]:
        """Say what became of each variable that a variation sets, all that came to nothing in one line."""
        fates = list(dict.fromkeys(fate for fate in (self._fate(v, who) for v in env if v in places()) if fate))
        idle = "; ".join(dict.fromkeys(note for became, note in fates if became == NOTHING and note))
        telling = [fate for fate in fates if fate[0] != NOTHING]
        return telling + ([(NOTHING, idle)] if idle or not telling else [])

    def _fate(self, variable: str, who: str) -> tuple[str, str] | None:
        """Say what became of a variable that somebody set; None if it only passes its value to another one."""
        place = places()[variable]
        if place.read_as == "profile":
            return None
        if self.selection.set_by(variable) != who:
            return NOTHING, f"overridden by {self._name(self.selection.set_by(variable))}"
        if place.kind == "setting":
            return self._setting_fate(variable, place)
        return self._option_fate(variable, place)

    def _setting_fate(self, variable: str, place: Place) -> tuple[str, str]:
        names = place.settings(self.target.scenario)
        if variable not in self.selection.env:
            return NOTHING, "empty"
        if not names:
            return NOTHING, f"{place.name} has no meaning in {self.target.scenario}"
        told = [self._value_fate(self.values[name], variable) for name in names]
        return ", ".join(became for became, _ in told), "; ".join(dict.fromkeys(note for _, note in told if note))

    def _value_fate(self, value: Value, variable: str) -> tuple[str, str]:
        said = f"{value.setting} {_written(value.value)}"
        if value.variable != variable:
            return NOTHING, f"{value.setting} is set by {self._name(value.who)}"
        if value.fate == "kept":
            return flag_text(value.setting, value.value), ""
        if value.fate == "same":
            return said, f"profile {self.target.profile} has it"
        return LEFT_OUT, f"{said}: {value.fate}"

    def _option_fate(self, variable: str, place: Place) -> tuple[str, str]:
        text = self.selection.env.get(variable, "")
        if place.kind == "none":
            return NOTHING, place.name
        if place.kind == "stage":
            if self.target.make_target:
                return flag_text("make_target", self.target.make_target), ""
            return (self._step() if place.name in ("run", "build") else f"nvkit {place.name}"), place.why
        if hasattr(self.target, place.name):
            return f"--{place.name} {getattr(self.target, place.name)}", place.why
        return self._extra_option(place.name, text, place.why)

    def _extra_option(self, name: str, text: str, note: str = "") -> tuple[str, str]:
        """Say what became of something that is an option of the command, but no name."""
        flag = f"--{name.replace('_', '-')}"
        if name == "outputs":
            same = self.options.get(name) == text
            return (f"{flag} {text}", note) if same else (NOTHING, f"{flag} is {self.options.get(name)}")
        if name in self.options:
            return flag, note
        if name == "dry_run" and self.target.stage != "run":
            return LEFT_OUT, f"nvkit {self.target.stage} has no {flag}"
        return NOTHING, f"it is '{text}'"

    def _flags(self, parsed: Parsed) -> Iterator[Outcome]:
        known = {**flags("v3.x"), **newer_flags()}
        around, refused = raw("flags")["around"], raw("flags")["newer"]
        for flag, text in parsed.flags.items():
            word = f"--{flag}" if text == "True" else f"--{flag}={text}"
            if flag in known:
                became, note = self._fate(self._variable(flag), f"--{flag}") or (NOTHING, "")
                yield Outcome(word, "flag", became, note)
            elif flag in around or flag.startswith("docker_"):
                yield self._around(word, flag, text, around.get(flag, around["docker"]))
            elif flag in refused:
                yield Outcome(word, "flag", LEFT_OUT, refused[flag]["none"])
            else:
                raise ConfigError(f"Neither the script nor CM has a flag '--{flag}'.", nearest(flag, [*known, *around]))

    def _variable(self, flag: str) -> str:
        return {**flags("v3.x"), **newer_flags(), **flags(self.selection.edition.name)}[flag]

    def _around(self, word: str, flag: str, text: str, entry: Mapping[str, str]) -> Outcome:
        if setting := entry.get("setting"):
            became, note = self._value_fate(self.values[setting], flag)
            return Outcome(word, "flag", became, note)
        if option := entry.get("option"):
            became, note = self._extra_option(option, text)
            return Outcome(word, "flag", became, note)
        return Outcome(word, "flag", NOTHING, entry["none"])

    def _variables(self, parsed: Parsed) -> Iterator[Outcome]:
        for kind in (USER, "const"):
            for name, text in getattr(parsed, kind).items():
                who = USER if kind == USER else f"--const.{name}"
                word = f"--{kind}.{name}={text}"
                if name in places():
                    became, note = self._fate(name, who) or (NOTHING, "the script uses it only inside its variations")
                    yield Outcome(word, "env", became, note)
                elif name.startswith(_HARNESS):
                    raise ConfigError(f"The script knows no variable {name}.", nearest(name, places()))
                else:
                    yield Outcome(word, "env", LEFT_OUT, "the script does not read it, and nvkit reads no environment")

    def _defaults(self) -> Iterator[Outcome]:
        target = self.target
        yield Outcome("(round)", DEFAULT, f"--round {target.round}", target.round_note)
        if self.selection.set_by("CM_MLPERF_LOADGEN_MODE") == DEFAULT:
            yield Outcome("(mode)", DEFAULT, f"--mode {target.mode}", "the script's default")
        if target.profile == "auto":
            note = "no GPU is named: nvkit finds this machine's; the values of the script stand in the command"
            yield Outcome("(GPU)", DEFAULT, "--profile auto", note)

    @staticmethod
    def _name(who: str) -> str:
        return who if who.startswith("--") or who in (USER, DEFAULT) else f"_{who}"


def flag_text(setting: str, value: object) -> str:
    """Return a setting as a flag of nvkit's command line."""
    flag = f"--{setting.replace('_', '-')}"
    return flag if value is True else f"{flag}={_written(value)}"


def table(outcomes: list[Outcome]) -> Table:
    """Return the outcomes as a table; what is left out stands below it again."""
    lost = [f"LEFT OUT: {o.word}: {o.note}." for o in outcomes if o.became == LEFT_OUT]
    rows = [[o.word, o.kind, o.became, o.note] for o in outcomes]
    return Table(["word", "kind", "became", "note"], rows, title="what became of each word", notes=lost)


def _written(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).lower() if isinstance(value, bool) else str(value)
