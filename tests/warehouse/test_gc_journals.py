"""Journals go when live rows hold every answer that they have, and not before."""

from __future__ import annotations

import shutil
import tracemalloc
from pathlib import Path

import polars as pl
import pytest
from bundles import draft, keyed
from gc_kit import both_phases

from warehouse import Warehouse, layout
from warehouse.content import hash_rows
from warehouse.journal import Answer, JournalWriter
from warehouse.records import Manifest
from warehouse.upkeep.gc import DAY


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "w", create=True)


def answers(warehouse: Warehouse, family: str, keys: list[bytes], writer: str = "1-a",
            text: str = "é\u2028") -> Path:
    path = warehouse.root / layout.journal(family, writer)
    journal = JournalWriter(path.with_suffix(""))
    for key in keys:
        journal.append(Answer(key.hex(), text, "stop", 1, 2, 9))
    journal.close()
    (written,) = path.with_suffix("").iterdir()
    path.write_bytes(written.read_bytes() + b"torn")
    shutil.rmtree(written.parent)
    return path


def answered(warehouse: Warehouse, name: str, keys: list[bytes]) -> Manifest:
    rows = keyed(list(range(1, len(keys) + 1)), ["t"] * len(keys)).with_columns(
        answer_key=pl.Series(keys, dtype=pl.Binary), response=pl.lit("é"), finish_reason=pl.lit("stop"),
        tokens_in=pl.lit(1), tokens_out=pl.lit(2))
    return warehouse.commit(draft(warehouse, name, "rows", {"rows": [rows]}, hash_rows(rows["row_key"].to_list())))


def test_paid_answers_stay_until_live_rows_hold_every_one(warehouse: Warehouse) -> None:
    held, more = [b"a" * 32, b"b" * 32], [b"a" * 32, b"c" * 32]
    made = answered(warehouse, "d", held)
    covered = answers(warehouse, "of d", held, "covered")
    partly = answers(warehouse, "of d", more, "partly")
    strange = answers(warehouse, "no family", held)
    for path in (covered, partly, strange):
        assert path.exists()
    both_phases(warehouse, retention=60 * DAY)
    assert covered.exists()  # younger than the retention
    report = both_phases(warehouse)
    assert report.deleted["journals"].count == 1
    assert [path.exists() for path in (covered, partly, strange)] == [False, True, True]
    assert report.kept["journals with answers that no live version holds"] == 2
    warehouse.delete(made.ref)
    both_phases(warehouse)
    assert [path.exists() for path in (partly, strange)] == [False, True]


def test_a_damaged_line_keeps_no_journal_and_an_uncommitted_answer_behind_it_does(warehouse: Warehouse) -> None:
    held = [b"a" * 32, b"b" * 32, b"c" * 32]
    answered(warehouse, "d", held[:2])
    for last in held[1:]:
        path = answers(warehouse, "of d", [held[0], b"z" * 32, last], last[:1].decode())
        text = path.read_bytes()
        at = text.index("é".encode(), text.index(b"\n"))
        path.write_bytes(text[:at] + b"?" + text[at + 1:])  # the second answer, which nobody has committed
    both_phases(warehouse)
    assert [(warehouse.root / layout.journal("of d", name)).exists() for name in "bc"] == [False, True]


def test_a_large_journal_is_never_in_memory(warehouse: Warehouse) -> None:
    keys = [number.to_bytes(32, "big") for number in range(96)]
    answered(warehouse, "d", keys)
    path = answers(warehouse, "of d", keys, text="x" * (1 << 20))
    size = path.stat().st_size
    tracemalloc.start()
    try:
        both_phases(warehouse)
        assert not path.exists()
        assert tracemalloc.get_traced_memory()[1] < size * 2 / 3
    finally:
        tracemalloc.stop()
