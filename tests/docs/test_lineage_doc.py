"""docs/lineage.md and docs/warehouse.md say what is so: every statement runs, in our connection and in plain DuckDB on
a copy that lies elsewhere, and answers what polars finds in the parts."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from lineage_answers import ANSWERS, World
from lineage_world import HOUSE, build

from warehouse import Warehouse
from warehouse.ids import MAX_NAMESPACE, MAX_ROWS_PER_SHARD, MAX_SHARDS
from warehouse.upkeep.fsck import check

DOCS = Path(__file__).parents[2] / "docs"
LINEAGE, WAREHOUSE = ((DOCS / name).read_text(encoding="utf-8") for name in ("lineage.md", "warehouse.md"))
STATEMENTS = {int(number): (title, sql) for number, title, sql in re.findall(
    r"^### (\d+)\. ([^\n]+)\n(?:(?!^###).)*?^```sql\n(.*?)^```$", LINEAGE, re.MULTILINE | re.DOTALL)}
BY_HAND = re.findall(r"^```sql\n(.*?)^```$", WAREHOUSE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    pytest.importorskip("transformers", reason="the extra `train` is not installed")
    return World(build(tmp_path_factory.mktemp("world")))


@pytest.fixture(scope="module")
def copy(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The warehouse somewhere else, as the last reader left it."""
    world.warehouse.sql("SELECT 1")
    return Path(shutil.copytree(world.warehouse.root, tmp_path_factory.mktemp("copy") / "it's elsewhere"))


def ask(world: World, number: int) -> str:
    """A statement, with the row ids and the judge that this warehouse has."""
    sql = STATEMENTS[number][1]
    names = {"2199023255554": world.row, "1099511627777": world.seed, "4398046511106": world.problem}
    for example, here in names.items():
        sql = sql.replace(example, str(here))
    return sql.replace("verify.math", "judge.house") if number in (16, 17) else sql


def told(frame: pl.DataFrame, *columns: str) -> list[str]:
    return sorted(map(repr, frame.select(columns or frame.columns).rows()))


def test_every_question_has_one_statement() -> None:
    assert list(STATEMENTS) == list(range(1, LINEAGE.count("\n### ") + 1))
    assert LINEAGE.count("```sql") == len(STATEMENTS) >= 20
    assert set(ANSWERS) == set(STATEMENTS)


@pytest.mark.parametrize("number", STATEMENTS, ids=[f"{number}-{title}" for number, (title, _) in STATEMENTS.items()])
def test_the_answer_is_what_the_parts_say(world: World, number: int) -> None:
    columns, expected = ANSWERS[number]
    found = world.warehouse.sql(ask(world, number))
    rows = expected(world)
    assert told(found, *columns) == sorted(map(repr, rows))
    assert rows or number == 10  # the world has something to say to every question but that of leaks


@pytest.mark.parametrize("number", STATEMENTS)
def test_plain_duckdb_says_the_same(world: World, copy: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy)
    with duckdb.connect() as plain:
        plain.execute(Path("catalog/views.sql").read_text(encoding="utf-8"))
        sql = ask(world, number)
        assert told(plain.sql(sql).pl()) == told(world.warehouse.sql(sql))


def test_tags_and_versions_are_names_too(world: World, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = 'SELECT count(*) AS n FROM "{}"'
    held = world.scan("pico/reasoning@2").height
    assert world.warehouse.sql(counted.format("pico/reasoning@2")).item() == held
    monkeypatch.chdir(copy)
    with duckdb.connect() as plain:
        plain.execute(Path("catalog/views.sql").read_text(encoding="utf-8"))
        assert plain.sql(counted.format("pico/reasoning@prod")).fetchall() == [(held,)]


def test_every_view_and_macro_is_named(world: World, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy)
    datasets = {found.dataset for found in world.manifests}
    with duckdb.connect() as plain:
        plain.execute(Path("catalog/views.sql").read_text(encoding="utf-8"))
        names = [name for (name,) in plain.execute(
            "SELECT view_name FROM duckdb_views() WHERE NOT internal AND schema_name = 'main' UNION ALL "
            "SELECT function_name FROM duckdb_functions() WHERE NOT internal AND function_type = 'table_macro'"
        ).fetchall()]
    fixed = [name for name in names if name.partition("@")[0] not in datasets]
    assert {"datasets", "version_rows", "trace_up", "behind"} < set(fixed)
    assert [name for name in fixed if f"`{name}`" not in LINEAGE and f"`{name}(" not in LINEAGE] == []


@pytest.fixture
def bare(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> duckdb.DuckDBPyConnection:
    """Plain DuckDB in a copy without a catalog."""
    house = shutil.copytree(copy, tmp_path / HOUSE, ignore=shutil.ignore_patterns("catalog", "tmp"))
    monkeypatch.chdir(house)
    return duckdb.connect()


def by_hand(connection: duckdb.DuckDBPyConnection, number: int) -> pl.DataFrame:
    *settings, last = (statement for statement in BY_HAND[number].split(";\n") if statement.strip())
    for statement in settings:
        connection.execute(statement)
    return connection.sql(last).pl()


def test_versions_are_read_from_their_manifests(world: World, bare: duckdb.DuckDBPyConnection) -> None:
    found = by_hand(bare, 0).rows()
    assert found == [(made.dataset, made.version, made.kind, made.op, made.row_count, made.counts.rejected,
                      made.counts.failed) for made in world.manifests]


def test_rows_are_read_from_a_manifest_alone(world: World, bare: duckdb.DuckDBPyConnection) -> None:
    found = by_hand(bare, 1)
    assert found.rows() == world.scan("pico/samples@2").sort("row_id").select(found.columns).rows()
    chosen = by_hand(bare, 2)
    assert chosen.height > 0
    assert chosen.rows() == world.scan("pico/reasoning@3").sort("row_id").select(chosen.columns).rows()


def test_a_row_id_is_taken_apart(world: World, bare: duckdb.DuckDBPyConnection) -> None:
    (namespace, _, _), = by_hand(bare, 3).rows()
    owner = json.loads(Path(f"ids/{namespace:08d}.json").read_text())
    assert owner["dataset"] == "pico/samples"
    assert len(BY_HAND) == 4


def test_manifest_fields_and_folders_are_explained(world: World) -> None:
    manifest: dict[str, Any] = json.loads((world.warehouse.root / "datasets/pico/reasoning/v00000003.json").read_text())
    assert [name for name in manifest if f"`{name}`" not in WAREHOUSE and name != "format" and name not in (
        "row_count", "bytes", "created_at", "code_sha256")] == []
    folders = [path.name for path in world.warehouse.root.iterdir()]
    assert [name for name in folders if f"`{name}" not in WAREHOUSE] == []
    tables = {table for found in world.manifests for table in found.tables}
    assert [name for name in tables if f"`{name}`" not in WAREHOUSE] == []
    for limit in (MAX_NAMESPACE, MAX_ROWS_PER_SHARD, MAX_SHARDS):
        assert f"{limit:,}".replace(",", " ") in WAREHOUSE


def test_points_of_a_crash_are_named() -> None:
    source = DOCS.parent / "warehouse"
    points = {name for path in source.rglob("*.py") for name in
              re.findall(r'faults\.point\("([^"]+)"\)', path.read_text(encoding="utf-8"))}
    named = set(re.findall(r"`([a-z]+\.[a-z]+)`", WAREHOUSE))
    assert {name for name in points if not name.startswith("export.")} - named == set()


def test_a_deleted_catalog_is_made_again(world: World, copy: Path, tmp_path: Path) -> None:
    house = shutil.copytree(copy, tmp_path / HOUSE, ignore=shutil.ignore_patterns("catalog"))
    again = Warehouse(house)
    for number in (5, 13, 22):
        sql = ask(world, number)
        assert told(again.sql(sql)) == told(world.warehouse.sql(sql))


def test_a_copy_made_while_somebody_writes_is_whole(copy: Path, tmp_path: Path) -> None:
    """In the order that the document gives: what refers first, then what is referred to."""
    house = Path(shutil.copytree(copy, tmp_path / HOUSE, ignore=shutil.ignore_patterns("tmp")))
    target = tmp_path / "backup"
    for name in ("refs", "datasets", "checkpoints"):
        shutil.copytree(house / name, target / name)
    shutil.copy(house / "warehouse.json", target)
    writer = Warehouse(house)
    late = writer.commit(writer.manifest("pico/reasoning@3").model_copy(update={"dataset": "pico/late"}))
    writer.set_tag(late.ref, "prod")
    for path in house.iterdir():
        if path.is_dir() and path.name not in ("tmp", "catalog", "refs", "datasets"):
            ignored = shutil.ignore_patterns("v*.json") if path.name == "checkpoints" else None
            shutil.copytree(path, target / path.name, dirs_exist_ok=True, ignore=ignored)
    backup = Warehouse(target)
    assert [str(damage) for damage in check(backup, repair=True).damage] == []
    assert "pico/late" not in backup.latest_versions()
    assert backup.sql('SELECT count(*) FROM "pico/reasoning@3"').item() == late.row_count
    assert backup.commit(late).ref == "pico/late@1"
