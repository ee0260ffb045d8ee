"""Question files in the format of SQuAD v1.1."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nvkit.errors import DataError

_WORD = re.compile("[^ \t\r\n\u202f]+")
_FORMAT = "The file must be in the format of SQuAD v1.1: data, paragraphs, context, qas, answers."


@dataclass(frozen=True, eq=False)
class Paragraph:
    """A context, split at white space.

    Attributes:
        words: The words with all that clings to them: the doc tokens of MLCommons' scripts.
        offsets: Character at which each word starts.
    """

    words: tuple[str, ...]
    offsets: tuple[int, ...]


@dataclass(frozen=True)
class Answer:
    """A right answer.

    Attributes:
        text: As in the context.
        start: Its first character there.
    """

    text: str
    start: int


@dataclass(frozen=True)
class Question:
    """A question about a paragraph.

    Attributes:
        id: Of SQuAD.
        text: The question.
        paragraph: Shared by all questions about it.
        answers: All that count as right.
    """

    id: str
    text: str
    paragraph: Paragraph
    answers: tuple[Answer, ...]


def read_questions(path: Path) -> list[Question]:
    """Read a file such as dev-v1.1.json; the order is the file's.

    Raises:
        DataError: the file is missing, is not of this format, has a question without answers or an id twice.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"There is no {path}.", _FORMAT) from None
    except (OSError, ValueError) as error:  # ValueError: neither UTF-8 nor JSON, e.g. cut short
        raise DataError(f"{path} cannot be read as JSON: {error}.", "Get the file again, whole.") from error
    try:
        questions = list(_questions(document))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} lacks or misuses a field: {type(error).__name__}: {error}.", _FORMAT) from error
    if not questions:
        raise DataError(f"{path} holds no questions.", _FORMAT)
    seen: set[str] = set()
    for question in questions:
        if not question.answers:
            raise DataError(f"{path}: question {question.id} has no answer.", "Give a file of SQuAD v1.1, not of v2.0.")
        if question.id in seen:
            raise DataError(f"{path}: the id {question.id} stands there twice.", "Remove one of the questions.")
        seen.add(question.id)
    return questions


def _questions(document: Any) -> Iterator[Question]:
    for article in document["data"]:
        for entry in article["paragraphs"]:
            found = list(_WORD.finditer(entry["context"]))
            paragraph = Paragraph(tuple(match[0] for match in found), tuple(match.start() for match in found))
            for qa in entry["qas"]:
                answers = tuple(Answer(_text(answer["text"]), int(answer["answer_start"])) for answer in qa["answers"])
                yield Question(_text(qa["id"]), _text(qa["question"]), paragraph, answers)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value
