"""Which of several rows is preferred, decided by content: never by row id, order or chance."""

from __future__ import annotations

import hashlib

import polars as pl

from factory.engine.errors import OpError

PREFERENCES = ("shortest", "longest", "random")


def rank_rows(rows: pl.DataFrame, prefer: str, seed: int) -> pl.DataFrame:
    """Rows from most to least preferred: `shortest` and `longest` by `_length`, `random` by a seeded hash of the
    content.

    Ties go by row_key, then answer_key; equal rows after that are equal in content, and the smaller id stands for them.
    """
    if prefer not in PREFERENCES:
        raise OpError(f"prefer: {prefer!r} is unknown; use one of {', '.join(PREFERENCES)}")
    ties = [name for name in ("row_key", "answer_key", "row_id") if name in rows.columns]
    if prefer == "random":
        salt = str(seed).encode()
        draw = [hashlib.sha256(salt + key).digest()[:8] for key in rows["row_key"].to_list()]
        return rows.with_columns(pl.Series("_draw", draw, dtype=pl.Binary)).sort("_draw", *ties).drop("_draw")
    if "_length" in rows.columns:
        return rows.sort("_length", *ties, descending=[prefer == "longest", *(False for _ in ties)], nulls_last=True)
    return rows.sort(ties)
