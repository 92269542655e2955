"""A warehouse is its files: plain DuckDB reads it through `catalog/views.sql` after a run, a copy reads itself."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import pytest
from shell import RECIPES, Shell

from warehouse import Warehouse
from warehouse.lineage import trace_up


@pytest.fixture
def copy(house: Shell, tmp_path: Path) -> Path:
    """The warehouse as a run left it, somewhere else."""
    return Path(shutil.copytree(house.folder / "warehouse-data", tmp_path / "it's elsewhere"))


@pytest.fixture
def plain(copy: Path, monkeypatch: pytest.MonkeyPatch) -> duckdb.DuckDBPyConnection:
    """`cd <warehouse> && duckdb -init catalog/views.sql`."""
    monkeypatch.chdir(copy)
    connection = duckdb.connect()
    connection.execute(Path("catalog/views.sql").read_text())
    return connection


def test_every_view_answers(plain: duckdb.DuckDBPyConnection, copy: Path) -> None:
    views = [name for (name,) in plain.sql("SELECT view_name FROM duckdb_views() WHERE NOT internal "
                                       "AND schema_name = 'main'").fetchall()]
    assert {"datasets", "dataset_parts", "dataset_inputs", "namespaces", "checkpoints", "runs", "run_steps",
            "row_lineage", "rejections", "failures", "provenance", "selections", "verdicts"} < set(views)
    sizes = {name: plain.sql(f'SELECT count(*) FROM "{name}"').fetchall()[0][0] for name in views}
    for found in Warehouse(copy).manifests():
        if found.kind in ("rows", "selection", "scores"):
            assert sizes[found.dataset] == found.row_count
    assert sizes["verdicts"] == 7 * 120 + 2
    assert sizes["failures"] == 2
    assert plain.sql("SELECT recipe, status FROM runs ORDER BY started_at").fetchall() == [
        ("pico", "succeeded"), ("odd", "succeeded")]
    assert plain.sql("SELECT count(*) FROM run_steps WHERE rows_in != rows_kept + rows_rejected + rows_failed"
                     ).fetchall() == [(0,)]


def test_macros_answer(plain: duckdb.DuckDBPyConnection, copy: Path) -> None:
    row, parent = plain.sql('SELECT row_id, parent_row_id FROM "pico/reasoning" ORDER BY 1 LIMIT 1').fetchall()[0]
    assert plain.sql(f"SELECT row_id, depth FROM trace_up({row})").fetchall() == [(row, 0), (parent, 1)]
    down = plain.sql(f"SELECT row_id, depth FROM trace_down({parent})").fetchall()
    assert (row, 1) in down
    assert len(down) == 5
    assert plain.sql(f"SELECT kind, count(*) FROM why({row}) GROUP BY 1 ORDER BY 1").fetchall() == [
        ("selected", 1), ("verdict", 7)]
    kept = Warehouse(copy).dataset("pico/reasoning").manifest.counts
    funnel = plain.sql("SELECT rows_in, rows_kept, rows_rejected, rows_failed FROM funnel('pico/reasoning')").fetchall()
    assert funnel == [(kept.owed, kept.kept, kept.rejected, kept.failed)]


def agree(warehouse: Warehouse) -> None:
    for found in warehouse.manifests():
        if found.kind in ("rows", "selection", "scores"):
            scanned = warehouse.dataset(found.ref).scan().collect().sort("row_id")
            queried = warehouse.sql(f'SELECT * FROM "{found.ref}" ORDER BY row_id')
            assert set(queried.columns) == set(scanned.columns), found.ref
            assert queried.select(scanned.columns).to_dicts() == scanned.to_dicts(), found.ref


def test_sql_and_scan_agree(copy: Path) -> None:
    """The two ways to read a version give the same rows and columns."""
    agree(Warehouse(copy))


def test_versions_that_share_parts(shell: Shell) -> None:
    """More samples, then longer ones: versions hold parts of earlier ones, and some of their rows no longer count."""
    shutil.copy(RECIPES / "pico.yaml", shell.folder)
    for n, longest in ((2, 8), (3, 8), (3, 64)):
        shell("run", "pico.yaml", "--executor", "inline", "--quiet", "--until", "reasoning", "--vars", "count=6",
              "--vars", f"n={n}", "--vars", f"max_tokens={longest}")
    warehouse = Warehouse(shell.folder / "warehouse-data")
    agree(warehouse)
    assert [warehouse.manifest(f"pico/samples@{number}").row_count for number in (1, 2, 3)] == [12, 18, 18]
    assert shell.json("sql", 'SELECT count(*) AS n FROM "pico/samples"') == [{"n": 18}]
    old, new = (set(warehouse.dataset(f"pico/samples@{number}").scan().collect()["row_id"]) for number in (2, 3))
    assert len(old & new) > 0
    for row in (min(old - new), min(old & new)):
        kinds = [found["kind"] for found in shell.json("why", row) if found["kind"] in ("created", "superseded")]
        assert kinds == (["created"] if row in new else ["created", "superseded"])


def test_copy_reads_itself(house: Shell, copy: Path) -> None:
    row = house.json("sql", 'SELECT min(row_id) AS id FROM "pico/reasoning"')[0]["id"]
    here = Shell(copy.parent)
    assert here.json("trace", row, "-w", copy.name) == house.json("trace", row)
    assert here.json("why", row, "-w", copy.name) == house.json("why", row)
    assert [hop.row_id for hop in trace_up(Warehouse(copy), row)] == [
        hop["row_id"] for hop in here.json("trace", row, "-w", copy)]
