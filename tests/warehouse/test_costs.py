"""The view `costs`: what a version took, of its own and with everything above it, each piece of work once."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from test_store import draft

from warehouse import Warehouse
from warehouse.parts import write_part
from warehouse.records import InputRef, Manifest, Part, RunEnd, RunRecord, StepReport, Usage
from warehouse.tables import SHARDS

OLD_COLUMNS = [name for name in SHARDS if name not in ("cost", "currency")]
TOLD = ("cost", "currency", "total_cost", "total_currency", "total_tokens_out", "cost_per_row", "tokens_per_row")


def shards(warehouse: Warehouse, made: str, costs: list[float], currency: str | None = "USD") -> Part:
    """One shard for each cost, each of 100 tokens out and a second."""
    rows = [(str(number), made, "w", f"2026-01-01T00:00:{number:02d}", 1, 1, 0, 0, 10, 100, 1, 0, 1.0, cost, currency)
            for number, cost in enumerate(costs)]
    return write_part(warehouse.store, pl.DataFrame(rows, schema=SHARDS, orient="row"))


def made(warehouse: Warehouse, name: str, rows: int, told: list[Part], above: list[Manifest] | None = None) -> Manifest:
    base = draft(warehouse, name, list(range(rows)))
    inputs = [InputRef(dataset=one.dataset, version=one.version, role="from", content_hash=one.content_hash,
                       parts_digest="p", fingerprint="f") for one in above or []]
    return warehouse.commit(base.model_copy(update={
        "tables": {**base.tables, "shards": told}, "inputs": inputs,
        "fingerprint": f"{name} of {[part.sha256 for part in told]}"}))


def costs(warehouse: Warehouse, ref: str) -> tuple[Any, ...]:
    return warehouse.sql(f"SELECT {', '.join(TOLD)} FROM costs WHERE ref = ?", [ref]).row(0)


def test_increments_and_ancestors_count_once(local_warehouse: Warehouse) -> None:
    """Two versions of the samples, the second carrying on the first; a mix of what was chosen from both."""
    first, second = (shards(local_warehouse, run, spent) for run, spent in (("r1", [1.0, 0.5]), ("r2", [0.25])))
    one = made(local_warehouse, "samples", 10, [first])
    two = made(local_warehouse, "samples", 20, [first, second])
    free = shards(local_warehouse, "r3", [0.0], None)
    scores = made(local_warehouse, "scores", 20, [free], [two])
    old = made(local_warehouse, "old", 2, [free], [one])
    new = made(local_warehouse, "new", 5, [free], [two, scores])
    mix = made(local_warehouse, "mix", 4, [free], [old, new])
    assert costs(local_warehouse, one.ref) == (1.5, "USD", 1.5, "USD", 200, 0.15, 20.0)
    assert costs(local_warehouse, two.ref) == (1.75, "USD", 1.75, "USD", 300, 0.0875, 15.0)
    assert costs(local_warehouse, new.ref) == (None, None, 1.75, "USD", 400, 0.35, 80.0)
    assert costs(local_warehouse, mix.ref) == (None, None, 1.75, "USD", 400, 0.4375, 100.0)
    local_warehouse.delete(two.ref)
    assert costs(local_warehouse, mix.ref)[2] == 1.75
    assert local_warehouse.sql("SELECT ref FROM costs WHERE dataset = 'samples'").rows() == [(one.ref,)]


def test_currencies_are_never_added(local_warehouse: Warehouse) -> None:
    dollars = made(local_warehouse, "a", 1, [shards(local_warehouse, "r1", [1.0])])
    francs = made(local_warehouse, "b", 1, [shards(local_warehouse, "r2", [2.0], "CHF")])
    both = made(local_warehouse, "c", 1, [shards(local_warehouse, "r3", [4.0])], [dollars, francs])
    assert costs(local_warehouse, both.ref) == (4.0, "USD", None, "CHF+USD", 300, None, 300.0)


def test_shards_of_before_there_were_prices(local_warehouse: Warehouse) -> None:
    rows = pl.DataFrame({"shard": ["0"], "run_id": ["r0"], "tokens_out": [7], "seconds": [2.5]})
    old = rows.with_columns(pl.lit(None, dtype=SHARDS[name]).alias(name) for name in OLD_COLUMNS if name not in rows)
    found = made(local_warehouse, "a", 2, [write_part(local_warehouse.store, old.select(OLD_COLUMNS))])
    assert costs(local_warehouse, found.ref) == (None, None, None, None, 7, None, 3.5)
    assert local_warehouse.sql("SELECT cost, currency, seconds FROM shards").rows() == [(0.0, None, 2.5)]
    assert local_warehouse.sql("SELECT cost, currency FROM datasets").rows() == [(0.0, None)]
    bare = local_warehouse.commit(draft(local_warehouse, "b", [1]))
    assert costs(local_warehouse, bare.ref) == (None,) * 7


def test_a_run_pays_for_what_it_made(local_warehouse: Warehouse) -> None:
    """A step that was there already costs the run that found it nothing."""
    base = draft(local_warehouse, "a", [1])
    usage = Usage(tokens_in=3, tokens_out=5, requested=1, cost=0.5)
    found = local_warehouse.commit(base.model_copy(update={"usage": usage, "facts": {"currency": "EUR"}}))
    for run_id, reused in (("r1", False), ("r2", True)):
        local_warehouse.start_run(RunRecord(
            run_id=run_id, recipe="r", recipe_version=1, recipe_text="", argv=[], host="h", user="u", git_commit=None,
            seed=0, started_at="2026-01-01T00:00:00+00:00", executor="inline"))
        step = StepReport(step="a", op="o", status="done", ref=found.ref, reused=reused, usage=usage)
        local_warehouse.end_run(RunEnd(run_id=run_id, status="succeeded", ended_at="2026-01-01T00:00:01+00:00",
                                       steps=[step]))
    told = local_warehouse.sql("SELECT run_id, tokens_out, answers_requested, cost, currency FROM run_steps ORDER BY 1")
    assert told.rows() == [("r1", 5, 1, 0.5, "EUR"), ("r2", 0, 0, 0.0, "EUR")]
    assert local_warehouse.sql("SELECT cost, currency FROM datasets").rows() == [(0.5, "EUR")]


def test_any_graph_adds_up(local_warehouse: Warehouse) -> None:
    """Versions that were made from some of those just before them: the total is that of the set of ancestors."""
    generator = random.Random(3)
    versions: list[Manifest] = []
    above: list[set[int]] = []
    for number in range(14):
        parents = sorted({number - step for step in generator.choices(range(1, 5), k=2) if number >= step})
        above.append({number}.union(*(above[parent] for parent in parents)))
        told = [shards(local_warehouse, f"r{number}", [2.0**-number])]
        versions.append(made(local_warehouse, f"d{number}", number % 3, told, [versions[one] for one in parents]))
    found = {ref: (total, each) for ref, total, each in local_warehouse.sql(
        "SELECT ref, total_cost, cost_per_row FROM costs").iter_rows()}
    assert max(map(len, above)) > 10
    for version, family in zip(versions, above, strict=True):
        total, rows = sum(2.0**-number for number in family), version.row_count
        assert found[version.ref] == pytest.approx((total, total / rows if rows else None), abs=1e-8)


def test_plain_duckdb_says_the_same(local_warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    one = made(local_warehouse, "a", 3, [shards(local_warehouse, "r1", [1.0, 2.0])])
    made(local_warehouse, "b", 2, [shards(local_warehouse, "r2", [0.5], None)], [one])
    query = "SELECT * FROM costs ORDER BY ref"
    ours = local_warehouse.sql(query).rows()
    monkeypatch.chdir(local_warehouse.root)
    with duckdb.connect() as plain:
        plain.execute(Path("catalog/views.sql").read_text(encoding="utf-8"))
        assert plain.sql(query).fetchall() == ours
    old = Path(sys.prefix) / "duckdb-1.5"
    if old.exists():
        script = ("import duckdb; c = duckdb.connect(); c.execute(open('catalog/views.sql').read()); "
                  f"print(duckdb.__version__, c.sql('{query}').fetchall())")
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True,
                              env={**os.environ, "PYTHONPATH": str(old)})
        assert done.stdout.startswith("1.5.")
        assert done.stdout.partition(" ")[2].strip() == str(ours)
