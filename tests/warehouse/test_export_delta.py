"""Versions as Delta tables: equal rows, time travel, nothing twice, nothing foreign, whatever the type or moment."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from test_dataset import World

import factory.api
from warehouse import Dataset, Warehouse, WarehouseError
from warehouse.export.delta import export

deltalake = pytest.importorskip("deltalake", reason="the extra `delta` is not installed")
ROOT = Path(__file__).parents[2]
CHILD = Path(__file__).with_name("delta_child.py")
FIRST = 1 << 40


@pytest.fixture(scope="module")
def pico(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """Two runs of recipes/pico.yaml; the second extends the samples of the first."""
    folder = tmp_path_factory.mktemp("pico")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for n in (3, 4):
            done = factory.api.run(ROOT / "recipes/pico.yaml", warehouse=folder / "w", vars={"count": 15, "n": n},
                                   executor="inline")
            assert done.status == "succeeded"
    return Warehouse(folder / "w")


def read(target: Path, version: int | None = None) -> pl.DataFrame:
    """The rows of a version of a table, as its own reader gives them."""
    table = deltalake.DeltaTable(str(target), version=version)
    frame = pl.from_arrow(table.to_pyarrow_table())
    assert isinstance(frame, pl.DataFrame)
    return frame.sort("row_id")


def rows_of(dataset: Dataset, **options: bool) -> pl.DataFrame:
    return dataset.scan(**options).collect().sort("row_id")


def process(warehouse: Warehouse, target: Path, *refs: str, die: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, str(CHILD), str(warehouse.root), str(target), *refs], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env={**os.environ, "PYTHONPATH": str(ROOT), "FACTORY_TEST_DIE": die})


def test_rows_come_out_as_they_are(pico: Warehouse, tmp_path: Path) -> None:
    for ref in ("pico/problems@1", "pico/samples@2", "pico/reasoning@1", "pico/correct@2"):
        dataset = pico.dataset(ref)
        target = tmp_path / ref.replace("/", "-")
        receipt = export(dataset, target)
        assert (receipt.ref, receipt.rows, receipt.added, receipt.carried_over) == (
            ref, dataset.manifest.row_count, True, {})
        assert_frame_equal(read(target), rows_of(dataset))


def test_other_engines_read_them(pico: Warehouse, tmp_path: Path) -> None:
    dataset = pico.dataset("pico/reasoning@2")
    export(dataset, tmp_path / "t")
    expected = rows_of(dataset)
    assert_frame_equal(pl.scan_delta(str(tmp_path / "t")).collect().sort("row_id"), expected)
    files = [uri.removeprefix("file://") for uri in deltalake.DeltaTable(str(tmp_path / "t")).file_uris()]
    found = duckdb.sql("SELECT * FROM read_parquet($files) ORDER BY row_id", params={"files": files}).to_arrow_table()
    assert_frame_equal(pl.DataFrame(found), expected)


def test_each_version_is_found_by_time_travel_and_none_is_written_twice(pico: Warehouse, tmp_path: Path) -> None:
    target = tmp_path / "t"
    one, two = pico.dataset("pico/samples@1"), pico.dataset("pico/samples@2")
    receipts = [export(dataset, target) for dataset in (one, two, one, two, one)]
    assert [(done.delta_version, done.added) for done in receipts] == [
        (1, True), (2, True), (1, False), (2, False), (1, False)]
    assert_frame_equal(read(target, 1), rows_of(one))
    assert_frame_equal(read(target, 2), rows_of(two))
    assert read(target, 0).height == 0
    files = set(target.rglob("*"))
    assert not export(two, target).added
    assert set(target.rglob("*")) == files
    commit = next(found for found in deltalake.DeltaTable(str(target)).history() if found["version"] == 2)
    assert (commit["datasetFactory.ref"], commit["datasetFactory.contentHash"]) == (two.ref, two.manifest.content_hash)


def test_own_columns_alone_are_another_export(pico: Warehouse, tmp_path: Path) -> None:
    dataset = pico.dataset("pico/samples@1")
    assert export(dataset, tmp_path / "t").delta_version == 1
    own = export(dataset, tmp_path / "t", inherit=False)
    assert (own.delta_version, own.added) == (2, True)
    assert_frame_equal(read(tmp_path / "t"), rows_of(dataset, inherit=False))
    assert_frame_equal(read(tmp_path / "t", 1), rows_of(dataset))


def test_a_target_that_is_not_of_this_dataset_is_left_alone(pico: Warehouse, tmp_path: Path) -> None:
    dataset = pico.dataset("pico/samples@1")
    deltalake.write_deltalake(str(tmp_path / "foreign"), pl.DataFrame({"row_id": [1]}).to_arrow())
    export(pico.dataset("pico/problems@1"), tmp_path / "sibling")
    shutil.copytree(pico.root, tmp_path / "w")
    record = tmp_path / "w" / "warehouse.json"
    record.write_text(record.read_text().replace(pico.store.get("warehouse.json").decode().split('"warehouse_id"')[1]
                                                 .split('"')[1], "0" * 32))
    export(Warehouse(tmp_path / "w").dataset("pico/samples@1"), tmp_path / "stranger")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "letter.txt").write_text("dear")
    (tmp_path / "file").write_text("x")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for name in ("foreign", "sibling", "stranger", "files", "file"):
        with pytest.raises(WarehouseError, match=r"nothing was written; name"):
            export(dataset, tmp_path / name)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_versions_without_rows_are_refused(pico: Warehouse, tmp_path: Path) -> None:
    with pytest.raises(WarehouseError, match="receipt"):
        export(pico.dataset("pico/published@1"), tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_every_type_arrives(tmp_path: Path) -> None:
    instant = dt.datetime(2026, 1, 2, 3, 4, 5, 678901)
    frame = pl.DataFrame({
        "row_id": [FIRST, FIRST + 1], "row_key": [b"\x00" * 16, b"\xff" * 16],
        "u8": pl.Series([255, None], dtype=pl.UInt8), "u16": pl.Series([65535, 0], dtype=pl.UInt16),
        "u32": pl.Series([2**32 - 1, 0], dtype=pl.UInt32), "u64": pl.Series([2**64 - 1, None], dtype=pl.UInt64),
        "f32": pl.Series([1.5, None], dtype=pl.Float32), "kind": pl.Series(["a", "b"], dtype=pl.Categorical),
        "level": pl.Series(["lo", "hi"], dtype=pl.Enum(["lo", "hi"])),
        "nothing": [None, None], "at": pl.Series([instant, None], dtype=pl.Datetime("ns")),
        "zoned": pl.Series([instant, None], dtype=pl.Datetime("ms")).dt.replace_time_zone("Europe/Berlin"),
        "day": [dt.date(2026, 1, 2), None], "clock": [dt.time(1, 2, 3), None],
        "took": pl.Series([dt.timedelta(seconds=1.5), None], dtype=pl.Duration("ms")),
        "price": pl.Series([Decimal("1.25"), None], dtype=pl.Decimal(10, 2)),
        "pair": pl.Series([[1, 2], [3, 4]], dtype=pl.Array(pl.UInt8, 2)),
        "deep": [[{"role": "user", "n": 1, "took": dt.timedelta(seconds=2)}], []],
        "flag": [True, None], "text": ["長い\x00\n", ""]},
        schema_overrides={"deep": pl.List(pl.Struct({"role": pl.String, "n": pl.UInt64, "took": pl.Duration("ns")}))})
    dataset = World(tmp_path / "w").commit("a", "rows", {"rows": [frame]})
    receipt = export(dataset, tmp_path / "t")
    assert sorted(receipt.carried_over) == sorted(
        ["u8", "u16", "u32", "u64", "kind", "level", "nothing", "at", "zoned", "took", "clock", "pair", "deep"])
    row = read(tmp_path / "t").row(0, named=True)
    assert (row["u8"], row["u16"], row["u32"], row["u64"]) == (255, 65535, 2**32 - 1, Decimal(2**64 - 1))
    assert (row["kind"], row["level"], row["nothing"], row["f32"]) == ("a", "lo", None, 1.5)
    assert row["at"] == instant
    assert row["zoned"] == dt.datetime(2026, 1, 2, 2, 4, 5, 678000, tzinfo=dt.UTC)
    assert (row["took"], row["clock"], row["price"]) == (1_500_000, "01:02:03", Decimal("1.25"))
    assert (row["pair"], row["deep"]) == ([1, 2], [{"role": "user", "n": Decimal(1), "took": 2_000_000}])
    assert (row["text"], row["row_key"], row["day"]) == ("長い\x00\n", b"\x00" * 16, dt.date(2026, 1, 2))
    fields = {field.name: str(field.type) for field in deltalake.DeltaTable(str(tmp_path / "t")).schema().fields}
    assert fields["u64"] == 'PrimitiveType("decimal(20,0)")'
    assert fields["row_key"] == 'PrimitiveType("binary")'


@pytest.mark.parametrize(("column", "complaint"), [
    (pl.Series("two words", ["x"]), "two words"), (pl.Series("ROW_ID", [1]), "case"),
    (pl.Series("a", [{"b;c": 1}]), "a.b;c")])
def test_what_delta_cannot_hold_is_named(tmp_path: Path, column: pl.Series, complaint: str) -> None:
    frame = pl.DataFrame({"row_id": [FIRST], "row_key": [b"\x00" * 16]}).with_columns(column)
    dataset = World(tmp_path / "w").commit("a", "rows", {"rows": [frame]})
    with pytest.raises(WarehouseError, match=complaint):
        export(dataset, tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_selections_of_different_sources_weights_and_empty_versions(tmp_path: Path) -> None:
    world = World(tmp_path / "w")

    def rows(first: int, **columns: list[Any]) -> pl.DataFrame:
        ids = [first + n for n in range(len(next(iter(columns.values()))))]
        return pl.DataFrame({"row_id": ids, "row_key": [n.to_bytes(16, "big") for n in ids], **columns})

    world.commit("a", "rows", {"rows": [rows(FIRST, x=["p", "q"], n=[1, 2]), rows(FIRST + 10, x=["r"], n=[3])]})
    world.commit("b", "rows", {"rows": [rows(2 * FIRST, x=["s"], n=[0.5], more=[True])]})
    chosen = pl.DataFrame({"row_id": [FIRST + 1, FIRST + 10, 2 * FIRST], "weight": [1, 2, 3]},
                          schema_overrides={"weight": pl.Int32})
    mixed = world.commit("mixed", "selection", {"selection": [chosen]}, ["a", "b"], weighted=True)
    none = world.commit("none", "selection", {"selection": [chosen[:0]]}, ["a", "b"])
    for dataset in (mixed, none):
        assert export(dataset, tmp_path / dataset.manifest.dataset).added
        assert_frame_equal(read(tmp_path / dataset.manifest.dataset), rows_of(dataset))
    assert read(tmp_path / "mixed")["weight"].to_list() == [1, 2, 3]


def test_a_damaged_part_is_named_and_nothing_becomes_visible(pico: Warehouse, tmp_path: Path) -> None:
    root = shutil.copytree(pico.root, tmp_path / "w")
    warehouse = Warehouse(root)
    dataset = warehouse.dataset("pico/samples@2")
    export(warehouse.dataset("pico/samples@1"), tmp_path / "t")
    last = dataset.parts("rows")[-1]
    (root / last.path).write_bytes(b"PAR1")
    with pytest.raises(WarehouseError, match=last.sha256):
        export(dataset, tmp_path / "t")
    assert deltalake.DeltaTable(str(tmp_path / "t")).version() == 1
    assert_frame_equal(read(tmp_path / "t"), rows_of(pico.dataset("pico/samples@1")))


@pytest.mark.parametrize("moment", ["export.created", "export.batch", "export.batch:1"])
def test_a_killed_export_leaves_no_part_of_a_version(pico: Warehouse, tmp_path: Path, moment: str) -> None:
    target = tmp_path / "t"
    died = process(pico, target, "pico/samples@2", die=moment)
    died.communicate(timeout=120)
    assert died.returncode == -signal.SIGKILL
    assert read(target).height == 0
    dataset = pico.dataset("pico/samples@2")
    assert export(dataset, target).delta_version == 1
    assert_frame_equal(read(target), rows_of(dataset))


def test_exports_at_once_add_each_version_once(pico: Warehouse, tmp_path: Path) -> None:
    target = tmp_path / "t"
    refs = ["pico/samples@1", "pico/samples@2"]
    racers = [process(pico, target, *(refs if number % 2 else refs[::-1])) for number in range(4)]
    said = []
    for racer in racers:
        out, err = racer.communicate(timeout=240)
        assert racer.returncode == 0, err
        said += out.splitlines()
    assert sorted(line for line in said if line.endswith(" 1")) == ["1 1", "2 1"]
    history = deltalake.DeltaTable(str(target)).history()
    found = {commit["datasetFactory.ref"]: commit["version"] for commit in history if "datasetFactory.ref" in commit}
    assert sorted(found.values()) == [1, 2]
    for ref, version in found.items():
        assert_frame_equal(read(target, version), rows_of(pico.dataset(ref)))


def test_without_the_extra_one_line_says_which(pico: Warehouse, tmp_path: Path) -> None:
    script = ("import sys; sys.modules['deltalake'] = None\nfrom warehouse import Warehouse, WarehouseError\n"
              "from warehouse.export.delta import export\n"
              f"try: export(Warehouse({str(pico.root)!r}).dataset('pico/samples'), 't')\n"
              "except WarehouseError as error: print(error)")
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120,
                          env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    assert "dataset-factory[delta]" in done.stdout
    assert done.stdout.count("\n") == 1
