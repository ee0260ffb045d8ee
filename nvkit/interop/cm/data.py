"""The facts about CM's script: its variations, flags, environment, dependencies, and nvkit's decisions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from nvkit.config.files import read_yaml

EDITIONS = ("v3.x", "v2.1")
"""Editions of the script, the newer first: by the round of NVIDIA's code that each wraps."""
_PREFIXES = {"N_": "CM_MLPERF_NVIDIA_HARNESS_", "L_": "CM_MLPERF_LOADGEN_"}
_HASH = "#"


@dataclass(frozen=True)
class Variation:
    """One variation of the script.

    Attributes:
        name: Without the leading underscore; "#" stands for a value, commas join a combined one.
        group: Of a group only one can be chosen.
        default: Chosen if no other of its group is.
        base: Variations that are chosen too.
        defaults: Group to the variation that is chosen if none of the group is.
        env: Variables that it sets.
        default_env: Variables that it sets where nothing has.
    """

    name: str
    group: str | None = None
    default: bool = False
    base: tuple[str, ...] = ()
    defaults: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    default_env: Mapping[str, str] = field(default_factory=dict)

    @property
    def parts(self) -> tuple[str, ...]:
        """The variations that must all be chosen; one for a simple variation."""
        return tuple(self.name.split(","))

    @property
    def combined(self) -> bool:
        """Whether it applies by itself when its parts are chosen."""
        return len(self.parts) > 1


@dataclass(frozen=True)
class Edition:
    """The script as it was at one time.

    Attributes:
        name: One of EDITIONS.
        round: MLPerf round of the code that it wraps.
        source: Repository and commit.
        readme: Date of the README.
        default_env: Variables set where the user sets none.
        fixed_env: Variables set over the user's.
        variations: By name, in the order in which combined ones apply.
    """

    name: str
    round: str
    source: str
    readme: str
    default_env: Mapping[str, str]
    fixed_env: Mapping[str, str]
    variations: Mapping[str, Variation]

    def of_group(self, group: str) -> list[str]:
        """Return the variations of a group."""
        return [v.name for v in self.variations.values() if v.group == group]


@dataclass(frozen=True)
class Place:
    """What a variable, flag or dependency becomes in nvkit.

    Attributes:
        kind: setting, option, stage, doctor, pyproject or none.
        name: Name of it; for none, the reason.
        by_scenario: For a setting that depends on the scenario: scenario to setting.
        also: A second setting that takes the same value.
        read_as: How the text is read, see `nvkit.interop.cm.values`.
        value: What the option becomes, if the variable only switches it.
        why: More about it.
    """

    kind: str
    name: str
    by_scenario: Mapping[str, str] = field(default_factory=dict)
    also: str | None = None
    read_as: str = "text"
    value: str | None = None
    why: str = ""

    def settings(self, scenario: str) -> list[str]:
        """Return the settings that it is in a scenario, none if it has no meaning there."""
        first = self.by_scenario.get(scenario) if self.by_scenario else self.name
        return [name for name in (first, self.also) if name]


@dataclass(frozen=True)
class Dependency:
    """A script that the script calls.

    Attributes:
        tags: What it is called by.
        script: Name of it.
        of: Variations that call it; empty for the script itself.
        editions: Editions that call it.
        place: What nvkit has instead.
    """

    tags: str
    script: str
    of: tuple[str, ...]
    editions: tuple[str, ...]
    place: Place


@dataclass(frozen=True)
class Decision:
    """Where the script does something that nvkit had to decide on.

    Attributes:
        choice: "mend" or "reproduce".
        script: What the script does.
        nvkit: What nvkit does.
        why: The reason.
        when: What a command must contain to be touched.
    """

    name: str
    choice: str
    script: str
    nvkit: str
    why: str
    when: Mapping[str, tuple[str, ...]]


def expanded(key: str) -> str:
    """Return the full name of a variable that is written with one of the short prefixes of the data files."""
    for short, full in _PREFIXES.items():
        if key.startswith(short):
            return full + key.removeprefix(short)
    return key


@cache
def raw(name: str) -> Any:
    """Return the content of a data file of this package."""
    return read_yaml(Path(__file__).with_name(f"{name}.yaml"), f"nvkit/interop/cm/{name}.yaml").content


@cache
def edition(name: str) -> Edition:
    """Return the script's edition of one name, as its author wrote it."""
    content = raw("variations")[name]
    return Edition(
        name=name,
        round=content["round"],
        source=content["source"],
        readme=content["readme"],
        default_env=_env(content["default_env"]),
        fixed_env=_env(content["fixed_env"]),
        variations={key: _variation(key, value) for key, value in content["variations"].items()},
    )


@cache
def flags(name: str = "v3.x") -> Mapping[str, str]:
    """Return flag to variable for one edition."""
    found = {}
    for flag, entry in raw("flags")["flags"].items():
        if variable := entry.get(name, entry["env"]):
            found[flag] = expanded(variable)
    return found


@cache
def places() -> Mapping[str, Place]:
    """Return variable to what it becomes."""
    return {expanded(key): place(entry) for key, entry in raw("environment").items()}


@cache
def dependencies() -> tuple[Dependency, ...]:
    """Return the scripts that the script and its variations call."""
    return tuple(
        Dependency(
            tags=entry["tags"],
            script=entry["script"],
            of=tuple(entry.get("of", ())),
            editions=(entry["edition"],) if "edition" in entry else EDITIONS,
            place=place(entry),
        )
        for entry in raw("dependencies")
    )


@cache
def decisions() -> tuple[Decision, ...]:
    """Return nvkit's decisions, in the order of their file."""
    return tuple(
        Decision(
            **{**entry, "when": {key: tuple(map(expanded, values)) for key, values in entry["when"].items()}},
        )
        for entry in raw("decisions")
    )


def place(entry: Mapping[str, Any]) -> Place:
    """Return the place that an entry of a data file names."""
    kind = next(k for k in ("setting", "option", "stage", "doctor", "pyproject", "none") if k in entry)
    target = entry[kind]
    by_scenario = target if isinstance(target, dict) else {}
    name = " or ".join(dict.fromkeys(by_scenario.values())) if by_scenario else str(target)
    return Place(
        kind, name, by_scenario, entry.get("also"), entry.get("as", "text"), entry.get("value"), entry.get("why", "")
    )


def mended(edition: Edition) -> Edition:
    """Return an edition with what nvkit adds so that the script's own values can be reached."""
    if edition.name != "v3.x":
        return edition
    added = raw("variations")["mended"]["variations"]
    variations = dict(_with(edition.variations, added))
    return Edition(**{**edition.__dict__, "variations": variations})


def stands_for() -> Mapping[str, str]:
    """Return variations that mean what another one means."""
    found: Mapping[str, str] = raw("variations")["mended"]["stands_for"]
    return found


def _with(variations: Mapping[str, Variation], added: Mapping[str, Any]) -> Iterator[tuple[str, Variation]]:
    for name, variation in variations.items():
        more = _variation(name, added.get(name, {}))
        yield name, Variation(**{**variation.__dict__, "defaults": {**variation.defaults, **more.defaults}})
    for name in [key for key in added if key not in variations]:
        yield name, _variation(name, added[name])


def _variation(name: str, entry: Mapping[str, Any]) -> Variation:
    env = _env(entry.get("env", {}))
    if "batch" in entry:
        env = {
            **env,
            "CM_MODEL_BATCH_SIZE": str(entry["batch"]),
            expanded("N_GPU_BATCH_SIZE"): "<<<CM_MODEL_BATCH_SIZE>>>",
        }
    return Variation(
        name=name,
        group=entry.get("group"),
        default=entry.get("default", False),
        base=tuple(entry.get("base", ())),
        defaults=entry.get("defaults", {}),
        env=env,
        default_env=_env(entry.get("default_env", {})),
    )


def _env(values: Mapping[str, Any]) -> dict[str, str]:
    return {expanded(key): str(value) for key, value in values.items()}
