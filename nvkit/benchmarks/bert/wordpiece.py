"""Text to WordPieces, as BERT's own tokenizer splits it.

Only the greedy search for the pieces of a word is that of `tokenizers`: its own splitting into words goes by other
Unicode tables than Python's, which the reference uses, and keeps characters that the reference drops.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from pathlib import Path

from nvkit.errors import DataError, MissingPackageError

PAD, UNKNOWN, CLS, SEP, MASK = SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_SPECIAL_IN_TEXT = re.compile("(" + "|".join(map(re.escape, SPECIAL)) + ")")
_LONGEST_WORD = 100
_CJK = (
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0x2F800, 0x2FA1F),
)


def basic_tokens(text: str) -> list[str]:
    """Split text into lower-case words, single punctuation characters and single CJK characters, without accents.

    A special piece that stands alone stays as it is.
    """
    clean = text if text.isascii() and text.isprintable() else "".join(map(_cleaned, text))
    words: list[str] = []
    for word in clean.split():
        if word in SPECIAL:
            words.append(word)
            continue
        lower = word.lower()
        if not lower.isascii():
            decomposed = unicodedata.normalize("NFD", lower)
            lower = "".join(char for char in decomposed if unicodedata.category(char) != "Mn")
        # What decomposition leaves can hold spaces, so the parts are split at them once more.
        words.extend(lower.split() if lower.isalnum() else "".join(map(_apart, lower)).split())
    return words


class WordPieces:
    """The vocabulary of a vocab.txt: text to pieces, pieces to ids.

    Args:
        vocabulary: One piece in a line; the id is the number of the line, counted from 0.

    Attributes:
        ids: Piece to id.

    Raises:
        DataError: the file cannot be read, or lacks one of the special pieces or has it elsewhere than BERT.
        MissingPackageError: tokenizers is not installed.
    """

    def __init__(self, vocabulary: Path) -> None:
        try:
            from tokenizers.models import WordPiece
        except ImportError as error:
            raise MissingPackageError(
                f"BERT's text is split with tokenizers, which cannot be imported here: {error}.",
                'Install it: pip install "nvkit[text]".',
            ) from error
        self.ids = read_vocabulary(vocabulary)
        self._model = WordPiece(self.ids, unk_token=UNKNOWN, max_input_chars_per_word=_LONGEST_WORD)
        self._known: dict[str, tuple[str, ...]] = {}

    def pieces(self, text: str) -> tuple[str, ...]:
        """Split text into pieces; a special piece that stands in the text is one piece."""
        found = self._known.get(text)
        if found is None:
            found = self._known[text] = tuple(self._split(text))
        return found

    def _split(self, text: str) -> list[str]:
        pieces: list[str] = []
        for part in _SPECIAL_IN_TEXT.split(text) if "[" in text else (text,):
            if part in SPECIAL:
                pieces.append(part)
                continue
            # Character by character, so that a final sigma stays a sigma: the reference does it before it knows words.
            lower = part.lower() if part.isascii() else "".join(char.lower() for char in part)
            for word in basic_tokens(lower):
                pieces.extend(token.value for token in self._model.tokenize(word))
        return pieces


def read_vocabulary(path: Path) -> dict[str, int]:
    """Read a vocab.txt as piece to id.

    Raises:
        DataError: see `WordPieces`.
    """
    try:
        lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text: {error}.", "Replace the file.") from error
    ids = {piece.strip(): number for number, piece in enumerate(lines)}
    if missing := [piece for piece in SPECIAL if piece not in ids]:
        raise DataError(
            f"{path} has {len(lines)} lines and no {', '.join(missing)}; it is not BERT's vocabulary.",
            "Put the vocab.txt of bert_large_uncased there, 30,522 lines.",
        )
    if ids[PAD] != 0:
        raise DataError(
            f"{path} has {PAD} in line {ids[PAD] + 1}, not in the first.", "Padding is id 0: mend the file."
        )
    return ids


@lru_cache(maxsize=1 << 16)
def _cleaned(char: str) -> str:
    """Return a character as the tokenizer reads it: nothing for control characters, spaces around CJK."""
    if char in "\t\n\r":
        return " "
    category = unicodedata.category(char)
    if category.startswith("C") or char == "\ufffd":
        return ""
    if category == "Zs":
        return " "
    if any(first <= ord(char) <= last for first, last in _CJK):
        return f" {char} "
    return char


@lru_cache(maxsize=1 << 16)
def _apart(char: str) -> str:
    """Return a character with spaces around it where it is punctuation; every ASCII symbol is."""
    symbol = char.isascii() and char.isprintable() and not char.isalnum() and char != " "
    return f" {char} " if symbol or unicodedata.category(char).startswith("P") else char
