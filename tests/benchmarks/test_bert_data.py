"""BERT's data: text to features, generated questions, the sample set, and the score.

tests/data/bert/reference.json holds what MLCommons' scripts (language/bert of mlcommons/inference, with transformers
4.57 and the tokenization.py of NVIDIA/DeepLearningExamples' PyTorch BERT) make of the files beside it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nvkit.benchmarks.base import DataSet
from nvkit.benchmarks.bert.accuracy import reference_command, score_responses
from nvkit.benchmarks.bert.dataset import find_dataset, read_folder
from nvkit.benchmarks.bert.features import answer_tokens, arrays, lengths, make_features
from nvkit.benchmarks.bert.generate import FIT, generated_folder, squad_lengths
from nvkit.benchmarks.bert.predict import answer_text, original_text
from nvkit.benchmarks.bert.samples import preprocess_samples
from nvkit.benchmarks.bert.squad import read_questions
from nvkit.benchmarks.bert.vocabulary import HIGHEST, SEATS, TITLES, pieces
from nvkit.benchmarks.bert.wordpiece import WordPieces
from nvkit.errors import DataError, MissingPackageError
from nvkit.store import Store

ODD = Path(__file__).parents[1] / "data" / "bert"
REFERENCE: dict[str, Any] = json.loads((ODD / "reference.json").read_text(encoding="utf-8"))


def settings(**changes: Any) -> SimpleNamespace:
    values = {"data_dir": None, "data_seed": 3, "generated_questions": 200, "generated_calibration_questions": 12}
    return SimpleNamespace(**{**values, **changes})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def generated(store: Store) -> DataSet:
    return find_dataset(settings(), store)


def odd_features() -> list[Any]:
    return make_features(read_questions(ODD / "dev-v1.1.json"), WordPieces(ODD / "vocab.txt"))


def test_features_are_those_of_the_reference_on_odd_text() -> None:
    found = [
        {
            "question": feature.question,
            "tokens": " ".join(feature.tokens),
            "words": list(feature.words),
            "best": "".join(str(int(best)) for best in feature.best),
            "start": feature.start,
        }
        for feature in odd_features()
    ]
    assert found == REFERENCE["features"]
    assert any("0" in feature["best"] for feature in found), "the text must be long enough for overlapping windows"


def pattern(index: int, tokens: int) -> np.ndarray:
    """Return logits without any system, the same on every machine; reference.json was scored on them."""
    token, column = np.arange(tokens)[:, None], np.arange(2)[None]
    values = (index + 1) * 7919 + token * token * 104729 + token * 31 * (column + 1) + column * 577
    return (values % 1009 / 100).astype("<f4")


def responses(name: str) -> dict[int, np.ndarray]:
    """Return the logits of the reference's logs: without padding, with it, and of two thirds of the samples."""
    tokens = lengths(odd_features()).tolist()
    if name == "padded":
        tokens = [384] * len(tokens)
    return {i: pattern(i, count) for i, count in enumerate(tokens) if name != "subset" or i % 3}


@pytest.mark.parametrize("name", ["cut", "padded", "subset"])
def test_score_and_answers_are_those_of_the_reference(name: str) -> None:
    logits = responses(name)
    score = score_responses({i: values.tobytes() for i, values in logits.items()}, read_folder(ODD))
    assert score.line == REFERENCE["scores"][name]["line"]
    assert (score.metric, score.count) == ("F1", len(logits))
    assert score.line == json.dumps({"exact_match": score.details["exact_match"], "f1": score.value})

    features = odd_features()
    for number, question in enumerate(read_questions(ODD / "dev-v1.1.json")):
        windows = [(f, logits[i]) for i, f in enumerate(features) if f.question == number and i in logits]
        assert answer_text(question, windows) == REFERENCE["scores"][name]["answers"][question.id]


def test_right_logits_find_the_answers_of_the_generated_set(generated: DataSet) -> None:
    questions = read_questions(generated.root / "dev-v1.1.json")
    features = make_features(questions, WordPieces(generated.root / "vocab.txt"))
    logits = {}
    for index, feature in enumerate(features):
        values = np.zeros((len(feature.ids), 2), "<f4")
        if answer := answer_tokens(feature, questions[feature.question]):
            values[answer, (0, 1)] = 9
        logits[index] = values.tobytes()
    score = score_responses(logits, generated)
    assert (score.value, score.details["exact_match"]) == (100.0, 100.0)
    half = {index: data for index, data in logits.items() if features[index].question % 2}
    assert 45 < score_responses(half, generated).value < 55


def test_answer_tokens_inside_of_words() -> None:
    questions = read_questions(ODD / "dev-v1.1.json")
    first = odd_features()[0]
    assert [first.tokens[t] for t in answer_tokens(first, questions[0]) or ()] == ["cafe", "cafe"]  # of café,
    run = next(f for f in odd_features() if questions[f.question].id == "q7-2")
    assert [run.tokens[t] for t in answer_tokens(run, questions[run.question]) or ()] == ["r", "."]  # run, run and run.


@pytest.mark.parametrize(
    ("predicted", "words", "expected"),
    [
        ("steve smith", "Steve Smith's", "Steve Smith"),
        ("cafe", "“Café”,", "Café"),
        ("1895", "(1895-1943).", "1895"),
        ("other", "Steve Smith", "Steve Smith"),
        ("fire", "ﬁre, now", "ﬁre, now"),
        ("now", "e\u0301te now", "e\u0301te now"),
        ("", "all of it", "all of it"),
    ],
)
def test_original_text(predicted: str, words: str, expected: str) -> None:
    assert original_text(predicted, words) == expected


def test_generated_lengths_follow_squad(store: Store) -> None:
    data = find_dataset(settings(generated_questions=1000), store)
    samples = preprocess_samples(settings(), store, data)
    found = np.load(samples.lengths or "")
    assert samples.count == len(found) > 1000
    assert (found.max(), found.dtype) == (384, np.int32)
    # of the 10,833 samples of dev-v1.1.json, by MLCommons' script
    assert found.mean() == pytest.approx(178.5, rel=0.01)
    assert np.percentile(found, [10, 25, 50, 75, 90]) == pytest.approx([110, 133, 164, 210, 272], rel=0.03)


def test_the_histogram_is_of_all_questions_of_squad() -> None:
    known = squad_lengths()
    assert {what: len(values) for what, values in known.items()} == {"question": 10570, "paragraph": 10570}
    assert (min(known["question"]), max(known["question"]), max(known["paragraph"])) == (4, 38, 789)


def test_generated_questions_are_of_the_wanted_lengths_and_answers_stand_where_they_say(generated: DataSet) -> None:
    document = json.loads((generated.root / "dev-v1.1.json").read_text(encoding="utf-8"))
    entries = [entry for article in document["data"] for entry in article["paragraphs"]]
    for entry in entries:
        for answer in entry["qas"][0]["answers"]:
            assert entry["context"][answer["answer_start"] :].startswith(answer["text"])
        words = entry["context"].replace(",", "").replace(".", "").split()
        first, *_, last = entry["qas"][0]["answers"][0]["text"].split()
        assert first == max((word for word in words if word in TITLES), key=TITLES.index)
        assert last == max((word for word in words if word in SEATS), key=SEATS.index)
        assert words.count(first) == words.count(last) == 1
    questions = read_questions(generated.root / "dev-v1.1.json")
    wordpieces = WordPieces(generated.root / "vocab.txt")
    counts = [len(wordpieces.pieces(question.text)) for question in questions]
    assert np.mean(counts) == pytest.approx(np.mean(squad_lengths()["question"]), rel=0.02)
    tokens = [piece for question in questions for word in question.paragraph.words for piece in wordpieces.pieces(word)]
    assert 0.02 < np.mean([token.startswith("##") for token in tokens]) < 0.5
    assert 0 < tokens.count("[UNK]") < len(tokens) / 100


def test_vocabulary_has_berts_layout() -> None:
    lines = pieces()
    assert [lines[i] for i in (0, 100, 101, 102, 103)] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert 2000 < len(lines) == len(set(lines)) < 5000
    assert set(TITLES + SEATS + HIGHEST) <= set(lines)


def test_same_seed_same_text_and_parts_share_nothing(generated: DataSet, tmp_path: Path) -> None:
    again = find_dataset(settings(), Store(tmp_path))
    assert (again.digest, again.files) == (generated.digest, generated.files)
    assert find_dataset(settings(data_seed=4), Store(tmp_path)).digest != generated.digest
    fit = generated_folder(Store(tmp_path), 3, {FIT: 50}).path / FIT
    parts = [generated.root / "dev-v1.1.json", generated.root / "cal-v1.1.json", fit]
    texts = [{question.paragraph.words for question in read_questions(part)} for part in parts]
    assert [len(text) for text in texts] == [200, 12, 50]
    assert len(set.union(*texts)) == 262
    assert generated.generated
    assert any("generated data" in note for note in generated.notes)


def test_a_part_of_the_samples_is_scored_by_the_questions_that_were_asked(generated: DataSet) -> None:
    questions = read_questions(generated.root / "dev-v1.1.json")
    features = make_features(questions, WordPieces(generated.root / "vocab.txt"))
    oracle = {}
    for index in range(6):
        spans = answer_tokens(features[index], questions[features[index].question])
        logits = np.zeros((len(features[index].tokens), 2), "<f4")
        if spans is not None:
            logits[spans[0], 0] = logits[spans[1], 1] = 9.0
        oracle[index] = logits.tobytes()
    asked = len({features[index].question for index in oracle})
    part, whole = score_responses(oracle, generated, part=True), score_responses(oracle, generated)
    assert part.details["questions"] == asked
    assert part.value > 80
    assert whole.value == pytest.approx(part.value * asked / len(questions))


def test_samples_are_stored_once_and_calibration_apart(generated: DataSet, store: Store) -> None:
    samples = preprocess_samples(settings(), store, generated)
    mask = samples.open()["input_mask"]
    found = samples.lengths_of(range(samples.count))
    assert found is not None
    assert (mask.shape, mask.dtype) == ((samples.count, 384), np.int32)
    assert (mask.sum(axis=1) == found).all()
    loaded = samples.load([1])
    assert loaded["segment_ids"].sum() < mask[1].sum() == (loaded["input_ids"] > 0).sum()
    when = Path(samples.arrays["input_ids"]).stat().st_mtime_ns
    assert preprocess_samples(settings(), store, generated).arrays["input_ids"].stat().st_mtime_ns == when
    calibration = preprocess_samples(settings(), store, generated, calibration=True)
    assert calibration.count >= 12
    assert calibration.digest != samples.digest
    questions = read_questions(generated.root / "cal-v1.1.json")
    wanted = arrays(make_features(questions, WordPieces(generated.root / "vocab.txt")))
    for name, array in calibration.open().items():
        np.testing.assert_array_equal(array, wanted[name])


def test_users_folder_is_calibrated_on_its_first_questions(tmp_path: Path) -> None:
    data = read_folder(ODD)
    assert data.files[:2] == ("q0-0", "q0-1")
    assert data.labels == ()
    assert data.calibration == data.files
    assert data.notes == (
        "dev-v1.1.json of the data folder is not MLPerf's",
        "vocab.txt of the data folder is not MLPerf's",
        f"calibration set: the first {len(data.files)} questions, not MLPerf's list",
    )


def change(root: Path, name: str, edit: Callable[[str], str]) -> None:
    for source in ("dev-v1.1.json", "vocab.txt"):
        text = (ODD / source).read_text(encoding="utf-8")
        (root / source).write_text(edit(text) if source == name else text, encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "edit", "message"),
    [
        ("dev-v1.1.json", lambda text: text[: len(text) // 2], "cannot be read as JSON"),
        ("dev-v1.1.json", lambda text: text.replace('"context"', '"contents"'), "lacks or misuses a field: KeyError"),
        ("dev-v1.1.json", lambda text: text.replace('"q0-1"', '"q0-0"'), "stands there twice"),
        ("dev-v1.1.json", lambda text: text.replace('"q0-1"', "7"), "7 is not text"),
        ("dev-v1.1.json", lambda _: '{"data": []}', "holds no questions"),
        ("dev-v1.1.json", lambda _: "[1, 2]", "lacks or misuses a field: TypeError"),
        ("vocab.txt", lambda text: text.replace("[SEP]", "[S]"), "no [SEP]"),
        ("vocab.txt", lambda text: "the\n" + text, "[PAD] in line 2"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, edit: Callable[[str], str], message: str) -> None:
    change(tmp_path, name, edit)
    with pytest.raises(DataError) as caught:
        read_folder(tmp_path)
    assert message in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)


def test_missing_tokenizers_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers.models", None)
    with pytest.raises(MissingPackageError, match=r"nvkit\[text\]"):
        WordPieces(ODD / "vocab.txt")


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no dev-v1\.1\.json and no vocab\.txt"):
        read_folder(tmp_path)
    with pytest.raises(DataError, match="There is no data folder"):
        read_folder(tmp_path / "nowhere")


def test_questions_without_answers_are_not_squad_1(tmp_path: Path) -> None:
    document = json.loads((ODD / "dev-v1.1.json").read_text(encoding="utf-8"))
    document["data"][0]["paragraphs"][0]["qas"][1]["answers"] = []
    change(tmp_path, "dev-v1.1.json", lambda _: json.dumps(document))
    with pytest.raises(DataError, match="question q0-1 has no answer"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("responses", "message"),
    [
        ({}, "no responses"),
        ({99: b""}, "sample 99 is outside of the data set of 29 samples"),
        ({0: b"1234"}, "has 4 bytes"),
        ({0: bytes(8 * 385)}, "at most 384 tokens"),
        ({0: np.full((3, 2), np.nan, "<f4").tobytes()}, "not finite"),
    ],
)
def test_bad_responses_are_named(responses: dict[int, bytes], message: str) -> None:
    with pytest.raises(DataError, match=message):
        score_responses(responses, read_folder(ODD))


def test_reference_command_gives_paths_without_spaces(tmp_path: Path) -> None:
    root = tmp_path / "with a space"
    root.mkdir()
    change(root, "", str)
    work = tmp_path / "desk"
    work.mkdir()
    script, arguments = reference_command(work / "log.json", read_folder(root), work)
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    assert script == "language/bert/accuracy-squad.py"
    assert options["--output_dtype"] == "float32"
    # of these two the script makes a shell command
    assert options["--val_data"] == str(work / "dev-v1.1.json")
    assert options["--out_file"].startswith(str(work))
    assert Path(options["--val_data"]).samefile(root / "dev-v1.1.json")
