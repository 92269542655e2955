"""Asking in SQL: a DuckDB connection that reads the warehouse's files and nothing else.

`open_catalog` brings the catalog up to date (news, compacted tables, `views.sql`); nothing is written when nothing
changed. Views of datasets are made when a query names them, because making a view opens files.
"""

from __future__ import annotations

import hashlib
import json
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import polars as pl

from warehouse import faults, layout
from warehouse.catalog import intake, views
from warehouse.catalog.compact import compact, mended
from warehouse.catalog.segments import BRIEF, FULL
from warehouse.catalog.state import TABLES
from warehouse.errors import BadQuery, DamagedPart, NotInWarehouse, WarehouseError

if TYPE_CHECKING:
    import duckdb

    from warehouse.catalog.catalog import Catalog
    from warehouse.store import Warehouse

_VERSIONED = re.compile(r'"([^"@]+)@([^"@]+)"')
_EXPLAIN = re.compile(r"\s*EXPLAIN\s+(?!ANALYZE\b|\()", re.IGNORECASE)
_WRITING = re.compile(r'"type":"(INSERT|UPDATE|DELETE|MERGE)[A-Z_]*NODE"')


def open_catalog(catalog: Catalog, most: int = BRIEF) -> None:
    """Bring everything that SQL reads up to date. `most` bounds the merges of segments."""
    catalog.refresh()
    intake.read_moving(catalog)
    again = mended(catalog)  # first: reading may find that the catalog has to be made anew
    state = catalog.state
    news = catalog.unwritten or state.compacted < state.next_part or state.views != _digest(catalog)
    if news or again or (catalog.private is None and not catalog.store.size(layout.VIEWS_SQL)):
        catalog.keep(lambda: _bring_up(catalog, most), most)


def tidy(warehouse: Warehouse) -> None:
    """Bring the catalog up to date with every merge that is due; for the end of a run."""
    open_catalog(warehouse.catalog, FULL * 4)


def _digest(catalog: Catalog) -> str:
    """Names what the views are made from."""
    files = [segment.file for segment in catalog.state.all_segments()]
    return f"{TABLES}:{hashlib.sha256(' '.join(files).encode()).hexdigest()[:32]}"


def _bring_up(catalog: Catalog, most: int) -> None:
    compact(catalog, most)
    queries = views.dataset_views(catalog)
    catalog.write_news(most)
    catalog.change(views=_digest(catalog))
    if catalog.private is None:
        made = [views.create_view(name, query) for name, query in sorted(queries.items())]
        script = views.fixed(catalog) + "\n" + "\n".join(made) + "\n"
        local = catalog.store.storage_options is None
        catalog.store.replace(layout.VIEWS_SQL, (script if local else _absolute(catalog, script)).encode())
        faults.point("catalog.views")


class Connection:
    """One DuckDB connection over one state of the catalog; `names` are the dataset views that it has (name -> ref)."""

    def __init__(self, catalog: Catalog, names: dict[str, str]):
        import duckdb

        self.catalog, self.views, self.names = catalog, catalog.state.views, names
        self.made: dict[str, str] = {}
        self.duckdb: duckdb.DuckDBPyConnection = duckdb.connect(":memory:")
        self.duckdb.execute("SET python_enable_replacements=false")  # a query names views, never variables of ours
        store = catalog.store
        folders = [store.url("")] + ([f"{catalog.private}/"] if catalog.private else [])
        filesystem = store.duckdb_filesystem()
        if filesystem is not None:
            self.duckdb.register_filesystem(filesystem)
        listed = ", ".join("'" + folder.replace("'", "''") + "'" for folder in folders)
        self.duckdb.execute(f"SET allowed_directories=[{listed}]")
        self.duckdb.execute(_absolute(catalog, views.fixed(catalog)))
        self.duckdb.execute("SET enable_external_access=false")
        self.duckdb.execute("SET lock_configuration=true")

    def run(self, query: str, parameters: list[Any] | None = None) -> pl.DataFrame:
        """The answer to one reading statement.

        Raises:
            BadQuery: DuckDB does not understand it, or it is not one SELECT. NotInWarehouse: an unknown version.
            DamagedPart: a dataset that it reads is damaged.
        """
        import duckdb

        unknown = self._make_views(query)
        try:
            self._refuse_writing(query)
            return _frame(self.duckdb.sql(query, params=parameters or None))
        except duckdb.Error as error:
            for ref, reason in unknown.items():
                if ref in str(error):
                    raise reason from None
            wording = isinstance(error, duckdb.ParserException | duckdb.BinderException | duckdb.CatalogException)
            raise BadQuery(f"SQL: {error}{self._meant(str(error))}") from (None if wording else error)

    def _refuse_writing(self, query: str) -> None:
        """One statement that only reads. EXPLAIN ANALYZE runs what it explains, a WITH may hold an INSERT, and the
        connection may write where it may read: so the statement itself must be a SELECT through and through."""
        statements = self.duckdb.extract_statements(query)
        if len(statements) != 1:
            raise BadQuery(f"give one SQL statement at a time ({len(statements)} were given)")
        asked = _EXPLAIN.sub("", query, count=1)
        told = self.duckdb.execute("SELECT json_serialize_sql(?)", [asked]).fetchall()[0][0]
        if json.loads(told)["error"] or _WRITING.search(told):
            raise BadQuery(f"{statements[0].type.name} is refused: the warehouse is read-only here; use SELECT")

    def _meant(self, message: str) -> str:
        """A suggestion for a dataset that does not exist: DuckDB knows only the views a query has named."""
        import difflib

        missing = re.search(r"Table with name (.+?) does not exist", message)
        names = difflib.get_close_matches(missing[1], list(self.names), n=3) if missing else []
        return f"\nDatasets with such a name: {', '.join(views.quote(name) for name in names)}" if names else ""

    def _make_views(self, query: str) -> dict[str, WarehouseError]:
        """Make the views that a query names; what does not exist or cannot be read comes back with the reason (the name
        may be mere text)."""
        import duckdb

        warehouse, unknown = self.catalog.warehouse, dict[str, WarehouseError]()
        lowered = query.lower()
        named = {name: ref for name, ref in self.names.items() if name.lower() in lowered}
        for name, version in set(_VERSIONED.findall(query)):
            try:
                named[f"{name}@{version}"] = warehouse.manifest(f"{name}@{version}").ref
            except NotInWarehouse as error:
                unknown[f"{name}@{version}"] = error
        for name, ref in named.items():
            if self.made.get(name) == ref:
                continue
            select = views.dataset_sql(warehouse.any_dataset(ref))
            try:
                if select:
                    self.duckdb.execute(_absolute(self.catalog, views.create_view(name, select)))
            except duckdb.Error as error:  # told only if the query fails for it
                unknown[name] = DamagedPart(f"{ref} cannot be read ({error}): `factory fsck` names what is damaged")
                continue
            self.made[name] = ref
        return unknown


def _frame(answer: duckdb.DuckDBPyRelation) -> pl.DataFrame:
    """An answer as polars has it: intervals become durations (in microseconds), and sums of integers, which DuckDB
    widens to 128 bits, integers again where they fit."""
    kinds = dict(zip(answer.columns, map(str, answer.types), strict=True))
    if len(kinds) < len(answer.columns):
        raise BadQuery("two columns of the answer have the same name: name them apart with AS")
    if "INTERVAL" in kinds.values():
        answer = answer.project(", ".join(
            f"epoch_us({views.quote(name)}) AS {views.quote(name)}" if kind == "INTERVAL" else views.quote(name)
            for name, kind in kinds.items()))
    frame = pl.from_arrow(answer.to_arrow_table())
    assert isinstance(frame, pl.DataFrame)
    wide = [pl.col(name).cast(pl.Int64) for name, kind in kinds.items()
            if kind in ("HUGEINT", "UHUGEINT") and _fits(frame[name])]
    spans = [pl.col(name).cast(pl.Duration("us")) for name, kind in kinds.items() if kind == "INTERVAL"]
    return frame.with_columns(wide + spans)


def _fits(column: pl.Series) -> bool:
    low, high = column.min(), column.max()
    return not isinstance(low, Decimal) or not isinstance(high, Decimal) or (low >= -(1 << 63) and high < 1 << 63)


def _absolute(catalog: Catalog, script: str) -> str:
    """The script with absolute paths: a connection that may read one folder only knows it by its full name."""
    root = catalog.store.url("").rstrip("/").replace("'", "''")
    return script.replace("'parts/", f"'{root}/parts/").replace("'catalog/", f"'{root}/catalog/")


def connection(warehouse: Warehouse) -> Connection:
    """The warehouse's connection, made anew when something was committed since."""
    catalog = warehouse.catalog
    open_catalog(catalog)
    known = warehouse.open_connection
    if known is not None and known.views == catalog.state.views:
        return known
    names = views.wanted_views(catalog)
    if catalog.unwritten:  # looking them up found files missing and made the catalog anew
        open_catalog(catalog)
    warehouse.open_connection = Connection(catalog, names)
    return warehouse.open_connection


def ask(warehouse: Warehouse, query: str, parameters: list[Any] | None = None) -> pl.DataFrame:
    """The answer to one reading statement, from the newest catalog. Raises as `Connection.run`."""
    import duckdb

    try:
        return connection(warehouse).run(query, parameters)
    except (BadQuery, duckdb.Error) as error:
        if isinstance(error, BadQuery) and not isinstance(error.__cause__, OSError | duckdb.Error):
            raise
        if warehouse.catalog.shelf.sound(warehouse.catalog.state.all_segments()):
            raise
        warehouse.catalog.forget()  # files of the catalog are gone or damaged: it is made anew, once
        warehouse.open_connection = None
        return connection(warehouse).run(query, parameters)
