"""select.preference: which pairs stay, why the others go, and that the lengths of what stays are balanced."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import factory
from factory.engine.errors import OpError
from factory.engine.op import OpContext, Selection
from factory.selection.preference import PreferenceChoice, select_preference
from factory.verifiers.judge import prompts as judge_prompts
from warehouse import Warehouse

Pair = tuple[float | None, int | None, int | None]


def rows_of(pairs: list[Pair]) -> pl.DataFrame:
    frame = pl.DataFrame(pairs, orient="row", schema={
        "pref.margin": pl.Float64, "pref.chosen_chars": pl.Int64, "pref.rejected_chars": pl.Int64})
    return frame.with_columns(
        pl.Series("row_id", range(len(pairs)), dtype=pl.Int64),
        pl.Series("row_key", [number.to_bytes(16, "big") for number in range(len(pairs))], dtype=pl.Binary))


def choose(rows: pl.DataFrame, **given: Any) -> tuple[set[int], dict[int, str]]:
    found: Selection = select_preference(rows, PreferenceChoice(**given), OpContext(step="choice", seed=5))
    kept, rejected = found.kept["row_id"].to_list(), found.rejected["row_id"].to_list()
    assert sorted(kept + rejected) == sorted(rows["row_id"])
    return set(kept), dict(zip(rejected, found.rejected["reason_code"], strict=True))


def test_each_pair_that_goes_has_its_reason() -> None:
    pairs: list[Pair] = [(2.0, 100, 100), (-1.5, 100, 100), (1.0, 100, 100), (None, None, None), (0.0, None, None),
                         (-2.0, 900, 100)]
    kept, reasons = choose(rows_of(pairs))
    assert kept == {0, 1}
    assert reasons == {2: "margin", 3: "undecided", 4: "margin", 5: "length_balance"}
    assert choose(rows_of(pairs), balance=None)[0] == {0, 1, 5}
    assert choose(rows_of(pairs), margin=0.5)[0] >= {2}


def test_the_side_that_is_too_long_loses_its_longest_pairs() -> None:
    longer: list[Pair] = [(2.0, 100 + 10 * number, 100) for number in range(10)]
    kept, reasons = choose(rows_of(longer))
    assert kept == {0, 1}
    assert set(reasons.values()) == {"length_balance"}
    shorter: list[Pair] = [(margin, rejected, chosen) for margin, chosen, rejected in longer]
    assert choose(rows_of(shorter))[0] == {0, 1}


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([-2.0, 1.5, 1.0, None]), st.integers(1, 3000), st.integers(1, 3000)),
                max_size=40), st.sampled_from([1.01, 1.05, 1.5]), st.randoms())
def test_what_stays_is_balanced_whatever_the_order(pairs: list[Pair], balance: float, random: Any) -> None:
    rows = rows_of(pairs)
    kept, reasons = choose(rows, balance=balance)
    chosen = sum(pairs[row][1] or 0 for row in kept)
    rejected = sum(pairs[row][2] or 0 for row in kept)
    assert chosen <= balance * rejected
    assert rejected <= balance * chosen
    order = list(range(len(pairs)))
    random.shuffle(order)
    assert choose(rows[order], balance=balance) == (kept, reasons)


def test_a_balanced_set_loses_nothing() -> None:
    assert choose(rows_of([(2.0, 10, 10_000), (-2.0, 10_000, 10)]))[0] == {0, 1}
    assert choose(rows_of([]))[0] == set()


def test_the_step_that_measured_must_be_named() -> None:
    rows = rows_of([(2.0, 1, 1)])
    for wrong in (rows.select("row_id", "row_key"), rows.with_columns(pl.col("pref.margin").alias("other.margin"))):
        with pytest.raises(OpError, match=r"one verify\.preference step, .* `where: \[step\]`"):
            choose(wrong)


def test_a_recipe_keeps_balanced_pairs_by_the_judges_margins(tmp_path: Path) -> None:
    long, short = "because " * 30 + "yes", "it is so"
    rows = [{"prompt": f"{number}?", "response_a": short + str(number), "response_b": "no, it is not",
             "say": "[[A>>B]] [[B>>A]]"} for number in range(6)]
    rows.append({"prompt": "long?", "response_a": long, "response_b": "no", "say": "[[A>>B]] [[B>>A]]"})
    rows.append({"prompt": "close?", "response_a": "some say so", "response_b": "no", "say": "[[A=B]] [[A=B]]"})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    # Recorded answers are found by the whole text of a request, so each order has its own.
    recipe = {"recipe": "r", "models": {"judge": {"replay": {"answers": "answers.jsonl"}}}, "steps": {
        "rows": {"op": "source.files", "params": {"paths": ["rows.jsonl"]}},
        "pref": {"op": "verify.preference", "from": "rows", "model": "judge", "params": {"temperature": 0, "votes": 2}},
        "pairs": {"op": "select.preference", "from": "rows", "where": ["pref"], "params": {"balance": 2.0}}}}
    answers = []
    text = (Path(judge_prompts.__file__).parent / "templates" / "preference.txt").read_text("utf-8")
    for row in rows:
        for index, label in enumerate(row["say"].split()):
            first, second = (row["response_a"], row["response_b"])[:: -1 if index else 1]
            chat = judge_prompts.render(text, {"question": row["prompt"], "first": first, "second": second})
            answers.append({"prompt": chat[0]["content"], "answers": [label]})
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(answer) + "\n" for answer in answers))
    (tmp_path / "r.yaml").write_text(json.dumps(recipe))
    report = factory.run(tmp_path / "r.yaml", warehouse=tmp_path / "w", executor="inline")
    assert report.status == "succeeded", report.errors
    made = Warehouse(tmp_path / "w").dataset("r/pairs")
    assert sorted(made.scan().collect()["prompt"]) == [f"{number}?" for number in range(6)]
    reasons = made.table("rejections").collect().sort("reason_code")["reason_code"].to_list()
    assert reasons == ["length_balance", "pref.close"]
