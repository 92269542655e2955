"""Reading a version: its own columns and its ancestors', through selections and superseded rows, lazily or by id.

The datasets are small but whole: problems -> samples (two for each) -> notes (one for each sample), selections of
samples, and a later version of samples in which one row was redone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from warehouse import Dataset, Warehouse
from warehouse.content import EMPTY
from warehouse.dataset import pack_schema, unpack_schema
from warehouse.ids import first_id
from warehouse.parts import write_part
from warehouse.records import Counts, InputRef, Manifest

NESTED = [{"role": "user", "content": "hi"}]


class World:
    """Commits datasets of the test's making."""

    def __init__(self, root: Path | str):
        self.warehouse = Warehouse(root, create=True)

    def commit(self, name: str, kind: str, tables: dict[str, list[pl.DataFrame]], inputs: list[str] | None = None,
               **facts: Any) -> Dataset:
        pinned = [self.warehouse.manifest(ref) for ref in inputs or []]
        parts = {
            table: [write_part(self.warehouse.store, frame) for frame in frames] for table, frames in tables.items()
        }
        manifest = self.warehouse.commit(
            Manifest(
                dataset=name,
                version=0,
                commit_id="",
                kind=kind,
                op="test.op",
                op_version=1,
                recipe="t",
                step=name,
                run_id="",
                fingerprint=repr((name, inputs, facts)),
                family=name,
                identity={},
                work_key="k",
                content_hash=str(EMPTY),
                row_count=0,
                bytes=0,
                columns={},
                schemas={table: pack_schema(frames[-1]) for table, frames in tables.items()},
                tables=parts,
                inputs=[
                    InputRef(
                        dataset=one.dataset,
                        version=one.version,
                        role="from",
                        content_hash=one.content_hash,
                        parts_digest=one.parts_digest,
                        fingerprint=one.fingerprint,
                    )
                    for one in pinned
                ],
                counts=Counts(),
                facts={"from_inputs": len(pinned), **facts},
            )
        )
        return self.warehouse.dataset(manifest.ref)

    def children(self, name: str, of: str, namespace: int, shards: list[list[tuple[int, str]]], column: str,
                 **tables: list[pl.DataFrame]) -> Dataset:
        """A dataset of rows, each with an edge to its parent: [(parent id, value)] by shard."""
        rows, edges = [], []
        for shard, made in enumerate(shards):
            ids = [first_id(namespace, shard) + at for at in range(len(made))]
            rows.append(rows_of(ids, **{column: [value for _, value in made]}))
            edges.append(pl.DataFrame({"child_row_id": ids, "parent_row_id": [parent for parent, _ in made]},
                                      schema={"child_row_id": pl.Int64, "parent_row_id": pl.Int64}))
        return self.commit(name, "rows", {"rows": rows, "row_lineage": edges, **tables}, [of], inherits=True)


def rows_of(ids: list[int], **columns: list[Any]) -> pl.DataFrame:
    return pl.DataFrame({"row_id": pl.Series(ids, dtype=pl.Int64),
                         "row_key": [f"key {row_id}".encode().rjust(16) for row_id in ids], **columns})


P = [first_id(1, 0) + at for at in range(3)]
S = [first_id(2, 0), first_id(2, 0) + 1, first_id(2, 1), first_id(2, 1) + 1]
N = [first_id(3, 0) + at for at in range(4)]


@pytest.fixture(scope="module")
def world(new_root: Callable[[], Path | str]) -> World:
    made = World(new_root())
    made.commit("problems", "rows", {"rows": [rows_of(P, prompt=["p0", "p1", "p2"], answer=["a0", None, "a2"],
                                                      messages=[NESTED, [], None])]})
    made.children("samples", "problems", 2, [[(P[0], "s0"), (P[0], "s1")], [(P[1], "s2"), (P[2], "s3")]], "response")
    made.children("notes", "samples", 3, [[(S[0], "n0"), (S[1], "n1"), (S[2], "n2"), (S[3], "n3")]], "note")
    made.commit(
        "chosen", "selection", {"selection": [pl.DataFrame({"row_id": [S[1], S[2]], "weight": [1, 1]})]}, ["samples"]
    )
    made.commit(
        "heavy",
        "selection",
        {"selection": [pl.DataFrame({"row_id": [S[3]], "weight": [2]})]},
        ["samples"],
        weighted=True,
    )
    made.commit("inner", "selection", {"selection": [pl.DataFrame({"row_id": [S[2]], "weight": [1]})]}, ["chosen"])
    made.children("marks", "chosen", 4, [[(S[1], "m1"), (S[2], "m2")]], "mark")
    return made


def test_rows_carry_the_columns_of_every_ancestor(world: World) -> None:
    notes = world.warehouse.dataset("notes")
    rows = notes.scan().select("row_id", "note", "response", "prompt", "answer", "messages", "parent_row_id").collect()
    assert rows.rows() == [
        (N[0], "n0", "s0", "p0", "a0", NESTED, S[0]), (N[1], "n1", "s1", "p0", "a0", NESTED, S[1]),
        (N[2], "n2", "s2", "p1", None, [], S[2]), (N[3], "n3", "s3", "p2", "a2", None, S[3])]
    assert set(notes.all_columns) == {"row_id", "row_key", "note", "response", "prompt", "answer", "messages"}
    assert notes.scan(inherit=False).collect().columns == ["row_id", "row_key", "note"]
    assert notes.scan().collect()["row_key"].to_list() == notes.scan(inherit=False).collect()["row_key"].to_list()


def test_look_up_by_id_in_the_order_asked_for(world: World) -> None:
    notes = world.warehouse.dataset("notes")
    wanted = pl.Series([N[3], N[0], 77, N[3]])
    found = notes.lookup(wanted, ["prompt", "note", "response", "parent_row_id", "messages"])
    assert found.select("row_id", "prompt", "note", "response", "parent_row_id", "messages").rows() == [
        (N[3], "p2", "n3", "s3", S[3], None),
        (N[0], "p0", "n0", "s0", S[0], NESTED),
        (77, None, None, None, None, None),
        (N[3], "p2", "n3", "s3", S[3], None),
    ]
    assert notes.lookup(wanted[:0], ["note"]).height == 0


def test_look_up_agrees_with_scan(world: World) -> None:
    for name, columns in (("notes", ["note", "response", "prompt", "answer"]), ("samples", ["response", "prompt"]),
                          ("marks", ["mark", "response", "prompt"]), ("chosen", ["response", "prompt"]),
                          ("inner", ["response", "prompt"]), ("problems", ["prompt", "messages"])):
        dataset = world.warehouse.dataset(name)
        scanned = dataset.scan().select("row_id", *columns).collect()
        assert dataset.lookup(scanned["row_id"], columns).select(scanned.columns).equals(scanned)


def test_a_selection_reads_as_the_rows_it_chose(world: World) -> None:
    chosen = world.warehouse.dataset("chosen")
    assert chosen.scan().select("response", "prompt").collect().rows() == [("s1", "p0"), ("s2", "p1")]
    assert [content.ref for content in chosen.contents] == ["samples@1"]
    assert "weight" not in chosen.scan().collect().columns
    assert world.warehouse.dataset("heavy").scan().select("response", "weight").collect().rows() == [("s3", 2)]
    inner = world.warehouse.dataset("inner")
    assert inner.scan().select("response", "prompt").collect().rows() == [("s2", "p1")]
    assert [content.ref for content in inner.contents] == ["samples@1"]


def test_children_of_a_selection_find_their_ancestors(world: World) -> None:
    assert world.warehouse.dataset("marks").scan().select("mark", "response", "prompt").collect().rows() == [
        ("m1", "s1", "p0"), ("m2", "s2", "p1")]


def test_an_own_column_hides_the_ancestors(new_root: Callable[[], Path | str]) -> None:
    world = World(new_root())
    world.commit("a", "rows", {"rows": [rows_of(P, text=["x", "y", "z"], kept=["1", "2", "3"])]})
    world.children("b", "a", 2, [[(P[2], "own")]], "text")
    found = world.warehouse.dataset("b")
    assert found.scan().select("text", "kept").collect().rows() == [("own", "3")]
    assert found.lookup(pl.Series([S[0]]), ["kept", "text"]).select("text", "kept").rows() == [("own", "3")]


def test_superseded_rows_are_read_no_more_but_are_still_there(new_root: Callable[[], Path | str]) -> None:
    world = World(new_root())
    world.commit("problems", "rows", {"rows": [rows_of(P, prompt=["p0", "p1", "p2"])]})
    first = world.children("samples", "problems", 2, [[(P[0], "cut"), (P[1], "b")]], "response")
    edges = first.table("row_lineage").collect()
    fresh = rows_of([first_id(3, 0)], response=["whole"])
    edge = pl.DataFrame({"child_row_id": [first_id(3, 0)], "parent_row_id": [P[0]]})
    second = world.commit("samples", "rows", {
        "rows": [first.table("rows").collect(), fresh], "row_lineage": [edges, edge],
        "superseded": [pl.DataFrame({"row_id": [S[0]]})]}, ["problems"], inherits=True)
    assert second.scan().select("row_id", "response", "prompt").collect().rows() == [
        (S[1], "b", "p1"),
        (first_id(3, 0), "whole", "p0"),
    ]
    assert second.scan(inherit=False).collect().height == 2
    assert second.lookup(pl.Series([S[0]]), ["response", "prompt"]).row(0)[1:] == ("cut", "p0")
    assert world.warehouse.dataset("samples@1").scan().collect()["response"].to_list() == ["cut", "b"]


def test_a_column_that_came_later_is_null_in_older_parts(new_root: Callable[[], Path | str]) -> None:
    world = World(new_root())
    found = world.commit(
        "a", "rows", {"rows": [rows_of(P[:1], prompt=["x"]), rows_of(P[1:2], prompt=["y"], level=[3])]}
    )
    assert found.scan().select("prompt", "level").collect().rows() == [("x", None), ("y", 3)]
    assert found.lookup(pl.Series(P[:2]), ["level"])["level"].to_list() == [None, 3]


def test_two_sources_with_different_columns_read_as_one(new_root: Callable[[], Path | str]) -> None:
    world = World(new_root())
    world.commit("a", "rows", {"rows": [rows_of(P[:1], prompt=["x"], answer=["1"])]})
    world.commit("b", "rows", {"rows": [rows_of([S[0]], prompt=["y"], level=[3])]})
    mixed = world.commit(
        "mixed", "selection", {"selection": [pl.DataFrame({"row_id": [P[0], S[0]], "weight": [1, 1]})]}, ["a", "b"]
    )
    assert mixed.scan().select("prompt", "answer", "level").collect().rows() == [("x", "1", None), ("y", None, 3)]
    assert mixed.lookup(pl.Series([S[0], P[0]]), ["answer", "prompt", "level"]).select(
        "prompt", "answer", "level"
    ).rows() == [("y", None, 3), ("x", "1", None)]
    assert set(mixed.all_columns) == {"row_id", "row_key", "prompt", "answer", "level"}


def test_long_rows_come_back_whole(new_root: Callable[[], Path | str]) -> None:
    world = World(new_root())
    text = "長い" * 800_000
    world.commit("a", "rows", {"rows": [rows_of(P, prompt=[text, "short", "\x00"])]})
    world.children("b", "a", 2, [[(P[0], text[::-1])], [(P[1], ""), (P[2], "x")]], "response")
    assert world.warehouse.dataset("b").scan().select("prompt", "response").collect().row(0) == (text, text[::-1])
    assert world.warehouse.dataset("b").lookup(pl.Series([S[0]]), ["prompt"])["prompt"].to_list() == [text]


def test_an_empty_version_reads_like_any_other(new_root: Callable[[], Path | str]) -> None:
    world = World(new_root())
    empty = world.commit("a", "rows", {"rows": [rows_of(P, prompt=["x", "y", "z"])[:0]]})
    assert empty.scan().collect().schema["prompt"] == pl.String
    child = world.children("b", "a", 2, [[]], "response")
    assert child.scan().collect().height == 0
    none = world.commit(
        "none", "selection", {"selection": [pl.DataFrame(schema={"row_id": pl.Int64, "weight": pl.Int32})]}, ["a"]
    )
    assert none.scan().collect().height == 0
    assert none.lookup(pl.Series([1]), ["prompt"])["prompt"].to_list() == [None]


def test_a_schema_survives_its_packing() -> None:
    frame = pl.DataFrame(
        {
            "a": [1],
            "t": ["x"],
            "m": [NESTED],
            "b": [b"x"],
            "f": [1.5],
            "n": [None],
            "i": pl.Series([1], dtype=pl.Int32),
            "d": pl.Series([None], dtype=pl.Datetime("us", "UTC")),
        }
    )
    assert unpack_schema(pack_schema(frame)) == dict(frame.schema)
