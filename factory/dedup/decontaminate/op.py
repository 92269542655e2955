"""dedup.decontaminate, version 2: rows that hold text of a benchmark (`against`), measured so that `where` can choose.

What is measured and what counts are apart. `ngram` is the least run of words that is looked for (8: OpenR1, Llama 3);
`words` of a hit is how long the run is, so n = 10 (DeepSeekMath, section 2.1; R1, appendix D.1) and n = 13 (GPT-3,
appendix C) are thresholds on it, free to change in the select step. Phrases ("let n be a positive integer such that
the …") are n-grams of several items and of many rows. GPT-3 ignored 13-grams met in more than ten training documents
(NeMo Curator's `max_matches=10`), but that makes a row's verdict depend on the other rows; Llama 3 and Tülu 3 ask for
a share of the item's tokens, Cosmopedia for half of it, AI2's decon weighs n-grams by inverse document frequency. Here
every hit counts by default and says its share of the item, in how many items its rarest n-gram stands (`spread`) and
how many of its words are more than digits (`letters`); `where` decides.

Version 1 compared one column, whole. Version 2 compares several parts, by runs of words and by whole prompts.
"""

from __future__ import annotations

from typing import Literal

import polars as pl
from pydantic import Field, model_validator

from factory.engine.gathered import Gathered
from factory.engine.op import Kind, OpContext, Params, op

from .items import check_text, join_items, name_items, take_items
from .schemas import HIT, ITEMS
from .verdicts import score_rows

Mode = Literal["ngram", "exact", "digits", "near"]
_CODE = tuple(f"factory.dedup.decontaminate.{name}" for name in (
    "composed", "exact", "forms", "grams", "hits", "index", "indexing", "items", "judge", "near", "parted", "runs",
    "scan", "schemas", "verdicts"))


class DecontaminateParams(Params):
    """`parts`: the column of each part of a judged row; the part `prompt` is also compared whole, the parts `thinking`
    and `answer` are these parts of the column's text. `items`: the columns of the benchmarks, of which each need only
    have one; `item`: the column that names one of their problems (default: its row key). `ngram`: the shortest run of
    words looked for; `words`: the run from which the default rule calls a row contaminated; `modes`: what that rule
    listens to; `near`: least similarity of a near prompt that is stored; `most`: hits stored per row, first those that
    count, then the longest."""

    parts: dict[str, str] = Field(default={"prompt": "prompt"}, min_length=1)
    items: dict[str, str] = Field(default={"prompt": "prompt"}, min_length=1)
    item: str | None = None
    ngram: int = Field(default=8, ge=3, le=64)
    words: int = Field(default=13, ge=3)
    modes: tuple[Mode, ...] = ("ngram", "exact")
    near: float | None = Field(default=0.8, gt=0, le=1)
    most: int = Field(default=16, ge=1)

    @model_validator(mode="after")
    def _check_words(self) -> DecontaminateParams:
        if self.words < self.ngram:
            raise ValueError(f"words {self.words} is below ngram {self.ngram}, and shorter runs are not looked for: "
                             "lower ngram")
        if "near" in self.modes and self.near is None:
            raise ValueError("modes names near, and near is null: give the least similarity, such as 0.8")
        for part in self.parts:
            if not part.isidentifier():
                raise ValueError(f"part {part!r} names columns (`<part>_longest`): use letters, digits and underscores")
        return self


def _columns(params: DecontaminateParams) -> tuple[str, ...]:
    return tuple(dict.fromkeys(params.parts.values()))


def _out(params: DecontaminateParams) -> dict[str, pl.DataType]:
    return {"contaminated": pl.Boolean(), "modes": pl.List(pl.String()), "benchmarks": pl.List(pl.String()),
            "longest": pl.Int32(), **{f"{part}_longest": pl.Int32() for part in params.parts}, "share": pl.Float64(),
            "near_jaccard": pl.Float64(), "hit_count": pl.Int32(), "hits": pl.List(HIT)}


def _texts(params: DecontaminateParams) -> tuple[str, ...]:
    return (*params.parts.values(), *params.items.values())


@op("dedup.decontaminate", version=2, kind=Kind.GLOBAL, params=DecontaminateParams, columns=_columns, out=_out,
    texts=_texts, code=_CODE)
class Decontaminate:
    """Mark rows that hold text of a benchmark (`against`), so that `where` leaves them out.

    Columns: `contaminated` (by the default rule: a run of `words` words, or the same prompt), `modes` and `benchmarks`
    of all hits, `longest` (words of the longest run; `<part>_longest` in each part), `share` (greatest share of an
    item's words), `near_jaccard`, `hit_count`, and `hits`, the evidence: benchmark, revision, item, its part, the part
    of the row, mode, words, share, offsets in code points in the row's text and in the item's.

    Reason codes: `benchmark_prompt` (the same prompt), `benchmark_text` (a run of words), `benchmark_near`,
    `benchmark_template` (the same but for numbers); undecided is `no_text`, where all parts are null or blank.
    """

    some = True

    @staticmethod
    def against(params: DecontaminateParams) -> tuple[str, ...]:
        """The columns read of the benchmarks."""
        return tuple(dict.fromkeys((*params.items.values(), *([params.item] if params.item else []))))

    @staticmethod
    def partial(batch: pl.DataFrame, params: DecontaminateParams, ctx: OpContext) -> pl.DataFrame:
        """A part of a benchmark: (item, part, text).

        Raises:
            DataError: a column does not hold text, or none of them is there.
        """
        return take_items(batch, params.items, params.item)

    @staticmethod
    def gather(gathered: Gathered, params: DecontaminateParams, ctx: OpContext) -> dict[str, pl.DataFrame]:
        """The table `items` (`schemas.ITEMS`); a benchmark is called as the dataset that holds it."""
        frames: dict[str, list[pl.DataFrame]] = {}
        for part in gathered.parts:
            for source in part.sources:
                frames.setdefault(source.rpartition("@")[0], []).append(part.read(None))
        items = join_items(name_items(texts, benchmark) for benchmark, texts in frames.items())
        for benchmark, found in items.group_by("benchmark", maintain_order=True):
            ctx.count(f"items of {benchmark[0]}", found["item"].n_unique())
        return {"items": items}

    @staticmethod
    def decide(batch: pl.DataFrame, tables: dict[str, pl.DataFrame], params: DecontaminateParams,
               ctx: OpContext) -> pl.DataFrame:
        """One score per row.

        Raises:
            DataError: a column does not hold text.
        """
        from .judge import find_hits, open_benchmarks  # numba takes half a second to import

        check_text(batch, params.parts.values(), "parts")
        opened = open_benchmarks(tables.get("items", pl.DataFrame(schema=ITEMS)), params.ngram)
        scores = score_rows(batch, find_hits(batch, params.parts, opened, params.near), params)
        for (benchmark,), found in scores.select(pl.col("benchmarks").explode()).drop_nulls().group_by(
                "benchmarks", maintain_order=True):
            ctx.count(f"rows with text of {benchmark}", found.height)
        return scores
