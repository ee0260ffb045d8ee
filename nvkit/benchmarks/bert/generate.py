"""Generated questions in the format of SQuAD v1.1, with lengths distributed as in its dev-v1.1.json.

A paragraph names people of different ranks, e.g. "duke Tamok Belor of Rin duchy", in running text of invented words.
The question is who ranks highest. The answer begins with the highest title of the paragraph and ends with the highest
seat, so that a last layer that knows these words can find it; people of lower rank, and titles and seats that stand
alone, are what it may take for the answer.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from nvkit.benchmarks.bert.dataset import VOCABULARY
from nvkit.benchmarks.bert.vocabulary import HIGHEST, SEATS, TITLES, names, pieces, words
from nvkit.benchmarks.bert.wordpiece import WordPieces
from nvkit.progress import tqdm
from nvkit.store import Artefact, Store, write_json, write_text

FIT = "fit-v1.1.json"
"""The file of the questions that a synthetic network's last layer is fitted on."""

_GENERATOR_VERSION = 1
_LENGTHS = "squad_dev_lengths.txt"
_PARAGRAPHS_PER_ARTICLE = 25
_TOKENS_PER_PERSON = 45  # of a paragraph
_LONE_SHARE = 0.5
_PUNCTUATION_SHARE = 0.12


def generated_folder(store: Store, seed: int, counts: Mapping[str, int]) -> Artefact:
    """Return a folder with vocab.txt and a question file for each name of `counts`, made in the store if need be.

    Files of different names share no question.

    Args:
        store: Where the folder is kept.
        seed: Same seed, same text.
        counts: File name to number of questions: dataset.QUESTIONS, dataset.CALIBRATION, or FIT.
    """
    key = {"generator": _GENERATOR_VERSION, "seed": seed, "questions": dict(counts)}

    def make(folder: Path) -> None:
        write_text(folder / VOCABULARY, "".join(f"{piece}\n" for piece in pieces()))
        cost = WordPieces(folder / VOCABULARY).pieces
        for name, count in counts.items():
            document = _document(random.Random(f"{seed}/{name}"), name, count, lambda word: len(cost(word)))
            write_json(folder / name, document)

    return store.get_or_make("data", key, make)


def squad_lengths() -> dict[str, list[int]]:
    """Return the lengths of SQuAD's dev-v1.1.json in tokens: of each "question" and of the "paragraph" it is about.

    Both are sorted: which belongs to which is not kept, as they hardly depend on each other (a correlation of 0.1).
    """
    lengths: dict[str, list[int]] = {}
    for line in resources.files(__package__).joinpath(_LENGTHS).read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            what, tokens, count = line.split()
            lengths.setdefault(what, []).extend([int(tokens)] * int(count))
    return lengths


def _document(rng: random.Random, name: str, count: int, cost: Callable[[str], int]) -> dict[str, Any]:
    lengths = {what: _spread(rng, known, count) for what, known in squad_lengths().items()}
    entries = []
    for number in tqdm(range(count), desc=f"Generating questions ({name})", unit="question", disable=count < 1000):
        context, answer, start = _paragraph(rng, lengths["paragraph"][number], cost)
        # Annotators of SQuAD agree on most answers and leave a word out of some.
        shorter = answer.rpartition(" ")[0] if rng.random() < 0.3 else answer
        right = [{"answer_start": start, "text": text} for text in (answer, answer, shorter)]
        question = _question(rng, lengths["question"][number], cost)
        qas = [{"answers": right, "question": question, "id": f"{name.partition('-')[0]}-{number:06d}"}]
        entries.append({"context": context, "qas": qas})
    articles = [
        {"title": f"Generated {first}", "paragraphs": entries[first : first + _PARAGRAPHS_PER_ARTICLE]}
        for first in range(0, count, _PARAGRAPHS_PER_ARTICLE)
    ]
    return {"data": articles, "version": "1.1"}


def _spread(rng: random.Random, known: Sequence[int], count: int) -> list[int]:
    """Return `count` values spread as the known ones: one from each of `count` equal parts of them, shuffled."""
    chosen = [known[int((part + 0.5) / count * len(known))] for part in range(count)]
    rng.shuffle(chosen)
    return chosen


def _question(rng: random.Random, tokens: int, cost: Callable[[str], int]) -> str:
    middle = _running(rng, tokens - len(HIGHEST), cost)
    text = " ".join([HIGHEST[0], *middle, *HIGHEST[1:-1]]) + HIGHEST[-1]
    return text[0].upper() + text[1:]


def _paragraph(rng: random.Random, tokens: int, cost: Callable[[str], int]) -> tuple[str, str, int]:
    """Return a paragraph of so many tokens, the answer and the character at which it starts."""
    ranks = rng.sample(range(len(TITLES)), min(2 + tokens // _TOKENS_PER_PERSON, 5))
    answer = _person(rng, max(ranks))
    others = [_person(rng, rank) for rank in ranks if rank != max(ranks)]
    others += [rng.choice(lone[: max(ranks)]) for lone in (TITLES, SEATS) if rng.random() < _LONE_SHARE]
    used = sum(cost(word) for unit in (answer, *others) for word in unit.split())
    units = _running(rng, tokens - used, cost, stops=True)
    for unit in others:
        units.insert(rng.randrange(len(units)), unit)
    place = rng.randrange(len(units))
    start = sum(len(unit) + 1 for unit in units[:place])
    return " ".join([*units[:place], answer, *units[place:]]), answer, start


def _person(rng: random.Random, rank: int) -> str:
    called = [name.capitalize() for name in rng.choices(names(), k=rng.choice((1, 2, 2)))]
    return " ".join([TITLES[rank], *called, *(["of"] if rng.random() < 0.5 else []), SEATS[rank]])


def _running(rng: random.Random, tokens: int, cost: Callable[[str], int], *, stops: bool = False) -> list[str]:
    """Return running text of so many tokens; with `stops` as sentences, the last of them complete."""
    known, sums = words()
    text: list[str] = []
    left = tokens - stops
    while left:
        for word in rng.choices(known, cum_weights=sums, k=left):
            stop = rng.choice(",.") if stops and rng.random() < _PUNCTUATION_SHARE else ""
            here = cost(word) + len(stop)
            if here < left or (here == left and not stop):
                begins = stops and (not text or text[-1].endswith("."))
                text.append((word[0].upper() + word[1:] if begins else word) + stop)
                left -= here
    if stops:
        text[-1] += "."
    return text
