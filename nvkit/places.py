"""Words that stand for folders of this machine in stored files, so that a record names no path and is read elsewhere.

``$STORE/models/...`` in a stage's result is the file below this machine's store; on another machine, below its own.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

KIT = Path(__file__).resolve().parents[1]
"""The clone (or the folder of site packages) that holds nvkit."""


class Places:
    """Folders and their words.

    Args:
        folders: Word without the dollar sign to folder or file; None and the root folder are left out.
    """

    def __init__(self, folders: Mapping[str, Path | None]) -> None:
        common: dict[str, Path | None] = {"NVKIT": KIT, "PYTHON": Path(sys.prefix), "HOME": _home()}
        known = {word: path for word, path in {**folders, **common}.items() if path and len(path.parts) > 1}
        self._shown = {f"${word}": str(path.expanduser().absolute()) for word, path in known.items()}
        words: dict[str, str] = {}
        for word, text in self._shown.items():  # the first word of a folder is the one that says most about it
            for spelling in (text, str(Path(text).resolve())):
                words.setdefault(spelling, word)
        self.words = dict(sorted(words.items(), key=lambda item: -len(item[0])))
        paths = "|".join(map(re.escape, self.words))
        self.pattern = re.compile(rf"(?<![\w.-])(?:{paths})(?![\w-])(?!\.\w)")
        names = "|".join(re.escape(word) for word in sorted(self._shown, key=len, reverse=True))
        self._word = re.compile(rf"\A(?:{names})(?=/|\Z)")

    def hide(self, value: Any) -> Any:
        """Return a JSON value, or a text, with words for paths."""
        return in_strings(value, lambda text: self.pattern.sub(lambda found: self.words[found[0]], text))

    def show(self, value: Any) -> Any:
        """Return a JSON value with paths for words, where a string begins with one."""
        return in_strings(value, lambda text: self._word.sub(lambda found: self._shown[found[0]], text))


def in_strings(value: Any, change: Callable[[str], str]) -> Any:
    """Return a JSON value with every string changed; keys are left alone."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: in_strings(inner, change) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [in_strings(inner, change) for inner in value]
    return value


def _home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:  # a user without an entry in the password file, as in some containers
        return None
