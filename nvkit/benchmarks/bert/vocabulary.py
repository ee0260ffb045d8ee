"""The vocabulary of the generated data: pieces in BERT's layout, and the words that its paragraphs are made of.

It is the same for every seed of data, so that one synthetic network fits all of them.
"""

from __future__ import annotations

import random
import string
from functools import cache

from nvkit.benchmarks.bert.wordpiece import CLS, MASK, PAD, SEP, UNKNOWN

TITLES = ("squire", "knight", "baron", "duke", "king", "emperor")
"""First words of the people that a paragraph names, from the lowest rank to the highest."""
SEATS = ("cottage", "manor", "castle", "duchy", "kingdom", "empire")
"""Last words of them, of the same ranks."""
HIGHEST = ("who", "ranks", "highest", "?")
"""The shortest question."""
_COMMON = (
    "the of and in to a was is for as on with by that at from his it an were are which this also be had first or has "
    "its their not but one new after two who they have her she more other when into during time all most only between "
    "over part under where some about later through many such both since until while"
)
JOINING = tuple(_COMMON.split())
"""Common words of English, the commonest first."""
PUNCTUATION = string.punctuation + "–—’‘“”…"

_SEED = 1
_STEMS = 1800
_ENDINGS = (
    "ed",
    "ing",
    "er",
    "en",
    "al",
    "ic",
    "ous",
    "ful",
    "ness",
    "ship",
    "ward",
    "ish",
    "ant",
    "ence",
    "ity",
    "est",
)
_CONTINUATIONS = 1800
_COMMON_STEMS = 400
_YEARS = range(1500, 2020, 7)
_TWO_DIGITS = range(10, 100)
# Words that no vocabulary has, or that change on their way into tokens.
_ODD = ("café", "São", "Zürich", "naïve", "東京", "北京市", "Ω", "🙂", "3.5%", "$20", "U.S.", "1990s", "x-ray", "Łódź")


@cache
def pieces() -> tuple[str, ...]:
    """Return the lines of vocab.txt: special pieces at BERT's ids, characters, words, then what continues a word."""
    special = [PAD, *(f"[unused{number}]" for number in range(99)), UNKNOWN, CLS, SEP, MASK]
    characters = string.ascii_lowercase + string.digits
    whole = [*PUNCTUATION, *characters, *TITLES, *SEATS, *HIGHEST, *JOINING, *_stems()]
    whole += map(str, _TWO_DIGITS)
    rng = random.Random(f"{_SEED}/continuations")
    endings = [*characters, *map(str, _TWO_DIGITS), *_ENDINGS]
    endings += [_syllable(rng) + rng.choice(("", _syllable(rng))) for _ in range(_CONTINUATIONS)]
    return tuple(dict.fromkeys([*special, *whole, *(f"##{ending}" for ending in endings)]))


@cache
def words() -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Return the words of a running text and how often each stands there, as a running sum: commoner words first.

    Frequencies fall as in a natural language, with the rank of the word.
    """
    rng = random.Random(f"{_SEED}/words")
    stems = list(_stems())
    rare = [stem + rng.choice(_ENDINGS) for stem in stems[:_COMMON_STEMS]]
    rare += [stem + _syllable(rng) + _syllable(rng) for stem in stems[:_COMMON_STEMS]]
    rare += stems[_COMMON_STEMS:]
    rng.shuffle(rare)
    ranked = [*JOINING, *stems[:_COMMON_STEMS], *rare, *map(str, _YEARS), *_ODD]
    total, sums = 0.0, []
    for rank in range(len(ranked)):
        total += 1 / (rank + 3)
        sums.append(total)
    return tuple(ranked), tuple(sums)


@cache
def names() -> tuple[str, ...]:
    """Return the names that people in a paragraph have, in lower case."""
    return _stems()[_COMMON_STEMS : 2 * _COMMON_STEMS]


@cache
def _stems() -> tuple[str, ...]:
    rng = random.Random(f"{_SEED}/stems")
    taken = {*TITLES, *SEATS, *HIGHEST, *JOINING}
    stems: dict[str, None] = {}
    while len(stems) < _STEMS:
        stem = "".join(_syllable(rng) for _ in range(rng.choice((1, 2, 2, 3)))) + rng.choice("nrstlmkd")
        if stem not in taken:
            stems[stem] = None
    return tuple(stems)


def _syllable(rng: random.Random) -> str:
    return rng.choice("bcdfghjklmnprstvwz") + rng.choice("aeiou")
