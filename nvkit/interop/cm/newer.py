"""Spellings of the script's successor in mlcommons/mlperf-automations, turned into those of the script."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from nvkit.interop.cm.data import raw
from nvkit.interop.cm.parse import Parsed


@dataclass
class Newer:
    """What a command says in the newer words.

    Attributes:
        parsed: The command in the words of the script.
        round: Round that a version tag chose.
        notes: Word to (what it became, remark).
    """

    parsed: Parsed
    round: str | None = None
    notes: dict[str, tuple[str, str]] = field(default_factory=dict)


def in_older_words(parsed: Parsed) -> Newer:
    """Replace MLC_ variables, aliases and version tags."""
    newer = raw("variations")["newer"]
    result = Newer(replace(parsed, tags=[], flags=dict(parsed.flags), env={}, const={}))
    for tag in parsed.tags:
        name = tag.removeprefix("_")
        if not tag.startswith("_"):
            result.parsed.tags.append(tag)
        elif name in newer["aliases"]:
            result.parsed.tags.append(f"_{newer['aliases'][name]}")
        elif name in newer["rounds"]:
            result.round = name
            result.notes[tag] = (f"--round {name}", "a version of the script's successor")
        elif name in newer["flags"]:
            result.parsed.flags.setdefault(newer["flags"][name], "yes")
            result.notes[tag] = (f"--{newer['flags'][name]} of the script", "a variation of the script's successor")
        elif name in newer["nothing"]:
            result.notes[tag] = ("nothing", newer["nothing"][name])
        else:
            result.parsed.tags.append(tag)
    for kind in ("env", "const"):
        given: dict[str, str] = getattr(parsed, kind)
        getattr(result.parsed, kind).update({_older(name): value for name, value in given.items()})
    return result


def _older(name: str) -> str:
    return f"CM_{name.removeprefix('MLC_')}" if name.startswith("MLC_") else name
