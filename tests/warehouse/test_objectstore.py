"""What every store promises, asked of a local folder and of an S3 server with the same words."""

from __future__ import annotations

import io
import multiprocessing as mp
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from warehouse import NotInWarehouse, Warehouse, WarehouseError, layout
from warehouse.errors import DamagedPart
from warehouse.objectstore import CloudStore, LocalStore, Store, open_store, selftest
from warehouse.objectstore.cloud import MULTIPART_BYTES
from warehouse.parts import part_schema, read_part, scan_parts, write_part

PARQUET = pl.DataFrame({"row_id": [1, 2], "text": ["a", "b"]})


@pytest.fixture
def store(new_root: Callable[[], Path | str]) -> Store:
    return open_store(new_root())


def finished(store: Store, data: bytes, name: str = "scratch") -> Path:
    path = store.scratch() / name
    path.write_bytes(data)
    return path


def make_older(store: Store, key: str, seconds: float) -> None:
    """Only where a test can; elsewhere the key stays young, which is what the test asks for."""
    if isinstance(store, LocalStore):
        found = store.path(key).stat()
        os.utime(store.path(key), (found.st_atime, found.st_mtime - seconds))
        assert store.age(key) >= seconds


def test_a_key_is_created_once(store: Store) -> None:
    assert store.put_if_absent("a/b.json", b"one")
    assert not store.put_if_absent("a/b.json", b"two")
    assert not store.put_if_absent("a/b.json", b"one")
    assert store.get("a/b.json") == b"one"
    assert store.exists("a/b.json")
    assert store.size("a/b.json") == 3
    store.delete("a/b.json")
    assert not store.exists("a/b.json")
    store.delete("a/b.json")
    assert store.put_if_absent("a/b.json", b"")
    assert (store.get("a/b.json"), store.size("a/b.json")) == (b"", 0)
    selftest(store)


def test_what_does_not_exist_is_said_to(store: Store, tmp_path: Path) -> None:
    assert not store.exists("a/b")
    assert store.size("a/b") is None
    for ask in (store.get, store.age, store.touch, lambda key: store.fetch(key, tmp_path / "x")):
        with pytest.raises(NotInWarehouse, match="a/b"):
            ask("a/b")
    assert list(tmp_path.iterdir()) == []
    assert store.names("a") == []
    assert list(store.keys("a")) == []


def test_replacing_leaves_the_newest(store: Store) -> None:
    for data in (b"one", b"", b"three"):
        store.replace("refs/a/prod.json", data)
        assert store.get("refs/a/prod.json") == data
    assert not store.put_if_absent("refs/a/prod.json", b"four")


def test_a_scratch_file_is_taken_in_and_gone(store: Store) -> None:
    first = finished(store, b"part")
    assert store.adopt(first, "parts/ab/abc")
    again = finished(store, b"part")
    assert not store.adopt(again, "parts/ab/abc")
    assert not first.exists()
    assert not again.exists()
    assert store.get("parts/ab/abc") == b"part"
    store.clear_scratch()
    assert store.adopt(finished(store, b"more"), "parts/ab/abd")


@pytest.mark.parametrize("size", [0, 5, MULTIPART_BYTES + 1])
def test_a_file_of_any_size_is_copied(size: int, store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(size))
    assert store.copy_if_absent("checkpoints/files/ab/abc", source)
    assert not store.copy_if_absent("checkpoints/files/ab/abc", source)
    assert source.stat().st_size == size == store.size("checkpoints/files/ab/abc")
    store.fetch("checkpoints/files/ab/abc", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == source.read_bytes()
    (tmp_path / "mine").write_bytes(b"mine")
    store.fetch("checkpoints/files/ab/abc", tmp_path / "mine")
    assert (tmp_path / "mine").read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["mine", "source", "target"]


def test_listing_goes_by_folders_not_by_letters(store: Store) -> None:
    keys = ["datasets/a/v00000001.json", "datasets/a/b/v00000001.json", "datasets/ab/v00000001.json",
            "datasets/a b/x", "work/é/1.json"]
    for key in keys:
        assert store.put_if_absent(key, b"{}")
    assert store.names("datasets/a") == ["b", "v00000001.json"]
    assert store.names("datasets") == ["a", "a b", "ab"]
    assert sorted(store.keys("datasets/a")) == sorted(keys[:2])
    assert sorted(store.keys("datasets")) == sorted(keys[:4])
    assert set(keys) <= set(store.keys(""))
    assert store.names("work") == ["é"]
    assert store.get("work/é/1.json") == b"{}"


@pytest.mark.slow
def test_more_keys_than_one_page(store: Store) -> None:
    if isinstance(store, LocalStore):
        pytest.skip("a folder has no pages")
    keys = {f"work/w/shards/{at:05d}.json" for at in range(1100)}
    for key in sorted(keys):
        store.replace(key, b"{}")
    assert set(store.keys("work")) == keys
    assert len(store.names("work/w/shards")) == 1100


def test_being_used_again_makes_young(store: Store) -> None:
    for use in (lambda: store.touch("parts/a"), lambda: store.adopt(finished(store, b"x"), "parts/a")):
        store.replace("parts/a", b"x")
        make_older(store, "parts/a", 1000)
        store.replace("clock", b"")
        use()
        assert store.age("parts/a") - store.age("clock") < 100
        assert store.get("parts/a") == b"x"


def test_touching_an_old_object_writes_it_again(s3: Any) -> None:
    store = CloudStore("s3://bucket/touched", fresh=0.0)
    store.replace("parts/a", b"x")
    import obstore
    from obstore.store import from_url

    raw: Any = from_url("s3://bucket/touched", client_options={"allow_http": True})
    before = obstore.head(raw, "parts/a")["last_modified"]
    while obstore.head(raw, "parts/a")["last_modified"] == before:  # S3 tells whole seconds
        store.touch("parts/a")
    assert store.get("parts/a") == b"x"
    assert list(store.keys("")) == ["parts/a"]


def test_a_lease_is_given(store: Store) -> None:
    with store.lease("catalog/lock") as held:
        assert held
    with store.lease("catalog/lock", wait=False, shared=True) as held:
        assert held


def _race(root: str, me: int, keys: int, environment: dict[str, str], out: Any) -> None:
    os.environ.update(environment)  # the fork server may be older than the S3 server
    store = open_store(root)
    out.put([at for at in range(keys) if store.put_if_absent(f"keys/{at}", f"{me}:{at}".encode() * 1000)])


def test_of_eight_processes_one_creates_each_key(new_root: Callable[[], Path | str]) -> None:
    root, keys = str(new_root()), 10
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(["warehouse.objectstore", "polars", "duckdb", "pytest"])
    out = context.Queue()
    workers = [context.Process(target=_race, args=(root, me, keys, dict(os.environ), out)) for me in range(8)]
    for worker in workers:
        worker.start()
    won = sorted(at for _ in workers for at in out.get(timeout=120))
    for worker in workers:
        worker.join()
    assert won == list(range(keys))
    store = open_store(root)
    for at in range(keys):
        text = store.get(f"keys/{at}").decode()
        assert text == f"{text[0]}:{at}" * 1000


def test_of_eight_threads_one_creates_each_key(store: Store) -> None:
    won: list[tuple[int, int]] = []
    start = threading.Barrier(8)

    def put(me: int) -> None:
        for at in range(5):
            start.wait()
            if store.put_if_absent(f"keys/{at}", str(me).encode()):
                won.append((at, me))

    threads = [threading.Thread(target=put, args=(me,)) for me in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(at for at, _ in won) == list(range(5))
    assert all(store.get(f"keys/{at}") == str(me).encode() for at, me in won)


def parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def test_polars_reads_the_urls(store: Store) -> None:
    store.put_if_absent("parts/a b/x.parquet", parquet(PARQUET))
    found = pl.scan_parquet(store.url("parts/a b/x.parquet"), storage_options=store.storage_options, glob=False)
    assert found.filter(pl.col("row_id") == 2).collect().rows() == [(2, "b")]


def test_duckdb_reads_the_urls_and_nothing_else(store: Store, tmp_path: Path) -> None:
    store.put_if_absent("parts/x.parquet", parquet(PARQUET))
    parquet_elsewhere = tmp_path / "x.parquet"
    PARQUET.write_parquet(parquet_elsewhere)
    with duckdb.connect(":memory:") as connection:
        filesystem = store.duckdb_filesystem()
        if filesystem is not None:
            connection.register_filesystem(filesystem)
        connection.execute(f"SET allowed_directories=['{store.url('')}']")
        connection.execute("SET enable_external_access=false")
        connection.execute("SET lock_configuration=true")
        connection.execute(f"CREATE VIEW x AS SELECT * FROM read_parquet(['{store.url('parts/x.parquet')}'])")
        assert connection.sql("SELECT text FROM x WHERE row_id = 2").fetchall() == [("b",)]
        for outside in (str(parquet_elsewhere), "s3://bucket/elsewhere/x.parquet", "/etc/passwd"):
            with pytest.raises(duckdb.Error):
                connection.sql(f"SELECT * FROM read_parquet('{outside}')").fetchall()


def test_parts_are_read_and_damage_is_named(store: Store) -> None:
    part = write_part(store, PARQUET)
    wider = write_part(store, PARQUET.with_columns(level=pl.lit(3)))
    assert read_part(store, part).equals(PARQUET)
    assert read_part(store, part, ["text"]).columns == ["text"]
    assert read_part(store, part, []).shape == (2, 0)
    assert part_schema(store, wider) == {"row_id": pl.Int64, "text": pl.String, "level": pl.Int32}
    both = scan_parts(store, [part, wider], {"row_id": pl.Int64(), "level": pl.Int32()})
    assert both.collect().rows() == [(1, None), (2, None), (1, 3), (2, 3)]
    store.replace(part.path, store.get(part.path)[:-20])
    store.delete(wider.path)
    for damaged in (part, wider):
        for read in (read_part, part_schema):
            with pytest.raises(DamagedPart, match=damaged.sha256):
                read(store, damaged)


def test_a_warehouse_anywhere_answers_the_same(warehouse: Warehouse) -> None:
    assert Warehouse(warehouse.root).root == warehouse.root
    assert warehouse.sql("SELECT count(*) AS n FROM datasets")["n"].to_list() == [0]
    assert list(warehouse.store.keys(layout.TMP)) == []


@pytest.mark.parametrize("root", ["gs://bucket/w", "az://box/w", "http://host/w", "s3://"])
def test_other_places_are_refused_by_name(root: str, s3: Any) -> None:
    with pytest.raises(WarehouseError, match=root):
        open_store(root)
