"""F1 and exact match of an accuracy run, as MLCommons' accuracy-squad.py and SQuAD's evaluate-v1.1.py count them."""

from __future__ import annotations

import json
import re
import string
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nvkit.benchmarks.base import Accuracy, DataSet
from nvkit.benchmarks.bert.dataset import QUESTIONS, VOCABULARY
from nvkit.benchmarks.bert.features import Feature, make_features
from nvkit.benchmarks.bert.predict import answer_text
from nvkit.benchmarks.bert.squad import read_questions
from nvkit.benchmarks.bert.tensors import MAX_LENGTH
from nvkit.benchmarks.bert.wordpiece import WordPieces
from nvkit.errors import DataError

RESPONSE_DTYPE = "float32"

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def score_responses(responses: Mapping[int, bytes], data: DataSet, *, part: bool = False) -> Accuracy:
    """Score the responses of an accuracy run.

    A question none of whose samples is in the log counts as answered "empty", that is, wrongly, as the script has it.

    Args:
        responses: QSL index to logits, float32 little-endian [tokens, 2]: start and end.
        data: The data set.
        part: Score only the questions of which there is a response.

    Raises:
        DataError: there is no response, or one is outside of the data set, is not logits of at most 384 tokens, or
            holds what is not a finite number.
    """
    if not responses:
        raise DataError("The accuracy log holds no responses.", "Run accuracy mode again.")
    questions = read_questions(data.root / QUESTIONS)
    features = make_features(questions, WordPieces(data.root / VOCABULARY))
    windows: defaultdict[int, list[tuple[Feature, npt.NDArray[Any]]]] = defaultdict(list)
    for index in sorted(responses):
        if not 0 <= index < len(features):
            raise DataError(
                f"The response of sample {index} is outside of the data set of {len(features)} samples.",
                "Score the log with the data set that it was made with.",
            )
        windows[features[index].question].append((features[index], _logits(index, responses[index])))

    exact, f1 = 0, 0.0
    asked = [(number, question) for number, question in enumerate(questions) if windows[number] or not part]
    for number, question in asked:
        words = _normalised(answer_text(question, windows[number]))
        right = [_normalised(answer.text) for answer in question.answers]
        exact += words in right
        f1 += max(_f1(words, truth) for truth in right)
    figures = {"exact_match": 100.0 * exact / len(asked), "f1": 100.0 * f1 / len(asked)}
    details = {"exact_match": figures["exact_match"], "questions": float(len(asked))}
    return Accuracy("F1", figures["f1"], len(responses), json.dumps(figures), details)


def reference_command(log: Path, data: DataSet, work: Path) -> tuple[str, list[str]]:
    """Return MLCommons' accuracy-squad.py with its arguments for an accuracy log.

    The script needs the packages transformers (before 5), six and setuptools (before 81), and the module tokenization
    of the submodule language/bert/DeepLearningExamples, which it looks for only where torch or tensorflow is installed.

    Args:
        log: The accuracy log.
        data: The data set.
        work: An empty folder.
    """
    # The script puts the paths of both files into a shell command, without quotes.
    (work / QUESTIONS).symlink_to((data.root / QUESTIONS).resolve())
    paths = {
        "--log_file": log.resolve(),
        "--val_data": work / QUESTIONS,
        "--vocab_file": (data.root / VOCABULARY).resolve(),
        "--out_file": work / "answers.json",
        "--features_cache_file": work / "features.pickle",
    }
    arguments = [word for option, path in paths.items() for word in (option, str(path))]
    return "language/bert/accuracy-squad.py", [*arguments, "--output_dtype", RESPONSE_DTYPE]


def _logits(index: int, response: bytes) -> npt.NDArray[Any]:
    tokens, rest = divmod(len(response), 2 * np.dtype(RESPONSE_DTYPE).itemsize)
    if rest or tokens > MAX_LENGTH:
        raise DataError(
            f"The response of sample {index} has {len(response)} bytes, not 8 for each of at most {MAX_LENGTH} tokens.",
            "Run accuracy mode again.",
        )
    logits = np.frombuffer(response, "<f4").reshape(tokens, 2)
    if not np.isfinite(logits).all():
        raise DataError(
            f"The response of sample {index} holds logits that are not finite numbers.",
            "The engine overflows: build it in a higher precision.",
        )
    return logits


def _normalised(text: str) -> list[str]:
    """Return an answer's words in lower case, without punctuation and articles."""
    return _ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split()


def _f1(words: list[str], truth: list[str]) -> float:
    same = sum((Counter(words) & Counter(truth)).values())
    if not same:
        return 0.0
    precision, recall = same / len(words), same / len(truth)
    return (2 * precision * recall) / (precision + recall)
