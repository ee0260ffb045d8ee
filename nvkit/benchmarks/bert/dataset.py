"""The data set: the user's SQuAD v1.1 folder, or a generated one in the same format."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

from nvkit.benchmarks.base import DataSet
from nvkit.benchmarks.bert.squad import Question, read_questions
from nvkit.benchmarks.bert.wordpiece import read_vocabulary
from nvkit.errors import DataError
from nvkit.store import Store, digest_of, file_digest

QUESTIONS = "dev-v1.1.json"
CALIBRATION = "cal-v1.1.json"
VOCABULARY = "vocab.txt"

_OFFICIAL_CALIBRATION = "bert_calibration_qas_ids.txt"
_CALIBRATION_COUNT = 100
_OFFICIAL = {
    QUESTIONS: "95aa6a52d5d6a735563366753ca50492a658031da74f301ac5238b03966972c9",
    VOCABULARY: "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
"""SHA-256 of the files whose MD5 MLCommons states."""
_LAYOUT = "the folder must hold dev-v1.1.json of SQuAD and vocab.txt of BERT-large uncased"


def find_dataset(settings: Any, store: Store) -> DataSet:
    """Return the data set of `settings.data_dir`, or a generated one.

    `files` are the ids of the questions in the order of dev-v1.1.json; there are no labels, as the answers are there.

    Raises:
        DataError: the folder or a file is not as it must be.
    """
    if settings.data_dir is not None:
        return read_folder(Path(settings.data_dir))
    from nvkit.benchmarks.bert.generate import generated_folder

    counts = {QUESTIONS: settings.generated_questions, CALIBRATION: settings.generated_calibration_questions}
    data = read_folder(generated_folder(store, settings.data_seed, counts).path, official=False)
    note = f"generated data: {settings.generated_questions} questions of SQuAD's lengths, seed {settings.data_seed}"
    return dataclasses.replace(data, generated=True, notes=(note,))


def read_folder(root: Path, *, official: bool = True) -> DataSet:
    """Read a folder with dev-v1.1.json and vocab.txt, and cal-v1.1.json where there is one.

    The calibration set is MLPerf's list of questions if all of them are in dev-v1.1.json, else cal-v1.1.json, else the
    first 100 questions.

    Args:
        root: The folder.
        official: Say what is not MLPerf's own.

    Raises:
        DataError: see `find_dataset`.
    """
    if not root.is_dir():
        raise DataError(f"There is no data folder {root}.", f"Give the path of a SQuAD folder: {_LAYOUT}.")
    if missing := [name for name in (QUESTIONS, VOCABULARY) if not (root / name).is_file()]:
        raise DataError(f"The data folder {root} has no {' and no '.join(missing)}.", f"Complete it: {_LAYOUT}.")
    ids = [question.id for question in read_questions(root / QUESTIONS)]
    read_vocabulary(root / VOCABULARY)
    digests = {name: file_digest(root / name) for name in (QUESTIONS, VOCABULARY)}
    calibration, note = _calibration(root, ids)
    if (root / CALIBRATION).is_file():
        digests[CALIBRATION] = file_digest(root / CALIBRATION)
    others = [f"{name} of the data folder is not MLPerf's" for name, sha in _OFFICIAL.items() if digests[name] != sha]
    return DataSet(
        root=root,
        generated=False,
        files=tuple(ids),
        labels=(),
        calibration=tuple(calibration),
        digest=digest_of([digests, calibration]),
        notes=tuple([*others, *([note] if note else [])] if official else ()),
    )


def questions_of(data: DataSet, ids: Iterable[str]) -> list[Question]:
    """Return the questions of these ids, in this order, from either file of a data set.

    Raises:
        DataError: a file has changed and no longer holds one of them.
    """
    known = {question.id: question for question in read_questions(data.root / QUESTIONS)}
    wanted = list(ids)
    if any(name not in known for name in wanted) and (data.root / CALIBRATION).is_file():
        known |= {question.id: question for question in read_questions(data.root / CALIBRATION)}
    if missing := [name for name in wanted if name not in known]:
        raise DataError(
            f"{len(missing)} questions are no longer in {data.root}: {', '.join(missing[:3])}.",
            "Put the files back as they were, or run setup again.",
        )
    return [known[name] for name in wanted]


def _calibration(root: Path, ids: list[str]) -> tuple[list[str], str]:
    """Return the ids of the calibration set and what a reader must know of it."""
    listed = resources.files(__package__).joinpath(_OFFICIAL_CALIBRATION).read_text(encoding="utf-8").split()
    if frozenset(listed) <= frozenset(ids):
        return listed, ""
    if (root / CALIBRATION).is_file():
        found = [question.id for question in read_questions(root / CALIBRATION)]
        return found, f"calibration set: {CALIBRATION} of the data folder"
    first = ids[:_CALIBRATION_COUNT]
    return first, f"calibration set: the first {len(first)} questions, not MLPerf's list"
