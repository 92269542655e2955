"""Identity of documents and of content.

A digest depends on what a value says and on nothing else: not on the order of keys, not on tuple or list, not on `1` or
`1.0`. A content hash is that of a multiset of rows: no order, sharding or grouping changes it, any changed cell does.
"""

from __future__ import annotations

import json
import math
import random
from typing import Any

import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from factory.engine.identity import AnswerKeys, canonical, canonical_json, difference, digest, seed_of
from warehouse.content import EMPTY, ContentHash, hash_frame, hash_rows, row_keys

FINITE = st.floats(allow_nan=False, allow_infinity=False)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers(-2**70, 2**70) | FINITE | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12)
CELLS: dict[str, tuple[pl.DataType, st.SearchStrategy[Any]]] = {
    "text": (pl.String(), st.text(max_size=6)),
    "whole": (pl.Int64(), st.integers(-2**63, 2**63 - 1)),
    "real": (pl.Float64(), st.floats()),
    "flag": (pl.Boolean(), st.booleans()),
    "raw": (pl.Binary(), st.binary(max_size=6)),
    "list": (pl.List(pl.String()), st.lists(st.text(max_size=3), max_size=3)),
    "pair": (pl.Struct({"a": pl.Int64(), "b": pl.String()}),
             st.fixed_dictionaries({"a": st.integers(-9, 9), "b": st.none() | st.text(max_size=3)})),
}
ROWS = st.lists(st.fixed_dictionaries({name: st.none() | cells for name, (_, cells) in CELLS.items()}), max_size=8)
KEYS = ["b336459b4dec4143ae6224fa833798cd", "bdda4066f4c4c78495d8654d73b766bf"]
HASH = "mset256:3:fcdf10bba6a260108fc444e26fce3bec530e42f361a416ad9f82dee0357d41fc"


def frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame({name: pl.Series(name, [row[name] for row in rows], dtype=dtype)
                         for name, (dtype, _) in CELLS.items()})


def shuffled(value: Any, seed: int) -> Any:
    """The same document, its keys in another order, its lists as tuples."""
    if isinstance(value, dict):
        items = [(key, shuffled(item, seed)) for key, item in value.items()]
        random.Random(seed).shuffle(items)
        return dict(items)
    return tuple(shuffled(item, seed) for item in value) if isinstance(value, list) else value


@settings(deadline=None)
@given(DOCUMENTS, st.integers(0, 9))
def test_digest_ignores_how_a_document_is_written(document: Any, seed: int) -> None:
    assert digest(shuffled(document, seed)) == digest(document)
    assert digest(json.loads(canonical_json(document))) == digest(document)
    assert canonical(canonical(document)) == canonical(document)


@settings(deadline=None)
@given(DOCUMENTS, DOCUMENTS)
def test_documents_that_differ_have_other_digests(left: Any, right: Any) -> None:
    assume(canonical_json(left) != canonical_json(right))
    assert digest(left) != digest(right)
    assert difference(canonical({"v": left}), canonical({"v": right}))
    assert not difference(canonical({"v": left}), canonical({"v": left}))


def test_numbers_and_flags() -> None:
    assert digest({"n": 1}) == digest({"n": 1.0}) == digest({"n": 1e0})
    assert digest({"n": 0.0}) == digest({"n": -0.0})
    assert len({digest(value) for value in (1, True, "1", [1], {"1": 1}, None, 1.5, b"1")}) == 8


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, {1, 2}, object(), {1: "a"}, pl.Series([1])],
                         ids=lambda value: type(value).__name__)
def test_what_has_no_stable_form_is_refused_by_its_place(value: Any) -> None:
    with pytest.raises(TypeError, match=r"\$\.a\[1\]\.b.*no stable form"):
        canonical({"a": [0, {"b": value}]})


@settings(deadline=None)
@given(st.text(), st.binary(min_size=16, max_size=16), st.integers(0, 3), st.integers(0, 3))
def test_answer_keys_differ_by_each_of_their_parts(prompt: str, row: bytes, occurrence: int, slot: int) -> None:
    keys = AnswerKeys({"model": "m"}, 7)
    key = keys.key({"prompt": prompt}, row, occurrence, slot)
    assert AnswerKeys({"model": "m"}, 7).key({"prompt": prompt}, row, occurrence, slot) == key
    others = [keys.key({"prompt": prompt + "x"}, row, occurrence, slot),
              keys.key({"prompt": prompt}, row[1:] + bytes([row[0] ^ 1]), occurrence, slot),
              keys.key({"prompt": prompt}, row, occurrence + 1, slot),
              keys.key({"prompt": prompt}, row, occurrence, slot + 1),
              AnswerKeys({"model": "m"}, 8).key({"prompt": prompt}, row, occurrence, slot),
              AnswerKeys({"model": "n"}, 7).key({"prompt": prompt}, row, occurrence, slot)]
    assert len({key, *others}) == 7
    assert 0 <= seed_of(key) < 2**63


@settings(deadline=None)
@given(ROWS, st.randoms(use_true_random=False), st.integers(1, 4))
def test_content_hash_ignores_order_and_grouping(rows: list[dict[str, Any]], chance: random.Random,
                                                 shards: int) -> None:
    whole = hash_rows(row_keys(frame(rows), list(CELLS)))
    mixed = list(rows)
    chance.shuffle(mixed)
    parts = [hash_rows(row_keys(frame(mixed[start::shards]), list(reversed(CELLS)))) for start in range(shards)]
    assert sum(parts, EMPTY) == whole
    assert ContentHash.parse(str(whole)) == whole
    assert whole - parts[0] + parts[0] == whole
    assert whole.rows == len(rows)


@settings(deadline=None)
@given(ROWS.filter(bool), st.data())
def test_any_changed_cell_changes_key_and_hash(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    index, column = data.draw(st.integers(0, len(rows) - 1)), data.draw(st.sampled_from(sorted(CELLS)))
    value = data.draw(st.none() | CELLS[column][1])
    assume(repr(value) != repr(rows[index][column]))
    changed = [*rows[:index], {**rows[index], column: value}, *rows[index + 1:]]
    before, after = frame(rows), frame(changed)
    assert row_keys(before, list(CELLS))[index] != row_keys(after, list(CELLS))[index]
    assert hash_rows(row_keys(before, list(CELLS))) != hash_rows(row_keys(after, list(CELLS)))
    keyed = [table.with_columns(row_key=pl.lit(b"same")) for table in (before, after)]
    assert hash_frame(keyed[0], columns=[column]) != hash_frame(keyed[1], columns=[column])


@settings(deadline=None)
@given(st.lists(st.text(max_size=4), min_size=2, max_size=2), st.integers(1, 3))
def test_text_cannot_move_from_one_column_to_the_next(pair: list[str], cut: int) -> None:
    joined = "".join(pair)
    other = [joined[:cut], joined[cut:]]
    assume(other != pair)
    assert row_keys(pl.DataFrame({"a": [pair[0]], "b": [pair[1]]}), ["a", "b"]) != row_keys(
        pl.DataFrame({"a": [other[0]], "b": [other[1]]}), ["a", "b"])


def test_numbers_that_are_none_have_stable_keys() -> None:
    values = [math.nan, math.inf, -math.inf, None, 0.0]
    keys = row_keys(pl.DataFrame({"x": values}), ["x"])
    assert len(set(keys)) == 5
    assert row_keys(pl.DataFrame({"x": [float("nan") * -1]}), ["x"]) == keys[:1]


def test_keys_of_rows_are_these() -> None:
    """Stored in every warehouse: a change here orphans all of them."""
    table = pl.DataFrame({"b": ["ä", None], "a": [1, 2], "c": [[1.5, None], []]})
    assert [key.hex() for key in row_keys(table, table.columns)] == KEYS
    assert row_keys(table, table.columns, [b"p", b"p"]) != row_keys(table, table.columns)
    assert str(hash_rows([b"x", b"x", b"y"])) == HASH
