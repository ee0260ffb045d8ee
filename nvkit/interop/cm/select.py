"""Which variations a command chooses, and the environment that they give, by the rules of CM at the seeds' time.

A variable is set by, later ones winning: the defaults of the script (where the user sets nothing), the user's --env,
the chosen variations in the order of their tags with what they bring along behind them, the combined variations in
the order of their declaration, and the flags. <<<NAME>>> is replaced when all are set.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from nvkit.config import ProfileFile, names
from nvkit.errors import ConfigError, nearest
from nvkit.interop.cm.data import EDITIONS, Edition, Variation, edition, expanded, flags, mended, raw, stands_for
from nvkit.interop.cm.parse import Parsed

DEFAULT, USER = "default", "env"
"""Where a value may come from, besides the name of a variation and "--flag"."""
_LATE = re.compile(r"<<<(.*?)>>>")
_SCENARIO_GROUP = "loadgen-scenario"


@dataclass(frozen=True)
class Chosen:
    """A variation with the value that stands for its "#", and whether the user named it."""

    variation: Variation
    value: str = ""
    named: bool = True

    @property
    def tag(self) -> str:
        """The variation as a user writes it, without the underscore."""
        return self.variation.name.replace("#", self.value)


@dataclass(frozen=True)
class Selection:
    """What a command comes down to in CM's own terms.

    Attributes:
        edition: The script's edition.
        chosen: Simple variations, in the order in which they apply.
        combined: Combined variations that apply, in their order.
        chain: Variable to who set it and to what, the one in effect last.
        env: Variable to its final value; no variable is empty.
    """

    edition: Edition
    chosen: tuple[Chosen, ...]
    combined: tuple[Variation, ...]
    chain: Mapping[str, tuple[tuple[str, str], ...]]
    env: Mapping[str, str]

    def of_group(self, group: str) -> Chosen | None:
        """Return the variation that is chosen of a group."""
        return next((c for c in self.chosen if c.variation.group == group), None)

    def set_by(self, variable: str) -> str:
        """Return who set the value in effect."""
        return self.chain[variable][-1][0]


def choose_edition(tags: list[str]) -> Edition:
    """Return the newer edition unless a tag is only in the older one.

    Raises:
        ConfigError: a tag that no edition has (the nearest is named), or tags of which no edition has all.
    """
    editions = [mended(edition(name)) for name in EDITIONS]
    for tag in tags:
        if not any(_find(e, tag) for e in editions):
            raise _unknown(tag, editions)
    for found in editions:
        if all(_find(found, tag) for tag in tags):
            return found
    newer, older = editions
    only_older = next(tag for tag in tags if not _find(newer, tag))
    only_newer = next(tag for tag in tags if not _find(older, tag))
    raise ConfigError(
        f"_{only_older} is only in edition {older.name} of the script, and _{only_newer} only in {newer.name}.",
        f"Leave one out, or use nvkit's own words: nvkit run {only_older} --round v3.0 and a --profile.",
    )


def select(parsed: Parsed) -> Selection:
    """Choose edition and variations, and compute the environment.

    Raises:
        ConfigError: an unknown variation or flag, or two of one group.
    """
    tags = [tag.removeprefix("_") for tag in parsed.tags if tag.startswith("_")]
    found = choose_edition(tags)
    given = flag_values(parsed, found)
    chosen = _complete(found, [_chosen(found, tag) for tag in dict.fromkeys(tags)], given)
    present = {c.tag for c in chosen} | {stands_for().get(c.tag, "") for c in chosen}
    combined = tuple(v for v in found.variations.values() if v.combined and present.issuperset(v.parts))
    chain: dict[str, list[tuple[str, str]]] = {}
    for variable, value in parsed.env.items():
        chain.setdefault(variable, []).append((USER, value))
    for variable, value in found.default_env.items():
        if variable not in chain and variable not in given:
            chain[variable] = [(DEFAULT, value)]
    for variable, value in found.fixed_env.items():
        chain.setdefault(variable, []).append((DEFAULT, value))
    for entry in [*chosen, *(Chosen(v) for v in combined)]:
        for variable, value in entry.variation.default_env.items():
            if variable not in chain and variable not in given:
                chain[variable] = [(entry.tag, value)]
        for variable, value in entry.variation.env.items():
            chain.setdefault(variable, []).append((entry.tag, value.replace("#", entry.value)))
    for variable, (flag, value) in given.items():
        chain.setdefault(variable, []).append((flag, value))
    return Selection(found, tuple(chosen), combined, {k: tuple(v) for k, v in chain.items()}, _substituted(chain))


def flag_values(parsed: Parsed, edition: Edition) -> dict[str, tuple[str, str]]:
    """Return variable to (who, value) for the flags and --const of a command; a later flag of a variable wins."""
    known = {**flags("v3.x"), **flags(edition.name), **newer_flags()}
    found = {known[flag]: (f"--{flag}", value) for flag, value in parsed.flags.items() if flag in known}
    return {**found, **{name: (f"--const.{name}", value) for name, value in parsed.const.items()}}


def newer_flags() -> dict[str, str]:
    """Return flag to variable for flags that only the script's successor has."""
    return {flag: expanded(entry["env"]) for flag, entry in raw("flags")["newer"].items() if "env" in entry}


def _find(edition: Edition, tag: str) -> tuple[Variation, str] | None:
    """Return the simple variation of a tag and the value for its "#"."""
    if tag in edition.variations and "#" not in tag and "," not in tag:
        return edition.variations[tag], ""
    name, dot, value = tag.partition(".")
    if dot and value and (found := edition.variations.get(f"{name}.#")):
        return found, value
    return None


def _chosen(edition: Edition, tag: str, named: bool = True) -> Chosen:
    found = _find(edition, tag)
    assert found is not None  # choose_edition has looked
    return Chosen(*found, named)


def _complete(edition: Edition, chosen: list[Chosen], given: Mapping[str, tuple[str, str]]) -> list[Chosen]:
    """Add the scenario of the flag, bases, and defaults of groups; refuse two of one group."""
    asked = given.get("CM_MLPERF_LOADGEN_SCENARIO", ("", ""))[1].lower()
    if asked in edition.of_group(_SCENARIO_GROUP) and asked not in [c.tag for c in chosen]:
        chosen = [*chosen, _chosen(edition, asked)]
    _one_of_each_group(chosen)
    chosen = _with_bases(edition, chosen)
    groups = {c.variation.group for c in chosen}
    defaults = [v.name for v in edition.variations.values() if v.default and v.group not in groups]
    return _with_bases(edition, [*chosen, *(_chosen(edition, name, False) for name in defaults)])


def _one_of_each_group(chosen: list[Chosen]) -> None:
    seen: dict[str, Chosen] = {}
    for entry in chosen:
        group = entry.variation.group
        if not group:
            continue
        if group in seen:
            raise ConfigError(
                f"_{seen[group].tag} and _{entry.tag} are both of the group {group}, of which one can be chosen.",
                "Leave one out.",
            )
        seen[group] = entry


def _with_bases(edition: Edition, chosen: list[Chosen]) -> list[Chosen]:
    """Append what the chosen variations bring along, and what that brings."""
    result = list(chosen)
    for entry in result:  # grows while it is walked
        groups = {c.variation.group for c in result}
        names = {c.tag for c in result}
        brought = [*entry.variation.base, *(n for g, n in entry.variation.defaults.items() if g not in groups)]
        result += [_chosen(edition, name, False) for name in brought if name not in names]
    return result


def _substituted(chain: Mapping[str, list[tuple[str, str]]]) -> dict[str, str]:
    last = {variable: found[-1][1] for variable, found in chain.items()}
    final = {variable: _LATE.sub(lambda match: last.get(match[1], ""), text) for variable, text in last.items()}
    return {variable: text for variable, text in final.items() if text}


def _unknown(tag: str, editions: list[Edition]) -> ConfigError:
    simple = {v.name for e in editions for v in e.variations.values() if not v.combined}
    if tag.startswith("-"):
        return ConfigError(f"_{tag} excludes a variation.", "Leave it out: a default is replaced by naming another.")
    if any(v.name == tag for e in editions for v in e.variations.values()):
        return ConfigError(f"'_{tag}' is a combined variation.", "Give its parts; it then applies by itself.")
    if tag in raw("variations")["newer"]["unknown"]:
        return ConfigError(
            f"_{tag} came after the script that nvkit replaces.",
            "nvkit has no such benchmark; see 'nvkit list benchmarks'.",
        )
    ours = [name for name in names(ProfileFile) if tag.lower().replace("-", "_") in name]
    if ours:
        return ConfigError(
            f"The script has no variation '_{tag}'; profiles of nvkit are {', '.join(ours)}.",
            "Leave the tag out, and put the --profile into the command that nvkit prints.",
        )
    if tag in ("batch_size", "dla_batch_size", "build_engine_options"):
        return ConfigError(f"_{tag} needs a value.", f"Write _{tag}.VALUE.")
    hint = nearest(tag, simple)
    listed = hint if hint.startswith("Did you mean") else "parameters/coverage.md has them all."
    return ConfigError(f"The script has no variation '_{tag}'.", listed)
