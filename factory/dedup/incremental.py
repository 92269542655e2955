"""dedup.incremental: new rows against everything that is there, by one greedy pass.

Rows are taken in the order of the increments (waves) that wrote them, within a wave by row_key. A row goes when its
text resembles that of a row before it that stays, or of a row of a dataset in `against`, whose rows always stay. What
was judged once is never judged otherwise: rows that come later can only go themselves. So a dataset may grow and be
released wave by wave, and no row leaves that was released before; dedup.minhash, in comparison, finds all pairs in all
rows, and the rule of a select step decides anew which of them stay.

Resemblance is that of dedup.minhash: Jaccard index of word n-grams, proposed by bands and measured exactly. The
verdicts are stored, and a version that grew by a wave pays for that wave: its keys are looked up among those of the
rows that stay. Earlier verdicts are used only where every earlier wave holds the same rows as then.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from factory.dedup.minhash import (
    CODE,
    MinHashParams,
    choose_bands,
    list_columns,
    measure_rows,
    unicode_version,
)
from factory.engine.gathered import Gathered
from factory.engine.op import Kind, OpContext, op

_OUT = {"jaccard": pl.Float64(), "duplicate_of": pl.String(), "wave": pl.Int32()}
_VERDICTS = pl.Schema({"row_id": pl.Int64(), "row_key": pl.Binary(), "jaccard": pl.Float64(),
                       "duplicate_of": pl.String()})
_WAVES = pl.Schema({"row_id": pl.Int64(), "wave": pl.Int32(), "rows": pl.Int64(), "keys": pl.UInt64()})


class IncrementalParams(MinHashParams):
    """As `dedup.minhash`; `threshold`: similarity from which a row goes; `floor`: similarity that the bands still find
    with a chance of 0.95, below the threshold so that few at it are missed."""


@op("dedup.incremental", version=1, kind=Kind.GLOBAL, params=IncrementalParams, columns=list_columns, out=_OUT,
    identity=unicode_version, code=(*CODE, "factory.dedup.near.waves", "factory.dedup.near.components"))
class Incremental:
    """Let no row pass that resembles one before it: rows of `against`, of earlier increments, or earlier by row_key.

    Reason codes: `duplicate`; undecided is `no_text`, a text that is null. `score` and `jaccard` are the similarity to
    the row that stays, `duplicate_of` is its row_key in hexadecimal digits, `wave` counts the increments from 0. Rows
    that are also in a dataset of `against` pass.
    """

    both = True
    grows = "waves"

    @staticmethod
    def against(params: IncrementalParams) -> tuple[str, ...]:
        """The columns read of the datasets to compare with."""
        return list_columns(params)

    @staticmethod
    def judged(params: IncrementalParams) -> tuple[str, ...]:
        """The columns that `decide` reads: none, for whoever grows by a wave would read all texts again."""
        return ()

    @staticmethod
    def about(tables: dict[str, pl.DataFrame], first: int, last: int) -> list[pl.DataFrame]:
        """All that `decide` takes from the tables for rows with these ids."""
        verdicts = tables.get("verdicts", pl.DataFrame(schema=_VERDICTS))
        waves = tables.get("waves", pl.DataFrame(schema=_WAVES))
        space = pl.col("row_id") // (1 << 40) == first // (1 << 40)
        return [verdicts.filter(pl.col("row_id").is_between(first, last)), waves.filter(space).select("row_id", "wave")]

    @staticmethod
    def partial(batch: pl.DataFrame, params: IncrementalParams, ctx: OpContext) -> pl.DataFrame:
        """Measure a batch (`minhash.measure_rows`)."""
        return measure_rows(batch, params, silent=True)

    @staticmethod
    def gather(gathered: Gathered, params: IncrementalParams, ctx: OpContext) -> dict[str, pl.DataFrame]:
        """The tables `verdicts`, of rows that go (or have no text: without jaccard), and `waves`: what each holds."""
        from factory.dedup.near.rows import load_rows
        from factory.dedup.near.search import Settings
        from factory.dedup.near.waves import judge_waves

        rows = load_rows(gathered, by_wave=True)
        settings = Settings.within(params.text, params.threshold, choose_bands(params.floor, params.num_perm)[0],
                                   params.ngram, gathered.memory)
        base = _base_verdicts(gathered, rows)
        if base is None:
            rows = rows._replace(settled=rows.settled & False)
        judged, skipped = judge_waves(gathered, rows, _start(rows, base), settings)
        ctx.count("pairs_left_out_of_large_buckets", skipped)
        known = pl.DataFrame(schema=_VERDICTS) if base is None else base
        verdicts = pl.concat([known, _new_verdicts(rows, judged), _silent(rows)]).unique("row_id").sort("row_id")
        return {"verdicts": verdicts, "waves": _count_waves(rows, rows.waves >= 0)}

    @staticmethod
    def decide(batch: pl.DataFrame, tables: dict[str, pl.DataFrame], params: IncrementalParams,
               ctx: OpContext) -> pl.DataFrame:
        """One score per row: `passed`, `reason_code`, `reason`, `score`, `jaccard`, `duplicate_of`, `wave`."""
        verdicts = tables.get("verdicts", pl.DataFrame(schema=_VERDICTS)).select(
            "row_id", "jaccard", "duplicate_of", silent=pl.col("duplicate_of").is_null())
        space = (pl.col("row_id") // (1 << 40)).alias("space")
        waves = tables.get("waves", pl.DataFrame(schema=_WAVES)).select(space, "wave")
        judged = batch.select("row_id", space).join(
            verdicts, on="row_id", how="left", maintain_order="left").join(
            waves, on="space", how="left", maintain_order="left")
        silent, found = pl.col("silent").fill_null(False), pl.col("duplicate_of").is_not_null()
        return judged.select(
            "row_id", "jaccard", "duplicate_of", "wave", passed=pl.when(~silent).then(~found), score=pl.col("jaccard"),
            reason_code=pl.when(silent).then(pl.lit("no_text")).when(found).then(pl.lit("duplicate")),
            reason=pl.when(silent).then(pl.lit(f"{params.text} is null: nothing to compare"))
            .when(found).then(pl.format("{} resembles that of the row {}, which stays: Jaccard {}",
                                        pl.lit(params.text), "duplicate_of", pl.col("jaccard").round(3))))


def _base_verdicts(gathered: Gathered, rows: Any) -> pl.DataFrame | None:
    """The verdicts on settled rows, None where there are none or a wave held other rows then."""
    if gathered.base is None:
        return None
    tables = {name: read() for name, read in gathered.base.items()}
    then = tables.get("waves", pl.DataFrame(schema=_WAVES))
    if not _count_waves(rows, rows.settled & (rows.waves >= 0)).equals(then):
        return None
    return tables.get("verdicts", pl.DataFrame(schema=_VERDICTS))


def _count_waves(rows: Any, which: Any) -> pl.DataFrame:
    """What each wave holds: the first id of its namespace (where ids lie, no content), rows, and a sum over keys."""
    import numpy as np

    step = np.uint64(0x9E3779B97F4A7C15)
    mixed = rows.keys[which, 0] ^ (rows.keys[which, 1] * step)
    mixed = (mixed ^ (mixed >> np.uint64(29))) * step
    held = pl.DataFrame({"row_id": rows.ids[which] >> 40 << 40, "wave": rows.waves[which], "keys": mixed})
    return held.group_by("row_id", "wave").agg(pl.len().cast(pl.Int64).alias("rows"), pl.col("keys").sum()).select(
        *_WAVES).cast(_WAVES).sort("wave", "row_id")


def _start(rows: Any, base: pl.DataFrame | None) -> Any:
    import numpy as np

    from factory.dedup.near.waves import Judged

    kept = rows.waves < 0
    if base is not None:
        kept |= rows.settled & ~np.isin(rows.ids, base["row_id"].to_numpy())
    return Judged(kept, np.full(rows.total, -1, np.int64), np.zeros(rows.total))


def _new_verdicts(rows: Any, judged: Any) -> pl.DataFrame:
    """The rows that go, of those judged now."""
    import numpy as np

    numbers = np.flatnonzero(judged.partner >= 0)
    return pl.DataFrame({
        "row_id": rows.ids[numbers], "row_key": _bytes(rows.keys[numbers]), "jaccard": judged.jaccard[numbers],
        "duplicate_of": [rows.hex_key(at) for at in judged.partner[numbers].tolist()]}, schema=_VERDICTS)


def _silent(rows: Any) -> pl.DataFrame:
    """The rows that have no text."""
    ids, keys = rows.silent
    found = pl.DataFrame({"row_id": ids, "row_key": _bytes(keys)}, schema={"row_id": pl.Int64, "row_key": pl.Binary})
    return found.with_columns(jaccard=pl.lit(None, pl.Float64), duplicate_of=pl.lit(None, pl.String)).select(*_VERDICTS)


def _bytes(keys: Any) -> list[bytes]:
    import numpy as np

    return [one.tobytes() for one in np.ascontiguousarray(keys, ">u8")]
