"""Questions to features: the windows of tokens that the network reads, as MLCommons' create_squad_data.py cuts them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nvkit.benchmarks.bert.squad import Paragraph, Question
from nvkit.benchmarks.bert.tensors import INPUTS, MAX_LENGTH
from nvkit.benchmarks.bert.wordpiece import CLS, SEP, WordPieces, basic_tokens

FEATURES_VERSION = 1
"""Changes whenever the same questions give other features."""

_STRIDE = 128
_LONGEST_QUESTION = 64

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Feature:
    """One sample: a question and a window of its paragraph.

    Attributes:
        question: Position of the question in the file.
        tokens: [CLS] question [SEP] window [SEP].
        ids: Id of each token.
        start: Position of the window's first token.
        words: Of each token of the window, the paragraph's word that it is from.
        best: Of each token of the window, whether no other window has more context around it.
    """

    question: int
    tokens: tuple[str, ...]
    ids: tuple[int, ...]
    start: int
    words: tuple[int, ...]
    best: tuple[bool, ...]


def make_features(questions: Sequence[Question], pieces: WordPieces) -> list[Feature]:
    """Cut all questions into features, in their order: position i is QSL index i.

    A paragraph that does not fit beside its question gives several windows of at most 384 tokens in all, 128 tokens
    apart; one without any token gives none.
    """
    features: list[Feature] = []
    paragraph: Paragraph | None = None
    context: list[str] = []
    words: list[int] = []
    for number, question in enumerate(questions):
        if question.paragraph is not paragraph:
            paragraph = question.paragraph
            split = [pieces.pieces(word) for word in paragraph.words]
            context = [piece for found in split for piece in found]
            words = [word for word, found in enumerate(split) for _ in found]
        head = [CLS, *pieces.pieces(question.text)[:_LONGEST_QUESTION], SEP]
        windows = _windows(len(context), MAX_LENGTH - len(head) - 1)
        for window, best in zip(windows, _most_context(windows), strict=True):
            tokens = (*head, *context[window.start : window.stop], SEP)
            ids = tuple(pieces.ids[token] for token in tokens)
            features.append(Feature(number, tokens, ids, len(head), tuple(words[window.start : window.stop]), best))
    return features


def answer_tokens(feature: Feature, question: Question) -> tuple[int, int] | None:
    """Return the first and last token of the question's first answer, or None if this window has not all of it.

    Where the answer begins or ends inside of a word, the tokens are those whose text is the answer's; if there are
    none, those of the whole words.
    """
    answer, offsets = question.answers[0], question.paragraph.offsets
    first = bisect_right(offsets, answer.start) - 1
    last = bisect_right(offsets, answer.start + max(len(answer.text), 1) - 1) - 1
    inside = [place for place, word in enumerate(feature.words) if first <= word <= last]
    if not inside or feature.words[inside[0]] != first or feature.words[inside[-1]] != last:
        return None
    wanted = "".join(basic_tokens(answer.text))
    text = [feature.tokens[feature.start + place].removeprefix("##") for place in inside]
    for begin in range(len(inside)):
        for end in range(len(inside), begin, -1):
            if "".join(text[begin:end]) == wanted:
                return feature.start + inside[begin], feature.start + inside[end - 1]
    if inside[0] == 0 or inside[-1] == len(feature.words) - 1:  # the window may begin or end inside of a word
        return None
    return feature.start + inside[0], feature.start + inside[-1]


def lengths(features: Sequence[Feature]) -> Array:
    """Return the number of tokens of each feature, int32."""
    return np.array([len(feature.ids) for feature in features], dtype=np.int32)


def arrays(features: Sequence[Feature]) -> dict[str, Array]:
    """Return the network's inputs, int32 [features, 384], zero where a feature has no token."""
    shape = (len(features), MAX_LENGTH)
    ids, mask, segments = (np.zeros(shape, dtype=np.int32) for _ in INPUTS)
    for row, feature in enumerate(features):
        ids[row, : len(feature.ids)] = feature.ids
        mask[row, : len(feature.ids)] = 1
        segments[row, feature.start : len(feature.ids)] = 1
    return dict(zip(INPUTS, (ids, mask, segments), strict=True))


def _windows(tokens: int, room: int) -> list[range]:
    windows: list[range] = []
    start = 0
    while start < tokens:
        windows.append(range(start, min(start + room, tokens)))
        if windows[-1].stop == tokens:
            break
        start += _STRIDE
    return windows


def _most_context(windows: Sequence[range]) -> list[tuple[bool, ...]]:
    """Tell of each token of each window whether this window, of those that hold it, has the most context around it.

    The context of a token is the smaller of its distances to the window's ends; a longer window has a little more,
    and the first one wins a tie.
    """
    if len(windows) == 1:
        return [(True,) * len(windows[0])]
    scores = np.full((len(windows), windows[-1].stop if windows else 0), -1.0)
    for row, window in enumerate(windows):
        left = np.arange(len(window))
        scores[row, window.start : window.stop] = np.minimum(left, left[::-1]) + 0.01 * len(window)
    winner = scores.argmax(axis=0) if windows else scores
    return [tuple(bool(won) for won in winner[window.start : window.stop] == row) for row, window in enumerate(windows)]
