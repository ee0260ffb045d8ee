"""A CM or MLC command line, or the dict of its Python interface, to tags, flags and variables."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nvkit.config.files import read_yaml
from nvkit.errors import ConfigError, nearest

_PROGRAMS: Mapping[str, tuple[str, ...]] = {
    "cm": (),
    "mlc": (),
    "cmr": ("run", "script"),
    "mlcr": ("run", "script"),
    "mlcd": ("docker", "script"),
}
_ACTIONS = ("run", "docker")
_NESTED = ("env", "const")
_DEPENDENCIES = ("ad", "adr", "add_deps", "add_deps_recursive")
_STRAIGHT = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'", "\N{NO-BREAK SPACE}": " "})
_FORMS = "Give it as it was typed, e.g. 'cmr \"reproduce mlperf inference nvidia harness _l4 _resnet50 _offline\"'."


@dataclass
class Parsed:
    """What a command says, unjudged.

    Attributes:
        action: run, or docker.
        tags: Words that choose the script, and variations with their leading underscore, in order.
        script: The script's name or uid, if it is chosen so.
        flags: Flag (with _ for -) to value; "True" for a flag without one.
        env: Variables given by --env.
        const: Variables given by --const, which win over everything.
        dependencies: What is addressed to scripts that this one calls, e.g. "adr.compiler.tags".
    """

    action: str = "run"
    tags: list[str] = field(default_factory=list)
    script: str = ""
    flags: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    const: dict[str, str] = field(default_factory=dict)
    dependencies: dict[str, str] = field(default_factory=dict)


def parse(words: Sequence[str]) -> Parsed:
    """Read a command given as one text or as separate words.

    The forms are `cm run script --tags=...`, `cm run script "..."`, `cmr "..."`, `cm docker script ...`, the same of
    `mlc`, `mlcr` and `mlcd`, and the dict of `cmind.access` as Python or JSON.

    Raises:
        ConfigError: none of these, or a file that is not there or not readable.
    """
    text = " ".join(words).translate(_STRAIGHT).strip()
    if not text:
        raise ConfigError("No CM command was given.", _FORMS)
    if text.startswith("{") or re.search(r"\.access\s*\(", text):
        return _from_dict(_literal(text))
    if len(words) == 1:
        try:
            words = shlex.split(re.sub(r"\\\s*\n", " ", text).removeprefix("$ "))
        except ValueError as error:
            raise ConfigError(f"The command cannot be split into words: {error}.", "Close the quotation.") from None
    return _from_words([word.translate(_STRAIGHT) for word in words])


def _from_words(words: list[str]) -> Parsed:
    program, rest = words[0], words[1:]
    if program not in _PROGRAMS:
        raise ConfigError(f"'{program}' is not a CM command.", nearest(program, _PROGRAMS) + " " + _FORMS)
    rest = [*_PROGRAMS[program], *rest]
    leading = [word for word in rest[:2] if not word.startswith(("-", "@"))]
    if len(leading) < 2 or leading[0] not in _ACTIONS or leading[1].split(",")[0] != "script":
        said = " ".join([program, *words[1:3]])
        raise ConfigError(f"'{said}' runs no script.", _FORMS)
    parsed = Parsed(action=leading[0])
    for word in rest[2:]:
        if word == "--":
            raise ConfigError(
                "What follows -- is for a program that a script starts.", "Leave it out: nvkit starts none."
            )
        if word.startswith("@"):
            _take(parsed, _file(Path(word[1:])))
        elif word.startswith("-"):
            key, equals, value = word.lstrip("-").partition("=")
            _take(parsed, _nest(key.strip(), value.strip() if equals else True))
        elif parsed.tags or parsed.script:
            _more_tags(parsed, word)
        else:
            _artifact(parsed, word)
    return parsed


def _nest(key: str, value: Any) -> dict[str, Any]:
    """Return {"env": {"KEY": value}} for env.KEY; only the first part may be written with hyphens."""
    first, *others = key.rstrip(",").split(".")
    for part in reversed(others):
        value = {part: value}
    return {first.replace("-", "_"): value}


def _artifact(parsed: Parsed, word: str) -> None:
    if " " in word or "," in word:
        parsed.tags += _split(word)
    else:
        parsed.script = word


def _more_tags(parsed: Parsed, word: str) -> None:
    if " " not in word and "," not in word and not word.startswith("_"):
        flag = next(reversed(parsed.flags), "flag")
        raise ConfigError(
            f"'{word}' stands alone: CM takes the value of a flag after an equals sign.", f"Write --{flag}={word}."
        )
    parsed.tags += _split(word)


def _split(text: str) -> list[str]:
    return [tag for tag in re.split(r"[,\s]+", text) if tag]


def _take(parsed: Parsed, given: Mapping[str, Any]) -> None:
    """Add keys of CM's input dict."""
    for raw_key, value in given.items():
        key = str(raw_key).replace("-", "_")
        if key in ("action", "automation", "cmd"):
            continue
        if key == "tags":
            parsed.tags += _split(_text(value))
        elif key == "artifact":
            _artifact(parsed, _text(value))
        elif key in _NESTED:
            if not isinstance(value, Mapping):
                raise ConfigError(f"--{key}={value} names no variable.", f"Write --{key}.NAME=VALUE.")
            getattr(parsed, key).update({str(k): _text(v) for k, v in value.items()})
        elif key in _DEPENDENCIES:
            parsed.dependencies.update(_flat(key, value))
        elif isinstance(value, Mapping):
            parsed.flags.update(_flat(key, value))
        else:
            parsed.flags[key] = _text(value)


def _flat(key: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, below in value.items():
            yield from _flat(f"{key}.{name}", below)
    else:
        yield key, _text(value)


def _text(value: Any) -> str:
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ",".join(map(str, value))
    return str(value)


def _file(path: Path) -> Mapping[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigError(f"@{path} cannot be read: {reason}.", "Give a JSON or YAML file of CM's input.") from None
    try:
        content = json.loads(text) if path.suffix == ".json" else read_yaml(path, path.name).content
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"@{path}:{error.lineno}:{error.colno}: {error.msg}.", "Mend this line of the file."
        ) from None
    if not isinstance(content, dict):
        raise ConfigError(f"@{path} is no mapping of keys to values.", "Give a JSON or YAML file of CM's input.")
    return content


def _literal(text: str) -> Mapping[str, Any]:
    """Return the dict that a piece of Python or JSON contains."""
    start, end = text.find("{"), text.rfind("}")
    source = text[start : end + 1] if 0 <= start < end else text
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(source)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, dict):
            return found
    raise ConfigError(
        "The dict cannot be read: it is neither JSON nor a Python literal.",
        "Look for a missing comma or quotation mark, and for names of variables, whose values nvkit cannot know.",
    )


def _from_dict(given: Mapping[str, Any]) -> Parsed:
    action, automation = str(given.get("action", "run")), str(given.get("automation", "script"))
    if action not in _ACTIONS or automation.split(",")[0] != "script":
        raise ConfigError(
            f"action '{action}' of '{automation}' runs no script.", "It is action run, automation script."
        )
    parsed = Parsed(action=action)
    _take(parsed, given)
    return parsed
