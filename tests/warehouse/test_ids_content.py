"""Row ids tell where a row was made and never collide; content hashes see rows and nothing else."""

from __future__ import annotations

import hashlib
import multiprocessing as mp
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warehouse import Warehouse, WarehouseError
from warehouse.content import EMPTY, ContentHash, hash_frame, hash_rows, row_keys
from warehouse.ids import (
    MAX_NAMESPACE,
    MAX_ROWS_PER_SHARD,
    MAX_SHARDS,
    claim_namespace,
    first_id,
    mint_ids,
    namespace_of,
    namespace_owner,
)
from warehouse.objectstore import LocalStore

VALUE = st.none() | st.text(max_size=8)


@given(st.integers(0, MAX_NAMESPACE), st.integers(0, MAX_SHARDS - 1), st.integers(0, MAX_ROWS_PER_SHARD - 1))
def test_an_id_holds_its_namespace_shard_and_ordinal(namespace: int, shard: int, ordinal: int) -> None:
    row_id = first_id(namespace, shard) + ordinal
    assert 0 <= row_id < 2**63
    assert namespace_of(row_id) == namespace
    assert (row_id >> 24) % MAX_SHARDS == shard
    assert row_id % MAX_ROWS_PER_SHARD == ordinal


def test_ids_never_run_over_into_the_next_shard() -> None:
    assert mint_ids(3, 2, 3).to_list() == [first_id(3, 2) + at for at in range(3)]
    assert mint_ids(3, 2, 0).len() == 0
    for namespace, shard, count in ((1, 0, MAX_ROWS_PER_SHARD + 1), (1, MAX_SHARDS, 1), (1, -1, 1)):
        with pytest.raises(WarehouseError):
            mint_ids(namespace, shard, count)


def _claim(root: str, count: int, out: mp.Queue[list[int]]) -> None:
    store = LocalStore(Path(root))
    out.put([claim_namespace(store, {"step": str(at)}) for at in range(count)])


def test_four_processes_claim_different_namespaces(tmp_path: Path) -> None:
    Warehouse(tmp_path, create=True)
    context = mp.get_context("spawn")
    queue: mp.Queue[list[int]] = context.Queue()
    workers = [context.Process(target=_claim, args=(str(tmp_path), 10, queue)) for _ in range(4)]
    for worker in workers:
        worker.start()
    claimed = sorted(number for _ in workers for number in queue.get(timeout=60))
    for worker in workers:
        worker.join()
    assert claimed == list(range(1, 41))
    assert namespace_owner(LocalStore(tmp_path), 1) is not None
    assert namespace_owner(LocalStore(tmp_path), 99) is None


@given(st.lists(st.tuples(VALUE, VALUE), max_size=8), st.integers(0, 8), st.randoms(use_true_random=False))
def test_a_content_hash_adds_up_in_any_order(
    rows: list[tuple[str | None, str | None]], cut: int, order: object
) -> None:
    def frame(some: list[tuple[str | None, str | None]]) -> pl.DataFrame:
        made = pl.DataFrame(some, schema={"a": pl.String, "b": pl.String}, orient="row")
        return made.with_columns(pl.Series("row_key", row_keys(made, ["a", "b"]), dtype=pl.Binary))

    whole = hash_frame(frame(rows))
    turned = order.sample(rows, len(rows))  # type: ignore[attr-defined]
    assert hash_frame(frame(turned[:cut])) + hash_frame(frame(turned[cut:])) == whole
    assert whole - hash_frame(frame(turned[:cut])) == hash_frame(frame(turned[cut:]))
    assert ContentHash.parse(str(whole)) == whole
    assert whole.rows == len(rows)


def test_equal_rows_do_not_cancel_out() -> None:
    assert hash_rows([b"a", b"a"]) != EMPTY
    assert len({hash_rows([b"a"] * times) for times in range(5)}) == 5


@given(st.tuples(VALUE, VALUE), st.tuples(VALUE, VALUE))
def test_different_rows_have_different_keys(
    one: tuple[str | None, str | None], other: tuple[str | None, str | None]
) -> None:
    keys = row_keys(pl.DataFrame([one, other], schema={"a": pl.String, "b": pl.String}, orient="row"), ["a", "b"])
    assert (keys[0] == keys[1]) == (one == other)


def test_a_key_depends_on_values_names_and_parents_but_not_on_column_order() -> None:
    frame = pl.DataFrame({"a": ["x", "x"], "b": ["y", "y"]})
    key = row_keys(frame, ["a", "b"])[0]
    assert row_keys(frame, ["b", "a"]) == [key, key]
    assert row_keys(frame.rename({"a": "b", "b": "a"}), ["a", "b"])[0] != key
    assert len(set(row_keys(frame, ["a", "b"], [b"p", b"q"]))) == 2
    assert len(key) == 16
    assert row_keys(pl.DataFrame(schema={"a": pl.String}), ["a"]) == []


def test_values_of_every_type_are_told_apart() -> None:
    values: list[pl.Series] = [
        pl.Series([None], dtype=pl.String),
        pl.Series([""]),
        pl.Series(["1"]),
        pl.Series([1]),
        pl.Series([1.5]),
        pl.Series([True]),
        pl.Series([b"1"]),
        pl.Series([date(2024, 1, 1)]),
        pl.Series([["1"]]),
        pl.Series([[["1"]]]),
        pl.Series([{"a": "1"}]),
        pl.Series([{"a": None}], dtype=pl.Struct({"a": pl.String})),
        pl.Series([[]], dtype=pl.List(pl.String)),
        pl.Series(["null"]),
        pl.Series(["[]"]),
        pl.Series([float("nan")]),
    ]
    keys = [row_keys(pl.DataFrame({"v": value}), ["v"])[0] for value in values]
    assert len(set(keys)) == len(keys)


def test_row_keys_are_the_same_tomorrow() -> None:
    """Stored keys are compared with keys made by later versions, so the encoding is fixed."""
    frame = pl.DataFrame({"prompt": ["1 + 1"], "answer": ["2"], "tags": [["sum", None]], "level": [3], "none": [None]})
    spelt = 'answer=s1:2level=j1:3none=n;prompt=s5:1 + 1tags=j12:["sum",null]'
    assert row_keys(frame, frame.columns) == [hashlib.sha256(spelt.encode()).digest()[:16]]
    assert str(hash_rows([b"a", b"b"])).startswith("mset256:2:")
