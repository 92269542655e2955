"""The items of benchmarks as one table, however they came: files, Hub datasets and warehouse versions are all frames.

An item is one problem of a benchmark; each of its texts (`part`: prompt, solution, tests, …) is a document of its own.
The table has (benchmark, revision, item, part, text), without blank texts, sorted, each row once. A benchmark's
revision is the digest of its items, so it depends on what they say and never on how they were stored, batched, ordered
or numbered, and is the same in every warehouse.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import polars as pl
import xxhash

from factory.engine.errors import DataError

from .schemas import ITEMS

TEXTS = pl.Schema({"item": pl.String(), "part": pl.String(), "text": pl.String()})
REVISION_DIGITS = 12


def check_text(batch: pl.DataFrame, columns: Iterable[str], param: str) -> None:
    """Raises:
        DataError: a column holds something other than text.
    """
    for column in columns:
        if column in batch.columns and batch.schema[column] not in (pl.String, pl.Null):
            raise DataError(f"column {column!r} has type {batch.schema[column]}, decontamination compares text: name a "
                            f"text column in params.{param}")


def take_items(rows: pl.DataFrame, parts: Mapping[str, str], item: str | None = None) -> pl.DataFrame:
    """A benchmark's rows as (item, part, text).

    Args:
        parts: the column that holds each part, such as {"prompt": "question", "solution": "answer"}; a benchmark
            without such a column lacks that part.
        item: the column that names an item; without one, or where it is null, an item is named by its `row_key` in
            hexadecimal digits.

    Raises:
        DataError: a part is not text, or the benchmark has none of the parts.
    """
    check_text(rows, parts.values(), "items")
    there = {part: column for part, column in parts.items() if column in rows.columns}
    if not there:
        raise DataError(f"a benchmark has none of the columns {', '.join(map(repr, parts.values()))} (it has "
                        f"{', '.join(rows.columns)}): name its text columns in params.items")
    name = pl.col("row_key").bin.encode("hex")
    if item is not None and item in rows.columns:
        name = pl.coalesce(pl.col(item).cast(pl.String), name)
    frames = [rows.select(item=name, part=pl.lit(part), text=pl.col(column).cast(pl.String))
              for part, column in there.items()]
    return _spoken(pl.concat(frames)).cast(TEXTS)


def name_items(frames: Iterable[pl.DataFrame], benchmark: str) -> pl.DataFrame:
    """The (item, part, text) of one benchmark as `ITEMS`, with its revision."""
    texts = pl.concat([pl.DataFrame(schema=TEXTS), *frames])
    named = join_items([texts.select(benchmark=pl.lit(benchmark), revision=pl.lit(""), item="item", part="part",
                                     text="text")])
    revision = digest_items(named.with_columns(benchmark=pl.lit("")))[:REVISION_DIGITS]
    return named.with_columns(revision=pl.lit(revision))


def join_items(frames: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Several item tables as one, in the form the module describes."""
    joined = pl.concat([pl.DataFrame(schema=ITEMS), *frames])
    return _spoken(joined).unique().sort(ITEMS.names())


def _spoken(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.filter(pl.col("text").str.strip_chars().str.len_bytes() > 0)


def digest_items(items: pl.DataFrame) -> str:
    """32 hexadecimal digits over the table's content (128-bit xxh3 of lengths and texts)."""
    hasher = xxhash.xxh3_128()
    for row in items.select(ITEMS.names()).iter_rows():
        for value in row:
            raw = (value or "").encode()
            hasher.update(len(raw).to_bytes(8, "little") + raw)
    return hasher.hexdigest()
