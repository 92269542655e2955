"""A batch of rows against opened benchmarks: every hit with its evidence, and what a row's hits come to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from factory.text.buffers import text_buffers

from .exact import Forms, index_forms, match_forms
from .folder import cache_folder
from .hits import list_hits
from .index import Index, open_index
from .near import NearIndex, index_prompts, match_near
from .parted import split_parts
from .scan import search
from .schemas import FOUND, HITS

Numbers = npt.NDArray[Any]
NEAR_WORDS, WORTH_KEEPING, _SLICE_BYTES = 5, 2_000_000, 32_000_000


@dataclass(frozen=True)
class Opened:
    """Benchmarks ready for look-ups. `prompts` are the documents that are prompts; a form's or near index's number
    counts among them. `alike` of exact and digits: (first, document), each benchmark's first prompt of a form."""

    index: Index
    prompts: pl.DataFrame
    exact: Forms
    digits: Forms
    near: NearIndex
    alike: dict[str, pl.DataFrame]


_OPEN: dict[int, tuple[Index, Opened]] = {}


def open_benchmarks(items: pl.DataFrame, n: int) -> Opened:
    """Open `schemas.ITEMS` for n-grams of n words, once per process. The n-gram index of large benchmarks is kept on
    disk; the others are about prompts alone and made anew."""
    index = open_index(items, n, _kept_in(items))
    known = _OPEN.get(id(index))
    if known is None or known[0] is not index:
        prompts = index.items.filter(pl.col("part") == "prompt")
        texts = prompts["text"]
        _OPEN.clear()
        exact, digits = index_forms(texts, False), index_forms(texts, True)
        alike = {"exact": _alike(exact, prompts), "digits": _alike(digits, prompts)}
        known = _OPEN[id(index)] = index, Opened(index, prompts, exact, digits, index_prompts(texts, NEAR_WORDS), alike)
    return known[1]


def _alike(forms: Forms, prompts: pl.DataFrame) -> pl.DataFrame:
    """(first document with a form, first document with it in each benchmark): as many hits as benchmarks, also where
    thousands of items are made by one template."""
    frame = pl.DataFrame({"first": forms.same, "document": np.arange(prompts.height)}).hstack(
        prompts.select("benchmark"))
    return frame.filter(pl.col("first") >= 0).unique(["first", "benchmark"], keep="first", maintain_order=True).drop(
        "benchmark")


def _kept_in(items: pl.DataFrame) -> Path | None:
    """Where the index is kept: nowhere if it is made as fast as it is read."""
    large = (items["text"].str.len_bytes().sum() or 0) >= WORTH_KEEPING
    return cache_folder() / "decontaminate" if large else None


def find_hits(rows: pl.DataFrame, parts: Mapping[str, str], opened: Opened, near_floor: float | None) -> pl.DataFrame:
    """Every hit of a batch (`FOUND`), by row, part and mode; a null text has none.

    Args:
        parts: the column of each part, such as {"prompt": "prompt", "thinking": "response", "answer": "response"}; the
            part named prompt is also compared as a whole, those named thinking and answer are parts of their column.
        near_floor: the least Jaccard similarity of a near prompt; None looks for none.
    """
    frames = [pl.DataFrame(schema=FOUND)]
    for part, texts, offsets in split_parts(rows, parts):
        for begin, piece in _slices(texts):
            found = pl.concat([frame.with_columns(pl.col("row") + begin, part=pl.lit(part)).select(FOUND.names())
                               .cast(FOUND) for frame in _one_part(piece, part, opened, near_floor)])
            if offsets is not None:
                shift = pl.Series(offsets[found["row"].to_numpy()])
                found = found.with_columns(pl.col("begin") + shift, pl.col("end") + shift)
            frames.append(found)
    return pl.concat(frames).sort("row", "part", "mode", maintain_order=True)


def _one_part(texts: pl.Series, part: str, opened: Opened, near_floor: float | None) -> Iterator[pl.DataFrame]:
    buffers = text_buffers(texts)
    runs, words = search(buffers, opened.index)
    yield list_hits(runs, opened.index).with_columns(
        mode=pl.lit("ngram"), jaccard=pl.lit(None, pl.Float64))
    if part != "prompt" or not opened.prompts.height:
        return
    exact = match_forms(texts, opened.exact, False, buffers)
    yield _whole(exact, "exact", opened)
    yield _whole(np.where(exact < 0, match_forms(texts, opened.digits, True, buffers), -1), "digits", opened)
    if near_floor is not None:
        found, similarity = match_near(buffers, words, opened.near, NEAR_WORDS, near_floor)
        same = opened.exact.same
        first = np.where((found >= 0) & (same[found] >= 0), same[found], found) if len(same) else found
        yield _whole(first, "near", opened, similarity)


def _whole(found: Numbers, mode: str, opened: Opened, similarity: Numbers | None = None) -> pl.DataFrame:
    """Hits of a mode that compares whole prompts: `found` is the first prompt of a form per row, -1 for none. A prompt
    that several benchmarks have is a hit of each, at its first item there."""
    rows = np.flatnonzero(found >= 0)
    jaccard = pl.Series("jaccard", similarity[rows] if similarity is not None else [None] * len(rows), pl.Float64)
    hits = pl.DataFrame({"row": rows.astype(np.int64), "first": found[rows]}).with_columns(jaccard).join(
        opened.alike["digits" if mode == "digits" else "exact"], on="first", how="left", maintain_order="left_right")
    document = hits["document"].fill_null(hits["first"]).to_numpy()
    named = opened.prompts[document].select("benchmark", "revision", "item", item_part="part")
    frame = hits.select("row", "jaccard").hstack(named.get_columns())
    empty = [pl.lit(None, dtype).alias(name) for name, dtype in HITS.items() if name not in frame.columns]
    return frame.with_columns(*empty, mode=pl.lit(mode))


def _slices(texts: pl.Series) -> Iterator[tuple[int, pl.Series]]:
    """Runs of rows of some 32 MB, a longer row alone, so that work arrays do not grow with the batch."""
    ends = texts.str.len_bytes().fill_null(0).cum_sum().to_numpy()
    begin = 0
    while begin < len(texts):
        done = int(ends[begin - 1]) if begin else 0
        end = max(int(np.searchsorted(ends, done + _SLICE_BYTES, "right")), begin + 1)
        yield begin, texts.slice(begin, end - begin)
        begin = end
