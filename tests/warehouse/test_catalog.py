"""The catalog is disposable: whatever happens to its files, or to a reading of the records, answers stay right."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import polars as pl
import pytest
from test_store import draft

from warehouse import Warehouse, WarehouseError
from warehouse.errors import BadQuery


def told(warehouse: Warehouse) -> list[tuple[str, int]]:
    """Every version and how many rows SQL counts in it."""
    return warehouse.sql("SELECT d.ref, count(v.row_id) FROM datasets d LEFT JOIN version_rows v ON v.ref = d.ref "
                         "GROUP BY d.ref, d.sequence ORDER BY d.sequence").rows()


def commit(warehouse: Warehouse, numbers: range) -> list[tuple[str, int]]:
    made = [warehouse.commit(draft(warehouse, "d", [number, number + 1000])) for number in numbers]
    return [(found.ref, 2) for found in made]


@pytest.mark.parametrize("query", [
    "EXPLAIN ANALYZE COPY (SELECT 1 AS x) TO '{root}/parts/x.parquet'",
    "EXPLAIN (ANALYZE) COPY (SELECT 1 AS x) TO '{root}/parts/x.parquet'",
    "EXPLAIN ANALYZE CREATE OR REPLACE VIEW datasets AS SELECT 1",
    "COPY (SELECT 1 AS x) TO '{root}/parts/x.parquet'",
    "WITH x AS (INSERT INTO datasets VALUES (1) RETURNING 1) SELECT * FROM x",
    "ATTACH '{root}/x.db' AS x", "INSTALL httpfs", "SET enable_external_access=true", "SELECT 1; SELECT 2",
    "SELECT * FROM read_text('/etc/hostname')", "SELECT * FROM '/etc/hostname'",
])
def test_sql_reads_and_does_nothing_else(local_warehouse: Warehouse, query: str) -> None:
    expected = commit(local_warehouse, range(3))
    with pytest.raises(BadQuery):
        local_warehouse.sql(query.format(root=local_warehouse.root))
    assert not list(Path(local_warehouse.root).rglob("x.*"))
    assert told(local_warehouse) == expected
    assert local_warehouse.sql("EXPLAIN SELECT * FROM datasets").height > 0


def test_a_process_that_slept_while_others_merged_counts_nothing_twice(local_warehouse: Warehouse) -> None:
    """Another process merges segments and removes the old ones; ours, which knew them, commits afterwards."""
    expected = commit(local_warehouse, range(3))
    sleeper = Warehouse(local_warehouse.root)
    assert sleeper.find("of [0, 1000]")
    for number in range(3, 12):
        expected += commit(local_warehouse, range(number, number + 1))
        local_warehouse.sql("SELECT 1")
    named = {segment.file for listed in local_warehouse.catalog.state.segments.values() for segment in listed}
    for key in list(local_warehouse.store.keys("catalog")):
        if key.endswith(".parquet") and key not in named:
            local_warehouse.store.delete(key)
    expected += commit(sleeper, range(12, 13))
    assert told(sleeper) == told(Warehouse(local_warehouse.root)) == expected


@pytest.mark.parametrize("what", ["catalog", "catalog/state.json", "catalog/datasets", "catalog/dataset_parts",
                                  "catalog/row_ids"])
@pytest.mark.parametrize("then", ["commit", "find", "sql"])
def test_files_taken_from_under_a_living_process(local_warehouse: Warehouse, what: str, then: str) -> None:
    expected = commit(local_warehouse, range(3))
    assert told(local_warehouse) == expected
    path = Path(local_warehouse.root) / what
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    if then == "commit":
        expected += commit(local_warehouse, range(3, 5))
    elif then == "find":
        assert [found.ref for found in local_warehouse.find("of [1, 1001]")] == ["d@2"]
        assert local_warehouse.versions("d") == [1, 2, 3]
    assert told(local_warehouse) == told(Warehouse(local_warehouse.root)) == expected


def test_segments_of_garbage(local_warehouse: Warehouse) -> None:
    """As a power cut may leave them: their length is right, their bytes are not."""
    expected = commit(local_warehouse, range(3))
    assert told(local_warehouse) == expected
    for path in Path(local_warehouse.root).glob("catalog/*/*.parquet"):
        path.write_bytes(bytes(path.stat().st_size))
    assert told(Warehouse(local_warehouse.root)) == expected
    assert told(local_warehouse) == expected


def test_a_replaced_segment_stays_for_its_readers(local_warehouse: Warehouse) -> None:
    """However old it was when it was replaced."""
    commit(local_warehouse, range(7))
    local_warehouse.sql("SELECT 1")
    old = [path for path in Path(local_warehouse.root).glob("catalog/*/*.parquet")]
    for path in old:
        os.utime(path, (time.time() - 10 * 3600,) * 2)
    for number in range(7, 10):
        commit(local_warehouse, range(number, number + 1))
        local_warehouse.sql("SELECT 1")
    assert all(path.exists() for path in old)


def test_part_numbers_stay_apart_after_a_reading_that_failed(local_warehouse: Warehouse,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    expected = commit(local_warehouse, range(4))
    reader, get = Warehouse(local_warehouse.root), type(local_warehouse.store).get
    asked: list[str] = []

    def once(store: object, key: str) -> bytes:
        asked.append(key)
        if len([name for name in asked if name.startswith("datasets/")]) == 3:
            asked.clear()
            monkeypatch.undo()
            raise WarehouseError("the network is away")
        return get(store, key)  # type: ignore[arg-type]

    monkeypatch.setattr(type(local_warehouse.store), "get", once)
    with pytest.raises(WarehouseError):
        reader.versions("d")
    assert told(reader) == told(Warehouse(local_warehouse.root)) == expected


@pytest.mark.parametrize("folder", ["step=x", "ref=5", "env=prod", "it's here", "a*b?[c]"])
def test_a_folder_of_any_name(tmp_path: Path, folder: str) -> None:
    warehouse = Warehouse(tmp_path / folder / "w", create=True)
    expected = commit(warehouse, range(2))
    assert told(warehouse) == expected
    assert warehouse.sql('SELECT * FROM "d"').columns == ["row_id", "text"]
    assert set(warehouse.sql("SELECT step FROM datasets")["step"]) == {"d"}


def test_rows_that_gc_took_and_a_commit_brought_back(local_warehouse: Warehouse) -> None:
    made = local_warehouse.commit(draft(local_warehouse, "d", [1, 2]))
    local_warehouse.delete("d@1")
    Path(local_warehouse.root, made.tables["rows"][0].path).unlink()
    assert told(Warehouse(local_warehouse.root)) == [("d@1", 0)]
    again = local_warehouse.commit(draft(local_warehouse, "d", [1, 2]))
    assert again.ref == "d@2"
    assert local_warehouse.sql("SELECT row_id FROM members('d@2') ORDER BY 1")["row_id"].to_list() == [1, 2]


def test_a_damaged_part_is_told_and_comes_back_when_it_is_mended(local_warehouse: Warehouse) -> None:
    """Its rows are missing from answers, which says so; restored from a copy, they are there again."""
    made = local_warehouse.commit(draft(local_warehouse, "d", [1, 2]))
    path = Path(local_warehouse.root, made.tables["rows"][0].path)
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    reader = Warehouse(local_warehouse.root)
    assert told(reader) == [("d@1", 0)]
    assert reader.unreadable() == ["d@1"]
    path.write_bytes(whole)
    assert told(reader) == [("d@1", 2)]
    assert reader.unreadable() == []


def test_names_that_differ_in_case_only_are_refused(local_warehouse: Warehouse) -> None:
    local_warehouse.commit(draft(local_warehouse, "Math", [1]))
    with pytest.raises(WarehouseError, match="Math"):
        local_warehouse.commit(draft(local_warehouse, "math", [2]))
    assert local_warehouse.latest_versions() == {"Math": "Math@1"}


def test_wide_sums_and_intervals_are_numbers_and_durations(local_warehouse: Warehouse) -> None:
    commit(local_warehouse, range(3))
    found = local_warehouse.sql("SELECT sum(row_count) AS n, INTERVAL 90 SECOND AS t FROM datasets")
    assert dict(found.schema) == {"n": pl.Int64(), "t": pl.Duration("us")}
    assert found["n"].to_list() == [6]
    with pytest.raises(BadQuery, match="AS"):
        local_warehouse.sql("SELECT 1 AS a, 2 AS a")


def test_segments_are_few_whatever_the_history(local_warehouse: Warehouse) -> None:
    """Sixty openings after sixty commits leave a handful of files to read for each table."""
    for number in range(60):
        commit(local_warehouse, range(number, number + 1))
        local_warehouse.sql("SELECT 1")
    counts = {table: len(listed) for table, listed in local_warehouse.catalog.state.segments.items()}
    assert max(counts.values()) <= 8
