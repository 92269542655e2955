"""Which journals may go: those whose every answer also stands in committed rows.

A journal holds answers that were paid for. Once they stand in rows of a version that lives, with their key, the way
they ended and their length, the journal says nothing that the rows do not. An answer that no version took stays in its
journal for as long as the warehouse lasts, unless every version of its family was deleted.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import polars as pl

from warehouse import layout
from warehouse.dataset import unpack_schema
from warehouse.errors import NotInWarehouse
from warehouse.journal import Segment
from warehouse.objectstore.local import LocalStore
from warehouse.parts import read_part
from warehouse.records import Manifest

if TYPE_CHECKING:
    from warehouse.objectstore import Store
    from warehouse.upkeep.reachable import Ages, Needs, Survey

_ANSWER = {"answer_key": pl.Binary(), "finish_reason": pl.String(), "tokens_out": pl.Int64()}
_LINES = 500_000  # of a journal, compared with the rows at a time: some 100 bytes each


def settled_journals(survey: Survey, needs: Needs, ages: Ages, retention: float) -> tuple[list[str], dict[str, int]]:
    """(journals that nothing needs, why how many others stay). Only those older than `retention` are read."""
    store = survey.store
    families: dict[str, list[str]] = {}
    young = 0
    for key in survey.journals:
        if ages.reached(key, retention):
            families.setdefault(key.split("/")[1], []).append(key)
        else:
            young += 1
    kept = {"journals younger than the retention": young} if young else {}
    settled: list[str] = []
    for family, keys in sorted(families.items()):
        members = [(key, found) for key, found in survey.manifests.items() if found.family == family]
        living = [found for _, found in members if found.ref in needs.kept]
        if members and not living:
            buried = all(ages.reached(layout.tombstone(key), retention) for key, _ in members)
            done = keys if buried and needs.running_since is None else []
        else:
            done = _answered(store, keys, living)
        settled += done
        if len(done) < len(keys):
            reason = "journals with answers that no live version holds"
            kept[reason] = kept.get(reason, 0) + len(keys) - len(done)
    return settled, kept


def _answered(store: Store, keys: list[str], living: list[Manifest]) -> list[str]:
    committed = _committed(store, living)
    return [key for key in keys if _stands_in(store, key, committed)]


def _stands_in(store: Store, key: str, committed: pl.DataFrame) -> bool:
    """Whether every answer of a journal is among the committed ones. A line that says nothing, torn or damaged by a
    crash, holds no answer; since that costs a look at its text, it is asked only of lines that nobody has committed."""
    try:
        source = store.path(key) if isinstance(store, LocalStore) else store.get(key)
    except NotInWarehouse:
        return True
    with closing(Segment(source)) as segment:
        frames: list[pl.DataFrame] = []
        for frame in segment.endings():
            frames.append(frame)
            if sum(map(len, frames)) >= _LINES:
                if _has_more(segment, pl.concat(frames), committed):
                    return False
                frames = []
        return not frames or not _has_more(segment, pl.concat(frames), committed)


def _has_more(segment: Segment, told: pl.DataFrame, committed: pl.DataFrame) -> bool:
    left = told.join(committed, on=list(_ANSWER), how="anti")
    return any(segment.sound(start) for start in left["start"])


def _committed(store: Store, living: list[Manifest]) -> pl.DataFrame:
    """Keys, endings and lengths of the answers that a run would find in these versions."""
    frames, seen = [pl.DataFrame(schema=_ANSWER)], set[str]()
    for found in living:
        packed = found.schemas.get("rows")
        if found.kind != "rows" or packed is None or not {*_ANSWER, "response"} <= set(unpack_schema(packed)):
            continue
        gone = [read_part(store, part)["row_id"] for part in found.tables.get("superseded", [])]
        for part in found.tables.get("rows", []):
            if part.sha256 not in seen and part.rows:
                seen.add(part.sha256)
                rows = read_part(store, part, ["row_id", *_ANSWER])
                if gone:
                    rows = rows.filter(~pl.col("row_id").is_in(pl.concat(gone).implode()))
                frames.append(rows.select(pl.col(name).cast(dtype) for name, dtype in _ANSWER.items()))
    return pl.concat(frames).unique()
