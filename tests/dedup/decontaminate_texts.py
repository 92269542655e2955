"""Texts that are hard on words (scripts without spaces, marks, letters whose lower case is odd, nothing at all), items
made of texts, and the plain definition beside them."""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl
from hypothesis import strategies as st

from factory.dedup.decontaminate.items import name_items

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import decontaminate_plain as plain

__all__ = ["ODD", "any_text", "keyed", "make_items", "plain", "series", "texts"]

WORDS = ("a", "b", "A", "ab", "The", "é", "E\u0301", "ΣΑΣ", "σας", "İ", "I", "K", "k", "ſ", "ß",
         "你", "好", "你好", "こ", "กิน", "हिन्दी", "سلام", "שלום", "1", "23", "٣", "x_1",
         "\\frac{1}{2}", "$x$", "🙂", "👩\u200d🔬", "\u200b", "\u0000", "\u0301",
         "\U0001f1e9\U0001f1ea", "-", "+", "−", "…")
GAPS = (" ", "", "\n", "  ", "\u00a0", "\u200b", "-", "\t")
ODD = ("", "a", " ", "\u0000", "\u200b", "$$\\int_0^1$$", "🙂", "\u202eabc", "好", "\u0301")

texts = st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from(GAPS)), max_size=30).map(
    lambda pieces: "".join(word + gap for word, gap in pieces))
any_text = st.one_of(texts, st.sampled_from(ODD), st.text(max_size=40).map(
    lambda text: text.encode("utf-8", "replace").decode()))


def make_items(documents: list[str], benchmark: str = "b") -> pl.DataFrame:
    """A benchmark of prompts, named by their places."""
    rows = pl.DataFrame({"text": documents}, schema={"text": pl.String}).with_row_index("item")
    return name_items([rows.select(pl.col("item").cast(pl.String), part=pl.lit("prompt"), text="text")], benchmark)


def series(rows: list[str | None]) -> pl.Series:
    """Texts as a column."""
    return pl.Series(rows, dtype=pl.String)


def keyed(rows: dict[str, list[str | None]]) -> pl.DataFrame:
    """Rows of text as an op gets them."""
    frame, number = pl.DataFrame(rows, schema=dict.fromkeys(rows, pl.String)), pl.int_range(pl.len())
    return frame.with_columns(row_id=number, row_key=number.cast(pl.String).cast(pl.Binary))
