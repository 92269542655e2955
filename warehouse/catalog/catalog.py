"""The catalog: one row for each version, part, input, checkpoint and run, kept up to date by reading the feed.

Derived and disposable: everything in it comes from the records, and deleting `catalog/` loses nothing. News is held in
memory until somebody asks in SQL or there is much of it; then it is written as segments (`warehouse.catalog.segments`).
A process that may not write there (a read-only disk, a full one) keeps its segments in a temporary folder.
"""

from __future__ import annotations

import contextlib
import errno
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import polars as pl

from warehouse import faults, layout
from warehouse.catalog import intake, records
from warehouse.catalog.segments import BRIEF, Shelf
from warehouse.catalog.state import KEY, LOCK, Gone, State, load
from warehouse.errors import NotInWarehouse, WarehouseError

if TYPE_CHECKING:
    from warehouse.store import Warehouse

T = TypeVar("T")
MOST_UNWRITTEN = 64
"""News that a process holds in memory before it writes segments."""
SORTED_BY = {"datasets": "sequence", "dataset_parts": "part_id", "checkpoints": "sequence"}
REPLACED = ("tags", "deleted", "heartbeats", "dataset_views")
"""Small tables that are written whole when they change."""
KEPT_SECONDS = 3600.0
"""How long a segment stays after it was replaced, for readers that still name it."""
_REFUSALS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT}


class Catalog:
    """The records of one warehouse as tables. `refresh()` reads what is new, `frame(name)` gives a table."""

    def __init__(self, warehouse: Warehouse):
        self.warehouse, self.store = warehouse, warehouse.store
        self.state = State()
        self._base: State | None = None  # what is stored, as this process last saw or wrote it
        self._loaded = self._inside = False
        self.news: records.Rows = defaultdict(list)
        self.unwritten = 0
        self._frames: dict[str, tuple[tuple[str, ...], pl.DataFrame]] = {}
        self._whole: dict[str, pl.DataFrame] = {}  # segments and news together, until either changes
        self._private: tempfile.TemporaryDirectory[str] | None = None

    def refresh(self) -> None:
        """Take in what was committed since the last time."""
        self.retrying(self._refresh)

    def _refresh(self) -> None:
        if not self._loaded:
            self._start_from(load(self.store))
            self._loaded = True
        intake.read_feed(self)
        if self.unwritten >= MOST_UNWRITTEN:
            self._keep(lambda: None, BRIEF)

    def retrying(self, work: Callable[[], T]) -> T:
        """The result of `work`; when a file of the catalog is gone, once more from what is stored now, or from the
        records. What a piece of work began is then undone, so nothing is taken in twice."""
        if self._inside:
            return work()
        self._inside = True
        try:
            try:
                return work()
            except Gone:
                self._recover()
                return work()
        finally:
            self._inside = False

    def _recover(self) -> None:
        stored = load(self.store)
        if stored is None or stored == self._base:
            self.forget()
        else:  # another process merged segments and has removed ours since
            self._start_from(stored)
            intake.read_feed(self)

    def _start_from(self, stored: State | None) -> None:
        self._base, self.state = stored, stored or State()
        self.news, self.unwritten = defaultdict(list), 0
        self._whole.clear()
        if stored is None:
            intake.read_everything(self)

    def forget(self) -> None:
        """Make the catalog anew from the records."""
        with contextlib.suppress(OSError, WarehouseError):
            self.store.delete(KEY)
        self._frames.clear()
        self._start_from(None)

    # -- tables ------------------------------------------------------------------------------------------------------

    def written(self, table: str) -> pl.DataFrame:
        """The rows of a table that stand in segments."""
        segments = self.state.segments.get(table, [])
        files = tuple(segment.file for segment in segments)
        known = self._frames.get(table)
        if known is None or known[0] != files:
            try:
                frames = [self.shelf.read(segment) for segment in segments]
            except (OSError, pl.exceptions.PolarsError) as error:
                raise Gone(table) from error
            known = self._frames[table] = files, pl.concat([records.frame(table, []), *frames], how="vertical_relaxed")
        return known[1]

    def frame(self, table: str) -> pl.DataFrame:
        """A table of records (columns: `warehouse.catalog.records.SCHEMAS`), as of the last refresh."""
        return self.retrying(lambda: self._frame(table))

    def _frame(self, table: str) -> pl.DataFrame:
        if table not in self._whole:
            written, news = self.written(table), self.news.get(table)
            self._whole[table] = pl.concat([written, records.frame(table, news)]) if news else written
        return self._whole[table]

    def rows_where(self, table: str, column: str, values: Iterable[Any]) -> pl.DataFrame:
        """The rows of a table whose `column` is one of `values`."""
        wanted = pl.Series(column, list(values), dtype=records.SCHEMAS[table][column])
        return self.frame(table).filter(pl.col(column).is_in(wanted.implode()))

    def live(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Of rows that name a version (`ref`), those of versions that were not deleted, in the same order."""
        gone = self.frame("deleted").filter(pl.col("kind") == "dataset")
        return rows.join(gone.select("ref"), on="ref", how="anti", maintain_order="left")

    @property
    def shelf(self) -> Shelf:
        """Where segments are written and read."""
        return Shelf(self.store, self.private)

    @property
    def private(self) -> Path | None:
        """The temporary folder with this process's own segments, where the warehouse cannot be written."""
        return Path(self._private.name) if self._private is not None else None

    # -- taking in ---------------------------------------------------------------------------------------------------

    def change(self, **fields: Any) -> None:
        """Change fields of the state."""
        self.state = self.state.model_copy(update=fields)

    def add(self, rows: records.Rows) -> None:
        """Rows that are new."""
        for table, listed in rows.items():
            self.news[table] += listed
            self._whole.pop(table, None)
        self.unwritten += bool(rows)

    def replace(self, table: str, rows: list[tuple[Any, ...]]) -> None:
        """A small table's rows, all of them."""
        if records.frame(table, rows).equals(self.frame(table)):
            return
        self.change(segments={name: listed for name, listed in self.state.segments.items() if name != table})
        self.news[table] = rows
        self._whole.pop(table, None)
        self.unwritten += 1

    # -- writing -----------------------------------------------------------------------------------------------------

    def keep(self, work: Callable[[], None], most: int = BRIEF) -> None:
        """Write the news as segments, do `work` (which may add segments), and store the state that names them all.

        One process does so at a time. Where the warehouse cannot be written, everything stays with this process.
        """
        self.retrying(lambda: self._keep(work, most))

    def _keep(self, work: Callable[[], None], most: int) -> None:
        if self._private is None:
            try:
                with self.store.lease(LOCK):
                    self._catch_up()
                    self.write_news(most)
                    work()
                    self._save()
                return
            except (OSError, WarehouseError) as error:
                if not _unwritable(error):
                    raise
                self._private = tempfile.TemporaryDirectory(prefix="warehouse-catalog-")
        self.write_news(most)
        work()

    def _save(self) -> None:
        """Store the state; then remove segments that were replaced long enough ago for their last reader."""
        before, now_named = self._base, _files(self.state)
        if self.state == before:
            return
        self.store.replace(KEY, self.state.to_json())
        self._base = self.state
        faults.point("catalog.state")
        for file in _files(before) - now_named if before is not None else ():
            with contextlib.suppress(NotInWarehouse):
                self.store.touch(file)  # its age counts from here
        for key in list(self.store.keys(layout.CATALOG)):
            if key.endswith(".parquet") and key not in now_named:
                with contextlib.suppress(NotInWarehouse):
                    if self.store.age(key) > KEPT_SECONDS:
                        self.store.delete(key)

    def _catch_up(self) -> None:
        """Go on from what another process has written meanwhile."""
        stored = load(self.store)
        if stored == self._base:
            return
        self._start_from(stored)
        intake.read_feed(self)
        intake.read_moving(self)

    def write_news(self, most: int) -> None:
        shelf, segments = self.shelf, dict(self.state.segments)
        for table, rows in self.news.items():
            if table in REPLACED:
                segments[table] = [shelf.write(table, records.frame(table, rows))] if rows else []
            else:
                segments[table] = shelf.add(table, segments.get(table, []), records.frame(table, rows),
                                            SORTED_BY.get(table), most)
        self.change(segments=segments)
        self.news, self.unwritten = defaultdict(list), 0
        self._whole.clear()
        faults.point("catalog.segments")


def _files(state: State) -> set[str]:
    return {segment.file for segment in state.all_segments()}


def _unwritable(error: BaseException) -> bool:
    """Whether a disk refuses to be written: no right, read-only, full."""
    at: BaseException | None = error
    while at is not None:
        if isinstance(at, OSError) and at.errno in _REFUSALS:
            return True
        at = at.__cause__ or at.__context__
    return False
