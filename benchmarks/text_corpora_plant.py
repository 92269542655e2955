"""Near-duplicates with a known Jaccard similarity, made from real texts by edits of single words.

An edit replaces a word (60 %), inserts one (20 %) or deletes one (20 %), as words of `factory.text.words` are; new
words are drawn from another text of the corpus. Edits are added, a share of what is missing at a time, until the
Jaccard similarity of the sets of token 5-grams is as near to the target as it comes; a text that cannot come within
0.02 of it is left out. The similarity stored is exact: that of the sets of n-grams, worked out in plain Python
(`jaccard_of`) and so independent of what is measured with it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence

import polars as pl

from factory.text.tables import MARK_RANGES, SPACELESS_RANGES

LEVELS, NGRAM, TOLERANCE = (0.95, 0.85, 0.70), 5, 0.02
TOKEN = re.compile(rf"[{SPACELESS_RANGES}]|(?:[^\W{SPACELESS_RANGES}]|[{MARK_RANGES}])+")
_LEAST_TOKENS = {0.95: 110, 0.85: 40, 0.70: 20}
_TRIES, _STEPS = 3, 40


def _grams(tokens: Sequence[str]) -> set[tuple[str, ...]]:
    lower = [token.lower() for token in tokens]
    return {tuple(lower[at:at + NGRAM]) for at in range(max(len(lower) - NGRAM, 0) + 1)}


def _jaccard(one: set[tuple[str, ...]], other: set[tuple[str, ...]]) -> float:
    common = len(one & other)
    return common / (len(one) + len(other) - common)


def jaccard_of(one: str, other: str) -> float:
    """The Jaccard similarity of two texts' sets of word 5-grams, the slow way."""
    return _jaccard(_grams(TOKEN.findall(one)), _grams(TOKEN.findall(other)))


class _Edited:
    """A text as pieces: tokens at odd places, what stands between them at even ones; edits are per token."""

    def __init__(self, text: str) -> None:
        self.pieces: list[str] = []
        at = 0
        for found in TOKEN.finditer(text):
            self.pieces += [text[at:found.start()], found.group()]
            at = found.end()
        self.tail = text[at:]

    @property
    def tokens(self) -> list[str]:
        return TOKEN.findall("".join(self.pieces) + self.tail)

    def edit(self, words: Sequence[str], rng: random.Random) -> None:
        """One edit at a random token."""
        at = 2 * rng.randrange(len(self.pieces) // 2) + 1
        kind, word = rng.random(), rng.choice(words)
        if kind < 0.6:
            self.pieces[at] = word
        elif kind < 0.8:
            self.pieces[at] = f"{self.pieces[at]} {word}"
        else:
            self.pieces[at] = ""

    def __str__(self) -> str:
        return "".join(self.pieces) + self.tail


def plant(text: str, level: float, words: Sequence[str], rng: random.Random) -> str | None:
    """`text` edited to the Jaccard similarity `level`, or None where it cannot come near enough."""
    original = TOKEN.findall(text)
    if len(original) < _LEAST_TOKENS[level]:
        return None
    grams = _grams(original)
    edited, best, missed = _Edited(text), None, TOLERANCE
    for _ in range(_STEPS):
        reached = _jaccard(grams, _grams(edited.tokens))
        if abs(reached - level) < missed:
            best, missed = str(edited), abs(reached - level)
        if reached <= level:
            break
        missing = len(grams) * ((1 - level) / (1 + level) - (1 - reached) / (1 + reached)) / NGRAM
        for _ in range(max(int(0.6 * missing), 1)):
            edited.edit(words, rng)
    return best


def plant_many(texts: Sequence[str], per_level: int, seed: int) -> Iterator[tuple[int, str, float, float]]:
    """(index of the original, edited text, level, exact Jaccard): `per_level` for each level, each text used once."""
    rng = random.Random(seed)
    order = iter(rng.sample(range(len(texts)), len(texts)))
    for level in LEVELS:
        made = 0
        for index in order:
            words = TOKEN.findall(texts[rng.randrange(len(texts))]) or ["word"]
            tried = (plant(texts[index], level, words, rng) for _ in range(_TRIES))
            copy = next((one for one in tried if one is not None), None)
            if copy is None:
                continue
            yield index, copy, level, jaccard_of(texts[index], copy)
            made += 1
            if made == per_level:
                break


def pairs_frame(pairs: Sequence[tuple[int, int, float, float]]) -> pl.DataFrame:
    """(left, right, level, jaccard): ids of the original and of its edited copy."""
    return pl.DataFrame(pairs, schema={"left": pl.Int64, "right": pl.Int64, "level": pl.Float64,
                                       "jaccard": pl.Float64}, orient="row")
