"""A warehouse in plain DuckDB, in both ages that are supported and on the command line: the same answers as our own.

`cd <warehouse> && duckdb -init catalog/views.sql` is all it takes, also in a copy far from where the warehouse was
made. Every view and every table macro that is found there is asked.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import factory.api
from warehouse import Warehouse

ROOT = Path(__file__).parents[2]
OLD = Path(sys.prefix) / "duckdb-1.5"
CLI = Path(sys.executable).with_name("duckdb")
PROMISED_VIEWS = {"runs", "run_steps", "datasets", "dataset_parts", "dataset_inputs", "row_lineage", "row_roots",
                  "verdicts", "rejections", "failures", "checkpoints", "shards", "pico/problems", "pico/samples",
                  "pico/correct", "pico/reasoning", "pico/reasoning@best"}
PROMISED_MACROS = {"trace_up", "trace_down", "why", "funnel", "diff"}

PLAIN = """
import duckdb, json, sys
asked = json.load(sys.stdin)
connection = duckdb.connect()
connection.execute(open('catalog/views.sql', encoding='utf-8').read())
json.dump([duckdb.__version__, [connection.execute(query).fetchall() for query in asked]], sys.stdout)
"""
OURS = """
import json, sys
from warehouse import Warehouse
asked, warehouse = json.load(sys.stdin), Warehouse('.')
json.dump(['ours', [warehouse.sql(query).rows() for query in asked]], sys.stdout)
"""
VIEWS = "SELECT view_name FROM duckdb_views() WHERE NOT internal AND schema_name = 'main' ORDER BY ALL"
MACROS = ("SELECT function_name, to_json(parameters)::VARCHAR FROM duckdb_functions() "
          "WHERE function_type = 'table_macro' AND NOT internal AND schema_name = 'main' ORDER BY ALL")
Answers = list[list[list[Any]]]


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of recipes/pico.yaml, a tag, a deleted version; then copied to a folder of an awkward name, and the
    original removed."""
    folder = tmp_path_factory.mktemp("made")
    root = folder / "warehouse"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for n in (3, 4):
            done = factory.api.run(ROOT / "recipes/pico.yaml", warehouse=root, vars={"count": 20, "n": n},
                                   executor="inline")
            assert done.status == "succeeded"
    warehouse = Warehouse(root)
    warehouse.set_tag("pico/reasoning@1", "best")
    warehouse.delete("pico/form@1")
    warehouse.sql("SELECT 1")
    copy = tmp_path_factory.mktemp("moved") / "a copy's place"
    shutil.copytree(root, copy)
    shutil.rmtree(folder)
    return copy


def process(script: str, root: Path, asked: list[str], *path: Path) -> tuple[str, Answers]:
    """The answers of a Python process in the warehouse's folder."""
    done = subprocess.run([sys.executable, "-c", script], cwd=root, input=json.dumps(asked), capture_output=True,
                          text=True, timeout=120, env={**os.environ, "TZ": "UTC",
                                                       "PYTHONPATH": os.pathsep.join(map(str, [*path, ROOT]))})
    assert done.returncode == 0, done.stderr
    version, answers = json.loads(done.stdout)
    return version, answers


def command_line(root: Path, asked: list[str]) -> Answers:
    """The answers of `duckdb -init catalog/views.sql`, started in the warehouse's folder."""
    listed = [f"SELECT coalesce(to_json(list(t)), '[]')::VARCHAR AS answer FROM ({query}) t" for query in asked]
    done = subprocess.run([CLI, "-init", "catalog/views.sql", "-bail", "-jsonlines", "-c", "; ".join(listed)], cwd=root,
                          capture_output=True, text=True, timeout=120, env={**os.environ, "TZ": "UTC"})
    assert done.returncode == 0, done.stderr
    return [[list(row.values()) for row in json.loads(json.loads(line)["answer"])] for line in done.stdout.splitlines()]


def columns(query: str) -> str:
    return f"SELECT column_name, column_type FROM (DESCRIBE {query})"


def rows(query: str, names: list[str]) -> str:
    """Every row as JSON of its columns as text, in an order of their own."""
    texts = ", ".join(f'"{name}"::VARCHAR' for name in names)
    return f"SELECT to_json([{texts}])::VARCHAR AS shown FROM ({query}) ORDER BY shown"


def questions(root: Path, found: Answers) -> dict[str, str]:
    """A question for every view, and for every macro with each argument that tells it something."""
    views, macros = found
    assert {name for (name,) in views} >= PROMISED_VIEWS
    assert {name for name, _ in macros} >= PROMISED_MACROS
    warehouse = Warehouse(root)
    ids = [str(warehouse.sql(query).item()) for query in (
        'SELECT min(row_id) FROM "pico/problems"', 'SELECT max(row_id) FROM "pico/reasoning"',
        "SELECT min(row_id) FROM rejections", "SELECT 7")]
    arguments = {"start": ids, "id": ids, "root": ids, "old": ["'pico/samples@1'", "'pico/reasoning@1'"],
                 "new": ["'pico/samples@2'", "'pico/reasoning@2'"],
                 "wanted": ["'pico/reasoning'", "'pico/reasoning@1'", "'pico/reasoning@best'", "'nothing'"]}
    asked = {name: f'SELECT * FROM "{name}"' for (name,) in views}
    for name, parameters in macros:
        for values in zip(*(arguments[parameter] for parameter in json.loads(parameters)), strict=True):
            call = f"{name}({', '.join(values)})"
            asked[call] = f"SELECT * FROM {call}"
    return asked


@dataclass(frozen=True)
class Expected:
    """What is asked of every DuckDB (`columns of X` and `rows of X` for each view and call X), and our own answers."""

    asked: dict[str, str]
    answers: Answers


@pytest.fixture(scope="module")
def expected(moved: Path) -> Expected:
    """Questions, and what `Warehouse.sql` answers."""
    _, found = process(PLAIN, moved, [VIEWS, MACROS])
    things = questions(moved, found)
    described = {f"columns of {name}": columns(query) for name, query in things.items()}
    _, told = process(OURS, moved, list(described.values()))
    listed = {f"rows of {name}": rows(query, [column for column, _ in answer])
              for (name, query), answer in zip(things.items(), told, strict=True)}
    _, stored = process(OURS, moved, list(listed.values()))
    by_name = dict(zip(things, stored, strict=True))
    assert [name for name in PROMISED_VIEWS - {"failures", "checkpoints"} if not by_name[name]] == []
    assert len(by_name["pico/reasoning"]) == Warehouse(moved).manifest("pico/reasoning").row_count
    assert len(by_name["diff('pico/samples@1', 'pico/samples@2')"]) == 20
    return Expected({**described, **listed}, told + stored)


def differences(expected: Expected, found: Answers) -> dict[str, Any]:
    return {name: (theirs[:3], ours[:3])
            for name, theirs, ours in zip(expected.asked, found, expected.answers, strict=True) if theirs != ours}


def test_this_duckdb_answers_alike(moved: Path, expected: Expected) -> None:
    _, found = process(PLAIN, moved, list(expected.asked.values()))
    assert differences(expected, found) == {}


def test_the_older_duckdb_answers_alike(moved: Path, expected: Expected) -> None:
    if not OLD.exists():
        pytest.skip("DuckDB 1.5 is not installed beside this environment (`make install` does it)")
    version, found = process(PLAIN, moved, list(expected.asked.values()), OLD)
    assert version.startswith("1.5.")
    assert differences(expected, found) == {}


def test_the_command_line_answers_alike(moved: Path, expected: Expected) -> None:
    if not CLI.exists():
        pytest.skip("the DuckDB command line (package duckdb-cli) is not installed in this environment")
    found = command_line(moved, list(expected.asked.values()))
    assert differences(Expected(expected.asked, [sorted(answer) for answer in expected.answers]),
                       [sorted(answer) for answer in found]) == {}
