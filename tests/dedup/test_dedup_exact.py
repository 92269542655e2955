"""dedup.exact: which rows share a node, however they are sharded."""

from __future__ import annotations

import random
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.dedup.exact import Exact, ExactParams, normalise_text
from factory.engine.errors import DataError
from factory.engine.op import OpContext


def rows_of(texts: list[str | None], prompts: list[Any] | None = None) -> pl.DataFrame:
    keys = [bytes([255 - at % 256]) * 16 for at in range(len(texts))]
    return pl.DataFrame({"row_id": range(len(texts)), "row_key": keys, "response": texts,
                         "prompt": prompts or ["p"] * len(texts)},
                        schema_overrides={"response": pl.String, "row_key": pl.Binary, "row_id": pl.Int64})


def run(rows: pl.DataFrame, cuts: list[pl.DataFrame] | None = None, **params: Any) -> dict[int, int]:
    given_params = ExactParams(**params)
    partials = [Exact.partial(part, given_params, OpContext()) for part in (cuts if cuts is not None else [rows])]
    tables = Exact.merge(partials, given_params, OpContext())
    assert tables["pairs"].schema == {"left": pl.Int64, "right": pl.Int64, "jaccard": pl.Float64}
    assert tables["pairs"].is_empty()
    assert tables["nodes"].schema == {"row_id": pl.Int64, "node": pl.Int64}
    return dict(tables["nodes"].iter_rows())


def test_equal_texts_share_a_node_named_by_the_smallest_row_key() -> None:
    assert run(rows_of(["a", "b", "a", "c", "a"])) == {0: 4, 2: 4, 4: 4}


@pytest.mark.parametrize(("normalise", "nodes"), [
    ("none", {}), ("whitespace", {0: 1, 1: 1}), ("casefold", {0: 2, 1: 2, 2: 2}),
])
def test_normalisation(normalise: str, nodes: dict[int, int]) -> None:
    assert run(rows_of(["Ab c", " Ab\n c ", "aB C", "abc"]), normalise=normalise) == nodes


def test_scope_bounds_the_comparison() -> None:
    rows = rows_of(["a", "a", "a", "a", "a"], [None, None, "q", "q", "r"])
    assert run(rows, scope="prompt") == {0: 1, 1: 1, 2: 3, 3: 3}
    assert run(rows, scope_column="prompt") == run(rows, scope="prompt")
    messages = [[{"role": "user", "content": text}] for text in "xxy"]
    assert run(rows_of(["a"] * 3, messages), scope="prompt") == {0: 1, 1: 1}


def test_null_takes_no_part_and_empty_texts_are_equal() -> None:
    assert run(rows_of([None, None, "", "", "\0", "\u200b"])) == {2: 3, 3: 3}
    assert run(rows_of([]), cuts=[]) == {}


def test_only_text_is_compared() -> None:
    with pytest.raises(DataError, match="response"):
        run(pl.DataFrame({"row_id": [1], "row_key": [b"a"], "response": [1.5]}))


@given(st.lists(st.sampled_from(["a", "b", " a", "A", "", "ż", None]), max_size=40), st.integers(1, 7), st.randoms())
def test_any_sharding_and_order_give_the_same_tables(texts: list[str | None], width: int, rng: random.Random) -> None:
    rows = rows_of(texts)
    whole = run(rows, normalise="casefold")
    order = list(range(rows.height))
    rng.shuffle(order)
    shuffled = rows[order]
    assert run(rows, [shuffled[at:at + width] for at in range(0, rows.height, width)], normalise="casefold") == whole
    kept = rows.filter(~pl.col("row_id").is_in([row for row, node in whole.items() if row != node]))
    assert run(kept, normalise="casefold") == {}


TEXT = st.one_of(st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
                 st.text(st.sampled_from("aAıIİßẞſsSΣσς \t\u3000\x1c\x85ﬃǰK"), max_size=12))


@given(st.lists(TEXT, max_size=12), st.sampled_from(["none", "whitespace", "casefold"]))
@settings(deadline=None)
def test_equal_is_what_the_definition_says(texts: list[str], how: Any) -> None:
    forms = [normalise_text(text, how) for text in texts]
    nodes = run(rows_of(texts), normalise=how)
    assert {row: nodes.get(row, row) == nodes.get(other, other) for row in range(len(texts)) for other in [0]} == {
        row: forms[row] == forms[0] for row in range(len(texts))}
    assert len(nodes) == sum(forms.count(form) > 1 for form in forms)


def test_several_columns_must_all_be_the_same() -> None:
    rows = rows_of(["a", "a", "b", "a", None, None, None], ["p", "p", "p", "q", "p", "p", None])
    assert run(rows, text=["prompt", "response"]) == {0: 1, 1: 1, 4: 5, 5: 5}
    assert run(rows, text=["response", "prompt"]) == {0: 1, 1: 1, 4: 5, 5: 5}
    assert run(rows_of(["b", "a"], ["a", "b"]), text=["prompt", "response"]) == {}
    assert run(rows_of(["", None], ["a", "a"]), text=["prompt", "response"]) == {}


@pytest.mark.parametrize("text", ["\0" * 999, "\u200b", "🙂" * 50, "שלום עולם " * 50, "x" * 5_000_000, "\u3000" * 99])
@pytest.mark.parametrize("how", ["none", "casefold"])
def test_hostile_rows_survive(text: str, how: Any) -> None:
    assert run(rows_of([text, text, "other"]), normalise=how) == {0: 1, 1: 1}
