"""What a row's hits come to: the columns of its score, and the default rule."""

from __future__ import annotations

from typing import Any, Protocol

import polars as pl

from .schemas import HIT

CODES = {"exact": "benchmark_prompt", "ngram": "benchmark_text", "near": "benchmark_near",
         "digits": "benchmark_template"}
"""Reason codes by mode, the plainest first: of several hits that count it gives the reason."""
_ZERO: dict[str, Any] = {"contaminated": False, "longest": 0, "share": 0.0, "hit_count": 0, "modes": [],
                         "benchmarks": [], "hits": []}


class Rule(Protocol):
    """The params that decide: see `op.DecontaminateParams`."""

    @property
    def parts(self) -> dict[str, str]: ...
    @property
    def words(self) -> int: ...
    @property
    def modes(self) -> tuple[str, ...]: ...
    @property
    def most(self) -> int: ...


def score_rows(batch: pl.DataFrame, found: pl.DataFrame, rule: Rule) -> pl.DataFrame:
    """The scores of a batch from its hits (`schemas.FOUND`)."""
    blank = [pl.col(column).cast(pl.String).str.strip_chars().str.len_bytes().fill_null(0) == 0
             for column in rule.parts.values()]
    rows = batch.select(pl.all_horizontal(blank).alias("_silent")).with_row_index("row").cast({"row": pl.Int64})
    scores = rows.join(_by_row(found, rule), on="row", how="left", maintain_order="left")
    hit, none = pl.col("contaminated").fill_null(False), pl.col("_silent")
    said = pl.when(none).then(pl.lit("no part of the row has text")).when(hit).then("reason")
    code = pl.when(none).then(pl.lit("no_text")).when(hit).then("reason_code")
    measured = [name for name in scores.columns if name not in ("row", "_silent", "reason", "reason_code")]
    zeros = {name: 0 if name.endswith("_longest") else _ZERO.get(name) for name in measured}
    return batch.select("row_id").hstack(scores.select(
        passed=pl.when(~none).then(~hit), reason_code=code, reason=said,
        **{name: pl.when(~none).then(_filled(name, zero, scores.schema[name])) for name, zero in zeros.items()},
    ).get_columns())


def _filled(name: str, zero: Any, dtype: pl.DataType) -> pl.Expr:
    return pl.col(name) if zero is None else pl.col(name).fill_null(pl.lit(zero, dtype))


def _by_row(found: pl.DataFrame, rule: Rule) -> pl.DataFrame:
    """One row for each row with hits."""
    counts = pl.col("mode").is_in(rule.modes) & (pl.col("words").fill_null(rule.words) >= rule.words)
    order = {mode: rank for rank, mode in enumerate(CODES)}
    ranked = found.with_columns(
        counts=counts, _rank=pl.col("mode").replace_strict(order, return_dtype=pl.Int32)).sort(
        "row", "counts", "_rank", "words", descending=[False, True, False, True], nulls_last=True, maintain_order=True)
    run = pl.col("mode").first() == "ngram"
    said = pl.concat_str(
        pl.when(run).then(pl.format("a run of {} words in the {}", pl.col("words").first(), pl.col("part").first()))
        .otherwise(pl.format("{} match of the {}", pl.col("mode").first(), pl.col("part").first())),
        pl.format(": {} item {}", pl.col("benchmark").first(), pl.col("item").first()))
    longest = {f"{part}_longest": pl.col("words").filter(pl.col("part") == part).max() for part in rule.parts}
    return ranked.group_by("row", maintain_order=True).agg(
        contaminated=pl.col("counts").any(), modes=pl.col("mode").unique().sort(),
        benchmarks=pl.col("benchmark").unique().sort(), longest=pl.col("words").max(), **longest,
        share=pl.col("share").max(), near_jaccard=pl.col("jaccard").max(), hit_count=pl.len().cast(pl.Int32),
        hits=pl.struct(list(HIT.to_schema())).head(rule.most),
        reason_code=pl.col("mode").first().replace_strict(CODES, return_dtype=pl.String), reason=said)
