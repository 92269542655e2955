"""Verdicts as tables: three labels, and a verdict that depended on the clock is a failure."""

from __future__ import annotations

import polars as pl

from factory.engine.op import SCORE_SCHEMA
from factory.verifiers.verdict import Verdict, frame


def test_three_labels_are_three_values_of_passed() -> None:
    table = frame([Verdict("correct", "equal", "r", "4", 1.0), Verdict("incorrect", "wrong_answer", "r", "5", 0.0),
                   Verdict("undecided", "gold_unparseable", "r")])
    assert dict(table.schema) == {**SCORE_SCHEMA, "extracted": pl.String()}
    assert table["passed"].to_list() == [True, False, None]
    assert table["score"].to_list() == [1.0, 0.0, None]


def test_a_transient_verdict_leaves_nothing_but_a_failure() -> None:
    table = frame([Verdict("correct", "equal", "r", "4", 1.0),
                   Verdict("undecided", "timeout", "no result within 1 s", "5", transient=True)])
    assert table["_failed"].to_list() == [None, "timeout: no result within 1 s"]
    assert all(value is None for name, value in table.row(1, named=True).items() if name != "_failed")


def test_no_rows_give_an_empty_table_and_long_answers_are_cut() -> None:
    assert frame([]).schema == {**SCORE_SCHEMA, "extracted": pl.String()}
    assert len(frame([Verdict("incorrect", "answer_too_long", "r", "x" * 10**6)])["extracted"][0]) == 1000
