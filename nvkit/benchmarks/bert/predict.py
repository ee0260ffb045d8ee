"""Logits to the text of an answer, as MLCommons' accuracy-squad.py chooses it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nvkit.benchmarks.bert.features import Feature
from nvkit.benchmarks.bert.squad import Question
from nvkit.benchmarks.bert.tensors import MAX_LENGTH
from nvkit.benchmarks.bert.wordpiece import basic_tokens

Array = npt.NDArray[Any]

_CANDIDATES = 20
_LONGEST_ANSWER = 30
_PADDING = -10000.0
_NO_ANSWER = "empty"


def answer_text(question: Question, windows: Sequence[tuple[Feature, Array]]) -> str:
    """Return the text of the best answer to a question.

    Args:
        question: The question.
        windows: Its features and their logits [tokens, 2], those that the log holds.
    """
    best, text = -np.inf, _NO_ANSWER
    for feature, logits in windows:
        found = _best_span(feature, logits)
        if found is not None and found[0] > best:
            best, text = found[0], _span_text(question, feature, *found[1:])
    return text


def _best_span(feature: Feature, logits: Array) -> tuple[float, int, int] | None:
    """Return score, first and last token of the window's best answer; of equals the one with the best start.

    Only the 20 highest start and the 20 highest end logits count, whether or not an answer may be there.
    """
    padded = np.full((MAX_LENGTH, 2), _PADDING)
    padded[: len(logits)] = logits
    starts, ends = np.argsort(-padded, axis=0, kind="stable")[:_CANDIDATES].T
    begin, stop = feature.start, feature.start + len(feature.words)
    length = ends[None, :] - starts[:, None] + 1
    allowed = (length >= 1) & (length <= _LONGEST_ANSWER) & (ends < stop) & (starts >= begin)[:, None]
    inside = np.clip(starts - begin, 0, len(feature.best) - 1)
    allowed &= np.asarray(feature.best)[inside][:, None]
    if not allowed.any():
        return None
    scores = padded[starts, 0][:, None] + padded[ends, 1][None, :]
    start, end = np.unravel_index(np.where(allowed, scores, -np.inf).argmax(), scores.shape)
    return float(scores[start, end]), int(starts[start]), int(ends[end])


def _span_text(question: Question, feature: Feature, first: int, last: int) -> str:
    pieces = " ".join(feature.tokens[first : last + 1]).replace(" ##", "").replace("##", "")
    words = question.paragraph.words[feature.words[first - feature.start] : feature.words[last - feature.start] + 1]
    return original_text(" ".join(pieces.split()), " ".join(words))


def original_text(predicted: str, words: str) -> str:
    """Return the part of the paragraph's words that predicted tokens stand for.

    The tokens lack capitals, accents and what clings to a word. If the words without spaces have as many characters
    as their tokens, the characters correspond one by one; otherwise the whole words are the answer.

    Args:
        predicted: Tokens, separated by spaces.
        words: The words that they are from, as in the paragraph.
    """
    split = " ".join(basic_tokens(words))
    begin = split.find(predicted)
    if begin < 0:
        return words
    places = [place for place, char in enumerate(words) if char != " "]
    if len(places) != len(split.replace(" ", "")):
        return words
    # find() may stop inside of a token; both ends of what it found are characters, never spaces
    before = begin - split.count(" ", 0, begin)
    count = len(predicted.replace(" ", ""))
    if not count:
        return words
    return words[places[before] : places[before + count - 1] + 1]
