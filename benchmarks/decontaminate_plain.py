r"""What an n-gram hit is, in plain Python: what the kernels are held to, and the scripts that they are timed against.

A word is a run of letters, digits, underscores and combining marks, lower-cased, or one character of a script that is
written without spaces; an n-gram of a text is a tuple of n successive words. `simple_hits` is the quickest script of
its kind that people write: words are `\w+`, n-grams are joined strings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from factory.text.tables import MARK_RANGES, SPACELESS_RANGES

Gram = tuple[str, ...]
_WORD = re.compile(r"\w+")
_TOKEN = re.compile(rf"[{SPACELESS_RANGES}]|(?:[^\W{SPACELESS_RANGES}]|[{MARK_RANGES}])+")


def words_of(text: str) -> list[str]:
    """Lower-cased words; U+0130 and the sigmas by themselves, where `str.lower` looks at their neighbours."""
    if not text.isascii() and any(char in text for char in "\u0130\u03a3"):
        text = text.replace("\u0130", "i").replace("\u03a3", "\u03c3")
    return _TOKEN.findall(text.lower())


def grams_of(text: str, n: int) -> set[Gram]:
    """The text's set of n-grams."""
    words = words_of(text)
    return {tuple(words[at:at + n]) for at in range(len(words) - n + 1)}


def build_set(texts: Iterable[str], n: int) -> set[Gram]:
    """All n-grams of a benchmark."""
    return set().union(*(grams_of(text, n) for text in texts))


def hits_of(texts: Iterable[str], known: set[Gram], n: int) -> Iterator[set[Gram]]:
    """Per row, the n-grams that the benchmark has too."""
    for text in texts:
        yield grams_of(text, n) & known


def simple_hits(texts: Iterable[str], known: set[str], n: int) -> Iterator[bool]:
    r"""Per row, whether it has an n-gram of the benchmark, with `\w+` and joined strings."""
    for text in texts:
        words = _WORD.findall(text.lower())
        yield not known.isdisjoint({" ".join(words[at:at + n]) for at in range(len(words) - n + 1)})


def simple_set(texts: Iterable[str], n: int) -> set[str]:
    """The n-grams of `simple_hits`."""
    split = (_WORD.findall(text.lower()) for text in texts)
    return {" ".join(words[at:at + n]) for words in split for at in range(len(words) - n + 1)}
