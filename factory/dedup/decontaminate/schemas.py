"""The tables of decontamination: items of benchmarks, hits of a search, hits as they are stored."""

from __future__ import annotations

import polars as pl

ITEMS = pl.Schema({"benchmark": pl.String(), "revision": pl.String(), "item": pl.String(), "part": pl.String(),
                   "text": pl.String()})
HITS = pl.Schema({
    "row": pl.Int64(), "benchmark": pl.String(), "revision": pl.String(), "item": pl.String(), "item_part": pl.String(),
    "words": pl.Int32(), "letters": pl.Int32(), "grams": pl.Int32(), "share": pl.Float64(), "spread": pl.Int32(),
    "begin": pl.Int64(), "end": pl.Int64(), "item_begin": pl.Int64(), "item_end": pl.Int64(),
})
"""`row`: place in the batch. `words`: length of the longest run; a hit at n is words >= n. `letters`: those of its
words that are more than digits: few in "1 2 3 4 …", which many texts count. `grams`: n-grams (of the index's n) of
the document that the row has, each place counted once. `share`: words of the document inside some run, by all its
words (the measure of Llama 3, arXiv 2407.21783, section 5.1.4). `spread`: documents that have the rarest n-gram of the
rarest run: 1 marks one problem, many a phrase. Offsets are code points of the longest run, first of equals."""
FOUND = pl.Schema({"part": pl.String(), "mode": pl.String(), **HITS, "jaccard": pl.Float64()})
"""A hit with which part of the row it was found in and by which mode (ngram, exact, digits, near); the measurements of
a run are null for the other modes, `jaccard` is null but for near."""
HIT = pl.Struct({"counts": pl.Boolean(), **{name: dtype for name, dtype in FOUND.items() if name != "row"}})
"""A hit as a score stores it; `counts`: the default rule listens to it."""
