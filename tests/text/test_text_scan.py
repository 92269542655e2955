"""The tables, buffers and words against plain Python."""

from __future__ import annotations

import re

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.text.buffers import text_buffers
from factory.text.tables import MARK_RANGES, SPACELESS_RANGES, load_tables
from factory.text.words import hash_word, scan_row, word_counts

TOKEN = re.compile(rf"[{SPACELESS_RANGES}]|(?:[^\W{SPACELESS_RANGES}]|[{MARK_RANGES}])+")
ODD = ["", "a", "\x00", "a\x00b", "\u200b\u200d", "👩‍👩‍👧‍👦 ok", "שלום עולם", "$x^2 + \\frac{1}{2}$",
       "你好ab好", "İΣς ΑΣ", "e\u0301 क्षि", "\U0010ffff",
       "_ __ 1_2", "ﬀ ß ẞ", "\ufeffx", "..."]
TEXT = st.one_of(st.sampled_from(ODD), st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
TEXTS = st.lists(TEXT, max_size=12)


def scan(text: str) -> list[tuple[str, int]]:
    data = text.encode()
    room = len(data) + 1
    starts, ends, hashes = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.uint64)
    buffers = text_buffers(pl.Series([text], dtype=pl.String))
    count = scan_row(buffers.data, buffers.offsets[0], buffers.offsets[1], load_tables().folded, starts, ends, hashes)
    return [(data[starts[i]:ends[i]].decode(), int(hashes[i])) for i in range(count)]


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_words_are_those_of_the_pattern(texts: list[str]) -> None:
    for text in texts:
        assert scan(text) == [(word, hash_word(word)) for word in TOKEN.findall(text)]
    counts = word_counts(text_buffers(pl.Series(texts, dtype=pl.String)))
    assert counts.tolist() == [len(TOKEN.findall(text)) for text in texts]


def test_case_does_not_count() -> None:
    assert hash_word("ÉCOLE") == hash_word("école") == scan("École")[0][1]
    assert hash_word("ΣΑΣ") == hash_word("σασ")
    assert hash_word("a") != hash_word("b")


def test_tables_agree_with_python() -> None:
    tables = load_tables()
    for code in [*range(0x3000), *range(0xAC00, 0xAD00), 0x1D7CE, 0x20000, 0x1F600, 0x10FFFF]:
        char = chr(code)
        assert bool(tables.classes[code] & 1) == bool(TOKEN.fullmatch(char)), hex(code)
        assert bool(tables.classes[code] & 4) == char.isspace()
        assert bool(tables.classes[code] & 8) == char.isdecimal()
        assert tables.lower[code] == ord(char.lower()[0])
    assert not any(table.flags.writeable for table in tables)


@pytest.mark.parametrize("kind", ["series", "string", "large", "view", "chunked", "sliced"])
def test_buffers_hold_the_column(kind: str) -> None:
    texts = ["ab", None, "", "你好", "x" * 30]
    column = {"series": lambda: pl.Series(texts), "string": lambda: pa.array(texts, pa.string()),
              "large": lambda: pa.array(texts, pa.large_string()), "view": lambda: pa.array(texts, pa.string_view()),
              "chunked": lambda: pa.chunked_array([texts[:2], texts[2:]], pa.large_string()),
              "sliced": lambda: pa.array(["zz", *texts, "yy"], pa.large_string()).slice(1, 5)}[kind]()
    data, offsets = text_buffers(column)
    got = [bytes(data[offsets[i]:offsets[i + 1]]).decode() for i in range(len(texts))]
    assert got == [text or "" for text in texts]
    assert not data.flags.writeable
    assert not offsets.flags.writeable


def test_buffers_of_nothing_and_of_no_text() -> None:
    for column in (pl.Series([], dtype=pl.String), pa.chunked_array([], pa.string()), pl.Series([], dtype=pl.Null)):
        assert text_buffers(column).rows == 0
    assert text_buffers(pl.Series([None, None])).offsets.tolist() == [0, 0, 0]
    with pytest.raises(TypeError, match="int64"):
        text_buffers(pl.Series([1]))


def test_bytes_that_are_no_utf8_are_read_within_bounds() -> None:
    for data in (b"ab\xe4\xbd", b"\xf0\x9f", b"\xff\xff", b"\xc3"):
        column = pa.Array.from_buffers(pa.large_string(), 1, [None, pa.py_buffer(np.array([0, len(data)]).tobytes()),
                                                              pa.py_buffer(data)])
        assert word_counts(text_buffers(column))[0] <= len(data)
