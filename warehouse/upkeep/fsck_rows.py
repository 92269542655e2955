"""The third pass: what versions say of rows, one version at a time.

Every id once; every edge from a row of the version to a row that led to it; every refusal, failure and score about a
row that was there to be judged; every choice among the rows it was made from; and the content hash made again from row
keys. Hashes of tables, reports, gates, receipts and checkpoints are not made again: they hold what is no longer there
(ids turned into keys, repr of a result), and their parts are vouched for by sha256.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING

import polars as pl

from warehouse import layout
from warehouse.content import EMPTY, ContentHash, hash_frame, hash_rows
from warehouse.dataset import unpack_schema
from warehouse.errors import DamagedPart
from warehouse.ids import ORDINAL_BITS, SHARD_BITS
from warehouse.parts import read_part, scan_parts
from warehouse.records import NOT_CONTENT, Manifest, Part
from warehouse.upkeep.fsck_records import AGAIN, Inventory
from warehouse.upkeep.reachable import parts_in

if TYPE_CHECKING:
    from warehouse.objectstore import Store
    from warehouse.upkeep.fsck import Findings

_ID: dict[str, pl.DataType] = {"row_id": pl.Int64()}
_EDGE: dict[str, pl.DataType] = {"child_row_id": pl.Int64(), "parent_row_id": pl.Int64()}
_KEYED: dict[str, pl.DataType] = {"row_id": pl.Int64(), "row_key": pl.Binary()}

BATCH_ROWS = 1 << 20
"""Narrow rows that are looked at together: many small parts cost one look, a large one stays bounded."""


def check_rows(store: Store, inventory: Inventory, good: set[str], findings: Findings) -> None:
    """Check the rows of every version whose parts must be there; versions with damaged parts are noted and passed."""
    checker = _Rows(store, inventory, findings)
    kept = [(key, found) for key, found in inventory.manifests.items() if found.ref in inventory.kept]
    passed_by: dict[str, list[str]] = {}
    for done, (key, manifest) in enumerate(kept):
        findings.step("versions", done, len(kept))
        family = [manifest, *(inventory.refs[ref] for ref in inventory.closure(manifest.ref))]
        bad = [part.path for found in family for part in parts_in(found) if part.path not in good]
        if bad:
            passed_by.setdefault(bad[0], []).append(manifest.ref)
            continue
        try:
            checker.check(key, manifest, family[1:])
        except (DamagedPart, pl.exceptions.PolarsError, OSError, ValueError, KeyError) as error:
            findings.hurt("rows", manifest.ref, key, expected="rows that can be read",
                          found=f"{type(error).__name__}: {error}", next_act=AGAIN)
    for path, refs in passed_by.items():
        findings.note("rows", f"the rows of {len(refs)} versions were not checked, because {path} is damaged")
    if checker.unhashed:
        findings.note("content", f"{checker.unhashed} content hashes were not made again: of tables, reports, gates, "
                                 "receipts, checkpoints, or of rows without a key")


class _Rows:
    def __init__(self, store: Store, inventory: Inventory, findings: Findings):
        self.store, self.inventory, self.findings = store, inventory, findings
        self.unhashed = 0
        self._hashes: dict[tuple[str, ...], ContentHash] = {}

    def check(self, key: str, manifest: Manifest, led: list[Manifest]) -> None:
        """`led` are the versions that led to this one."""
        self.key, self.manifest = key, manifest
        self.above = _distinct(part for found in led for part in found.tables.get("rows", []))
        self.gone = self._ids("superseded")
        tables = manifest.tables
        if manifest.kind == "rows":
            self._own_rows()
            self._edges()
        elif manifest.kind in ("selection", "scores"):
            self._chosen(manifest.kind)
        for table in ("rejections", "failures"):
            if tables.get(table):
                self._refusals(table)
        self._counts()
        self._content()
        self.findings.checked["rows"] += manifest.row_count

    def _hurt(self, kind: str, table: str, expected: str, found: object) -> None:
        self.findings.hurt(kind, f"{self.manifest.ref}, table {table}", self.key, expected=expected, found=found,
                           next_act=AGAIN)

    def _ids(self, table: str) -> pl.Series:
        return self._column(self.manifest.tables.get(table, []))

    def _column(self, parts: list[Part]) -> pl.Series:
        return scan_parts(self.store, parts, _ID).select("row_id").collect()["row_id"]

    def _unknown(self, wanted: pl.Series, parts: list[Part]) -> pl.Series:
        """Ids that no row of these parts has."""
        asked = pl.DataFrame({"row_id": wanted.drop_nulls().unique()}, schema=_ID)
        there = scan_parts(self.store, overlapping(parts, asked["row_id"]), _ID)
        return asked.lazy().join(there, on="row_id", how="anti").collect()["row_id"]

    # -- rows and edges ----------------------------------------------------------------------------------------------

    def _own_rows(self) -> None:
        ids = self._ids("rows")
        twice = ids.len() - ids.n_unique()
        if twice:
            again = ids.filter(ids.is_duplicated()).unique()
            self._hurt("rows", "rows", "every row id once", f"{twice} again, such as {_some(again)}")
        used = (ids // (1 << (SHARD_BITS + ORDINAL_BITS))).unique().to_list()
        for number in sorted(set(used) - self.inventory.namespaces - {0}):  # nobody claims 0: its writer numbers rows
            self._hurt("rows", "rows", f"the owner of namespace {number} in {layout.namespace(number)}", "none")
        self.findings.checked["row ids"] += ids.len()
        stray = self._unknown(self.gone, self.manifest.tables.get("rows", []))
        if stray.len():
            self._hurt("rows", "superseded", "rows of this version", f"{stray.len()} others, such as {_some(stray)}")

    def _edges(self) -> None:
        own = self.manifest.tables.get("rows", [])
        for batch in _batches(self.manifest.tables.get("row_lineage", [])):
            edges = scan_parts(self.store, batch, _EDGE).collect()
            at = f"in {batch[0].path}" + (f" or the {len(batch) - 1} parts after it" if len(batch) > 1 else "")
            self.findings.checked["edges"] += edges.height
            loops = edges.filter(pl.col("child_row_id") == pl.col("parent_row_id"))
            if loops.height:
                self._hurt("edge", "row_lineage", "no row to be its own parent",
                           f"{loops.height}, such as {_some(loops['child_row_id'])} {at}")
            strays = self._unknown(edges["child_row_id"], own)
            if strays.len():
                self._hurt("edge", "row_lineage", "children that are rows of this version",
                           f"{strays.len()} others, such as {_some(strays)} {at}")
            standing = edges.join(self.gone.to_frame("child_row_id"), on="child_row_id", how="anti")
            nowhere = standing["parent_row_id"].null_count()
            lost = self._unknown(standing["parent_row_id"], self.above)
            if lost.len() or nowhere:
                self._hurt("edge", "row_lineage", "parents that are rows of what led to this version",
                           f"{lost.len() + nowhere} others, such as {_some(lost)} {at}")

    # -- choices and judgements --------------------------------------------------------------------------------------

    def _chosen(self, table: str) -> None:
        """A selection chooses among the rows it was given, scores measure them, each at most once."""
        ids = self._ids(table)
        twice = ids.len() - ids.n_unique()
        if twice:
            self._hurt("choice", table, "every row at most once", f"{twice} again")
        self.findings.checked["choices"] += ids.len()
        count = self.manifest.facts.get("from_inputs", 1) if table == "selection" else 1
        offered = [self.inventory.refs[item.ref] for item in self.manifest.inputs[:count]]
        if not offered or any(found.kind not in ("rows", "selection") for found in offered):
            return
        left = ids
        for found in offered:
            left = left.filter(~left.is_in(self._offered(found, left).implode()))
        if left.len():
            self._hurt("choice", table, f"rows of {', '.join(found.ref for found in offered)}",
                       f"{left.len()} others, such as {_some(left)}")

    def _offered(self, found: Manifest, wanted: pl.Series) -> pl.Series:
        """Those of the wanted ids that a version offers."""
        parts = found.tables.get("rows" if found.kind == "rows" else "selection", [])
        there = self._column(overlapping(parts, wanted))
        gone = self._column(found.tables.get("superseded", []))
        return there.filter(~there.is_in(gone.implode())) if gone.len() else there

    def _refusals(self, table: str) -> None:
        """Refused rows are rows that were there; a source refuses what never became a row, under an id of its own."""
        if not self.manifest.inputs:
            return
        schema = _ID | ({"kept_row_id": pl.Int64()} if table == "rejections" else {})
        for batch in _batches(self.manifest.tables[table]):
            frame = scan_parts(self.store, batch, schema).collect()
            for name in schema:
                lost = self._unknown(frame[name], self.above)
                if lost.len():
                    self._hurt("refusal", table, f"a {name} that is a row of what led to this version",
                               f"{lost.len()} others, such as {_some(lost)}")

    def _counts(self) -> None:
        """What the manifest counts is what its tables hold."""
        counts, tables = self.manifest.counts, self.manifest.tables
        failed = sum(part.rows for part in tables.get("failures", []))
        if failed != counts.failed:
            self._hurt("counts", "failures", f"{counts.failed} rows, as counted", failed)
        refused = scan_parts(self.store, tables.get("rejections", []), {"primary": pl.Boolean()})
        primary = int(refused.select(pl.col("primary").sum()).collect().item() or 0)
        if primary != counts.rejected:
            self._hurt("counts", "rejections", f"{counts.rejected} primary reasons, as counted", primary)
        if self.manifest.kind == "selection" and sum(part.rows for part in tables.get("selection", [])) != counts.kept:
            self._hurt("counts", "selection", f"{counts.kept} rows, as counted", self.manifest.row_count)

    # -- content -----------------------------------------------------------------------------------------------------

    def _content(self) -> None:
        found = self._hash()
        if found is None:
            self.unhashed += 1
            return
        self.findings.checked["content hashes"] += 1
        if str(found) != self.manifest.content_hash:
            self._hurt("content", self.manifest.kind, f"content hash {self.manifest.content_hash}", found)

    def _hash(self) -> ContentHash | None:
        """The content hash made again, None when it cannot be."""
        manifest = self.manifest
        packed = manifest.schemas.get("rows")
        if manifest.kind == "rows":
            return self._hash_rows() if packed and "row_key" in unpack_schema(packed) else None
        others = set(manifest.tables) - {manifest.kind, *NOT_CONTENT}
        if manifest.kind not in ("selection", "scores") or others or not self.above:
            return None
        return sum((self._hash_judged(batch) for batch in _batches(manifest.tables.get(manifest.kind, []))), EMPTY)

    def _hash_judged(self, batch: list[Part]) -> ContentHash:
        """Scores or choices are hashed with the key of the row that they speak of."""
        total, frames = EMPTY, [read_part(self.store, part) for part in batch if part.rows]
        for columns, alike in groupby(frames, key=lambda frame: frame.columns):
            frame = pl.concat(alike, how="vertical_relaxed")
            rows = scan_parts(self.store, overlapping(self.above, frame["row_id"]), _KEYED)
            keyed = frame.lazy().join(rows.unique("row_id"), on="row_id", maintain_order="left").collect()
            total += hash_frame(keyed, columns=["weight"] if self.manifest.kind == "selection"
                                else [name for name in columns if name != "row_id"])
        return total

    def _hash_rows(self) -> ContentHash:
        total = EMPTY
        for batch in _batches(self.manifest.tables.get("rows", [])):
            names = tuple(part.sha256 for part in batch)  # versions share parts, and mostly the first ones
            if names not in self._hashes:
                keys = scan_parts(self.store, batch, _KEYED).select("row_key").collect()["row_key"]
                self._hashes[names] = _hash_keys(keys)
            total += self._hashes[names]
        if self.gone.len():
            parts = overlapping(self.manifest.tables.get("rows", []), self.gone)
            rows = scan_parts(self.store, parts, _KEYED).join(self.gone.to_frame().lazy(), on="row_id", how="semi")
            total -= _hash_keys(rows.collect()["row_key"])
        return total


def _batches(parts: list[Part]) -> Iterator[list[Part]]:
    """Parts in order, so many that their rows fit a look."""
    batch: list[Part] = []
    rows = 0
    for part in parts:
        if batch and rows + part.rows > BATCH_ROWS:
            yield batch
            batch, rows = [], 0
        batch.append(part)
        rows += part.rows
    if batch:
        yield batch


def overlapping(parts: list[Part], wanted: pl.Series) -> list[Part]:
    """The parts whose id range holds one of the ids; all parts are compared at once."""
    ids = wanted.drop_nulls().unique().sort().to_numpy()
    bounded = [part for part in parts if part.rows and part.min_row_id is not None]
    if not bounded or not len(ids):
        return []
    first = ids.searchsorted([part.min_row_id or 0 for part in bounded])  # the first id that a part could hold
    return [part for part, at in zip(bounded, first.tolist(), strict=True)
            if at < len(ids) and part.max_row_id is not None and ids[at] <= part.max_row_id]


def _distinct(parts: Iterable[Part]) -> list[Part]:
    return list({part.path: part for part in parts}.values())


def _some(ids: pl.Series) -> str:
    return ", ".join(str(each) for each in ids.head(3).to_list())


def _hash_keys(keys: pl.Series) -> ContentHash:
    """The hash of a column of row keys. Raises ValueError when a row has none."""
    if keys.null_count():
        raise ValueError(f"{keys.null_count()} rows have no row_key")
    return hash_rows(keys.to_list())
