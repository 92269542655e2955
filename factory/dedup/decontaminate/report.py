"""report.contamination: what a decontamination found, benchmark by benchmark."""

from __future__ import annotations

import polars as pl
from pydantic import Field

from factory.engine.errors import OpError
from factory.engine.op import Job, Kind, OpContext, Params, Report, op

from .schemas import HIT, ITEMS

_BY = pl.Struct({"part": pl.String(), "mode": pl.String(), "rows": pl.Int64(), "items": pl.Int64()})
_WIDEST = pl.Struct({"item": pl.String(), "rows": pl.Int64(), "words": pl.Int32(), "share": pl.Float64()})
_EXAMPLE = pl.Struct({"part": pl.String(), "mode": pl.String(), "item": pl.String(), "words": pl.Int32(),
                      "share": pl.Float64(), "text": pl.String()})
REPORT = pl.Schema({
    "benchmark": pl.String(), "revision": pl.String(), "items": pl.Int64(), "items_hit": pl.Int64(),
    "rows_hit": pl.Int64(), "items_counted": pl.Int64(), "rows_counted": pl.Int64(), "by": pl.List(_BY),
    "widest": pl.List(_WIDEST), "examples": pl.List(_EXAMPLE), "examples_row_id": pl.List(pl.Int64())})
"""`items_counted`, `rows_counted`: of the hits, those that the default rule listens to. `by`: rows and items per part
of the row and mode. `widest`: the items with most rows, with their longest run and greatest share: one that many rows
touch with a small share is a phrase, one with share 1 is a leak. `examples`: hits of distinct items, those that count
first, the longest first, with the text of the item that the row has; `examples_row_id` are their rows."""
_WHOLE_TEXT = 200
_BENCHMARK = ["benchmark", "revision"]


class ContaminationParams(Params):
    """`examples` and `widest`: how many of each for a benchmark."""

    examples: int = Field(default=5, ge=0)
    widest: int = Field(default=10, ge=0)


@op("report.contamination", version=1, kind=Kind.REPORT, params=ContaminationParams,
    code=("factory.dedup.decontaminate.schemas",))
def report_contamination(job: Job, params: ContaminationParams, ctx: OpContext) -> Report:
    """What a step of dedup.decontaminate found, one row per benchmark: items, rows, by part and mode, with examples.

    Table `report`: benchmark, revision, items; items_hit and rows_hit, items_counted and rows_counted (hits that the
    default rule listens to); by (part, mode, rows, items); widest (the items that most rows hold); examples (hits with
    the text of the item) and examples_row_id. Metrics: rows, contaminated, hits_left_out (beyond the step's `most` of a
    row, which the counts of items and rows here do not see), and for each benchmark `<benchmark>` (rows counted) and
    `<benchmark>.items` (share of its items that some counted row holds).

    Raises:
        OpError: the input is no decontamination.
    """
    names = list(job.inputs)
    if len(names) != 1 or "hits" not in job.inputs[names[0]].collect_schema():
        raise OpError("report.contamination takes one step of dedup.decontaminate, got "
                      f"{', '.join(names)}: name it in `from`")
    scores = job.inputs[names[0]].select("row_id", "contaminated", "hit_count", "hits").collect()
    hits = scores.select("row_id", pl.col("hits")).explode("hits").drop_nulls("hits").unnest("hits")
    items = job.table(names[0], "items").select(ITEMS.names()).collect()
    table = report_hits(hits, items, params.examples, params.widest)
    left_out = (scores["hit_count"].sum() or 0) - hits.height
    metrics = {"rows": float(scores.height), "contaminated": float(scores["contaminated"].sum() or 0),
               "hits_left_out": float(left_out)}
    for row in table.iter_rows(named=True):
        metrics[row["benchmark"]] = float(row["rows_counted"])
        metrics[f"{row['benchmark']}.items"] = row["items_counted"] / row["items"]
    return Report(table, metrics)


def report_hits(hits: pl.DataFrame, items: pl.DataFrame, examples: int = 5, widest: int = 10) -> pl.DataFrame:
    """The report (`REPORT`), one row per benchmark, those without hits too.

    Args:
        hits: every hit of every row: `row_id` and the fields of `schemas.HIT`.
        items: the indexed items (`schemas.ITEMS`).
    """
    hits = hits.select(pl.col("row_id").cast(pl.Int64), *HIT.to_schema())
    counted, rows = pl.col("counts"), pl.col("row_id")
    every = items.group_by(_BENCHMARK).agg(items=pl.col("item").n_unique())
    some = hits.group_by(_BENCHMARK).agg(
        items_hit=pl.col("item").n_unique(), rows_hit=rows.n_unique(),
        items_counted=pl.col("item").filter(counted).n_unique(), rows_counted=rows.filter(counted).n_unique())
    parts = hits.group_by(*_BENCHMARK, "part", "mode").agg(rows=rows.n_unique(), items=pl.col("item").n_unique())
    parts = parts.sort("part", "mode").group_by(_BENCHMARK).agg(by=pl.struct("part", "mode", "rows", "items"))
    wide = hits.group_by(*_BENCHMARK, "item").agg(rows=rows.n_unique(), words=pl.col("words").max(),
                                                  share=pl.col("share").max())
    wide = wide.sort("rows", "item", descending=[True, False]).group_by(_BENCHMARK).agg(
        widest=pl.struct("item", "rows", "words", "share").head(widest))
    whole = every
    for found in (some, parts, wide, _examples(hits, items, examples)):
        whole = whole.join(found, on=_BENCHMARK, how="left")
    numbers, lists = ("items_hit", "rows_hit", "items_counted", "rows_counted"), ("by", "widest", "examples")
    filled = whole.select(pl.col(REPORT.names())).cast(REPORT).with_columns(
        pl.col(numbers).fill_null(0), *(pl.col(name).fill_null(pl.lit([], REPORT[name])) for name in lists),
        pl.col("examples_row_id").fill_null(pl.lit([], REPORT["examples_row_id"])))
    return filled.sort(_BENCHMARK)


def _examples(hits: pl.DataFrame, items: pl.DataFrame, count: int) -> pl.DataFrame:
    """The plainest hit of each item, with the item's text; of equal ones that of the first row."""
    order = {"counts": True, "share": True, "words": True, "mode": False, "part": False, "item": False, "row_id": False}
    best = hits.sort(list(order), descending=list(order.values()), nulls_last=True).unique(
        [*_BENCHMARK, "item"], keep="first", maintain_order=True)
    best = best.group_by(_BENCHMARK, maintain_order=True).head(count)
    texts = items.rename({"part": "item_part"}).unique([*_BENCHMARK, "item", "item_part"], keep="first",
                                                       maintain_order=True)
    told = best.join(texts, on=[*_BENCHMARK, "item", "item_part"], how="left", maintain_order="left").with_columns(
        text=pl.col("text").str.slice(pl.col("item_begin").fill_null(0), pl.col("item_end") - pl.col("item_begin"))
        .str.head(_WHOLE_TEXT))
    return told.group_by(_BENCHMARK, maintain_order=True).agg(
        examples=pl.struct("part", "mode", "item", "words", "share", "text"), examples_row_id=pl.col("row_id"))
