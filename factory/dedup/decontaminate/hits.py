"""From runs to what is stored: one hit per row and benchmark document, with the evidence of its longest run."""

from __future__ import annotations

import numpy as np
import polars as pl

from .index import Index
from .scan import Runs
from .schemas import HITS


def _united(runs: pl.DataFrame, length: pl.Expr, name: str) -> pl.DataFrame:
    """Places of a document covered by intervals [word, word + length), each once."""
    by = ["row", "document"]
    stop = pl.col("word") + length
    before = stop.cum_max().shift(1).over(by)
    fresh = (stop - pl.max_horizontal(pl.col("word"), before.fill_null(0))).clip(0)
    counted = runs.sort(*by, "word").with_columns(fresh.alias(name))
    return counted.group_by(by, maintain_order=True).agg(pl.col(name).sum())


def list_hits(runs: Runs, index: Index) -> pl.DataFrame:
    """The hits of a batch (`HITS`), by row, then the longest first, then by place in the index."""
    if not len(runs.row):
        return pl.DataFrame(schema=HITS)
    frame = pl.DataFrame(runs._asdict())
    by = ["row", "document"]
    longest_first = frame.sort(*by, "words", "begin", descending=[False, False, True, False])
    best = longest_first.group_by(by, maintain_order=True).agg(
        pl.col("words", "begin", "end", "word").first(), pl.col("spread").min())
    best = best.join(_united(frame, pl.col("words"), "covered"), on=by, how="left", maintain_order="left")
    best = best.join(_united(frame, pl.col("words") - index.n + 1, "grams"), on=by, how="left", maintain_order="left")
    document = best["document"].to_numpy()
    first = index.word_at[document] + best["word"].to_numpy()
    last = first + best["words"].to_numpy() - 1
    total = np.diff(index.word_at)[document]
    found = best.with_columns(
        letters=index.lettered[last + 1] - index.lettered[first], share=best["covered"].to_numpy() / total,
        item_begin=pl.Series(index.chars_at[first]), item_end=pl.Series(index.chars_to[last]))
    named = found.hstack(index.items[document].select("benchmark", "revision", "item", item_part="part"))
    ordered = named.sort("row", "words", "document", descending=[False, True, False])
    return ordered.select(HITS.names()).cast(HITS)
