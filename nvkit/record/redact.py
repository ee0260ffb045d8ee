"""Replaces what names this machine and its user in a run folder, before it is sealed.

Host name, user name, home and other folders, the values of secret environment variables and the GPUs' UUIDs become
words such as $HOST. LoadGen's logs are evidence and are never altered: a name that one of them holds is told.
"""

from __future__ import annotations

import getpass
import json
import os
import platform
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from nvkit.config import PATHS
from nvkit.config.files import BenchmarkFile, ProfileFile, names
from nvkit.places import Places, in_strings
from nvkit.record.reading import LOADGEN_LOG, files, read_json
from nvkit.store import write_json, write_text

FILE = "record/redaction.json"
_TEXT = {
    ".txt",
    ".json",
    ".jsonl",
    ".ipynb",
    ".csv",
    ".svg",
    ".conf",
    ".config",
    ".md",
    ".log",
    ".xml",
    ".yaml",
    ".diff",
}
_PICTURES = ("image/png", "image/jpeg")
_SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY", re.IGNORECASE)
_SECRET_LENGTH = 8  # a shorter value is a word or a number, found in any text
_UUID = r"\b(?:GPU|MIG)-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"
_OTHER_HOME = r"(?<![\w.])/(?:home|Users)/(?!\$USER\b)[\w.-]+"
_NAME_LENGTH = 3
_COMMON = "admin debian default docker host jovyan localhost nvidia python root runner ubuntu user users vm"
"""Names that tell nobody apart and stand in many texts for something else."""
_CHUNK = 1 << 22

Word = Callable[[re.Match[str]], str]
Rule = tuple[re.Pattern[str], Word]


class Redaction:
    """Replaces by rules, and counts how often each word was put in.

    Args:
        rules: What is looked for, and the word for what is found.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = rules
        self.counts: Counter[str] = Counter()

    def __call__(self, text: str) -> str:
        """Return a text with words for all that names this machine."""
        for pattern, word_for in self.rules:
            text = pattern.sub(self._counted(word_for), text)
        return text

    def _counted(self, word_for: Word) -> Word:
        def counted(found: re.Match[str]) -> str:
            word = word_for(found)
            self.counts[word] += 1
            return word

        return counted


def redact(run: Path) -> dict[str, Any]:
    """Replace names and paths in every file of a run folder; return, and write into it, what was replaced.

    Returns:
        `replaced`: word to how often; `files`: those that were altered; `stays`: names that are common words;
        `in LoadGen's logs`: names that these hold.
    """
    rules, stays = _rules(_places(run))
    redaction, held = Redaction(rules), []
    before = read_json(run / FILE) if (run / FILE).is_file() else {}
    altered = set(before.get("files", ()))
    for name in files(run):
        path = run / name
        if path.name.startswith(LOADGEN_LOG):
            held += [f"{name} holds {word}" for word in _words_in(path, rules)]
        elif path.suffix in _TEXT and name != FILE and not path.is_symlink() and _alter(path, redaction):
            altered.add(name)
    counts = dict(sorted((redaction.counts + Counter(before.get("replaced", {}))).items()))
    said = {"replaced": counts, "files": sorted(altered), "stays": stays, "in LoadGen's logs": held}
    write_json(run / FILE, said)
    return said


def _rules(places: Places) -> tuple[list[Rule], list[str]]:
    """Return the rules, paths first, and a sentence for each name that no rule replaces."""
    rules: list[Rule] = [(places.pattern, lambda found: places.words[found[0]])]
    secrets = {value for name, value in os.environ.items() if _SECRET.search(name) and len(value) >= _SECRET_LENGTH}
    plain = [(re.escape(secret), "$SECRET") for secret in sorted(secrets, key=len, reverse=True)]
    plain.append((_UUID, "$UUID"))
    stays = []
    host = platform.node()
    for word, name in (("$HOST", host), ("$HOST", host.split(".")[0]), ("$USER", _user())):
        if name and _common(name):
            stays.append(f"the name behind {word} is a common word")
        elif name:
            # Not inside of a longer name, such as a package's: host "cpu1" is not in "cpu1-tools".
            plain.append((rf"(?<![\w-]){re.escape(name)}(?![\w-])", word))
    rules += [(re.compile(pattern), partial(_always, word)) for pattern, word in plain]
    rules.append((re.compile(_OTHER_HOME), lambda found: found[0].rsplit("/", 1)[0] + "/$USER"))
    return rules, list(dict.fromkeys(stays))


def _always(word: str, found: re.Match[str]) -> str:
    return word


def _places(run: Path) -> Places:
    """Return the folders of this machine and of the user's own files, which executed notebooks and specs name."""
    own: dict[str, Path] = {}
    for values in _parameters(run):
        own |= {key.upper(): Path(values[key]) for key in PATHS if values.get(key)}
    absolute = {word: path for word, path in own.items() if path.is_absolute()}
    outputs = run.parent.parent
    return Places({"RUN": run, "STORE": outputs / "store", "OUTPUTS": outputs, **absolute})


def _parameters(run: Path) -> Iterable[dict[str, Any]]:
    for path in sorted(run.glob("*.ipynb")):
        given = read_json(path).get("metadata", {}).get("papermill", {}).get("parameters", {})
        yield given
        yield given.get("overrides", {})
    for path in sorted(run.rglob("spec.json")):
        yield read_json(path).get("settings", {})


def _alter(path: Path, redaction: Redaction) -> bool:
    """Redact a file; say whether anything in it changed."""
    text = path.read_bytes().decode("utf-8", errors="backslashreplace")  # a program may print in another encoding
    if path.suffix == ".ipynb":
        old = json.loads(text)
        changed = _in_notebook(old, redaction)
        # The form in which nbformat writes notebooks, so that only what is replaced changes.
        new = text if changed == old else json.dumps(changed, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    elif path.suffix in (".json", ".jsonl"):
        indent = 2 if path.suffix == ".json" else None
        parts = [text] if indent else text.splitlines()
        old = [json.loads(part) for part in parts]
        changed = in_strings(old, redaction)
        new = text if changed == old else "".join(json.dumps(value, indent=indent) + "\n" for value in changed)
    else:
        new = redaction(text)
    if new != text:
        write_text(path, new)
    return new != text


def _in_notebook(notebook: Any, redaction: Redaction) -> Any:
    """Change every string of a notebook but its pictures, in whose letters a name is chance."""
    if isinstance(notebook, dict):
        return {k: v if k in _PICTURES else _in_notebook(v, redaction) for k, v in notebook.items()}
    if isinstance(notebook, list):
        return [_in_notebook(value, redaction) for value in notebook]
    return redaction(notebook) if isinstance(notebook, str) else notebook


def _words_in(path: Path, rules: Sequence[Rule]) -> list[str]:
    """Return the words for names and paths that a LoadGen log holds."""
    probe = Redaction(rules)
    with path.open(encoding="utf-8", errors="replace") as stream:
        while lines := stream.readlines(_CHUNK):
            probe("".join(lines))
    return sorted(probe.counts)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return ""


def _common(name: str) -> bool:
    known = {*_COMMON.split(), *names(ProfileFile), *names(BenchmarkFile)}
    return name.lower() in known or len(name) < _NAME_LENGTH
