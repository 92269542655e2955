"""Words are read alike by the scan of single bytes and by that of eight at once."""

from __future__ import annotations

import numba
import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from factory.filters.langmix.ascii_words import read_short
from factory.filters.langmix.charset import charset
from factory.filters.langmix.letters import read_word
from factory.text.blocks import find_byte

WORDS = st.builds(lambda first, rest: first + rest, st.sampled_from("abzABZéÉİñ"),
                  st.text(alphabet="abzABZ'’éÉİñ", max_size=20))


@numba.njit
def _read(data, at, end, page, classes, lower):
    return read_word(data, at, end, page, classes, lower)


@numba.njit
def _short(data, at, end):
    return read_short(data, at, end)


@numba.njit
def _find(data, at, end, byte):
    return find_byte(data, at, end, byte)


def read(text: str, end: int) -> tuple[int, ...]:
    return tuple(int(one) for one in _read(np.frombuffer(text.encode(), np.uint8), 0, end, *charset()))


@settings(max_examples=300, deadline=None)
@given(WORDS)
@example("relation")
@example("relationShip")
@example("RELATIONSHIPS")
@example("abcdefgİijklmno")
@example("don't")
def test_a_word_is_read_alike_wherever_it_ends(word: str) -> None:
    size = len(word.encode())
    alone = read(word, size)
    assert alone == read(word + " and more of it", size + 15)
    assert alone == read(word + "xyz and more", size)  # bytes past the text's end are not the word's
    after, value, letters, odd, _ = alone
    lowered = read(word.replace("İ", "i").lower(), len(word.replace("İ", "i").lower().encode()))
    if after == size:
        assert (value, letters) == lowered[1:3]
        assert odd == any(one.islower() and two != two.lower() for one, two in _pairs(word))


def _pairs(word: str) -> list[tuple[str, str]]:
    letters = [char for char in word if char.isalpha()]
    return [(one, two) for at, one in enumerate(letters) for two in letters[at + 1:]]


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="abzABZ'é .", max_size=12).map(lambda rest: "w" + rest))
def test_short_words_are_read_as_others(text: str) -> None:
    raw = np.frombuffer(text.encode(), np.uint8)
    letters, value = _short(raw, 0, len(raw))
    after, wanted, many, odd, _ = read(text, len(raw))
    if letters:
        assert (letters, letters, value, 0) == (after, many, wanted, odd)
    elif len(raw) >= 8:
        assert many > 7 or odd or "'" in text or "é" in text


@given(st.lists(st.integers(0, 3), max_size=300), st.integers(0, 3))
def test_bytes_are_found(values: list[int], byte: int) -> None:
    data = np.frombuffer(bytes(values), np.uint8)
    at = len(values) // 3
    assert _find(data, at, len(data), byte) == (values.index(byte, at) if byte in values[at:] else len(values))
