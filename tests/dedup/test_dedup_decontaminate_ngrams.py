"""n-gram hits equal the plain definition, on any text, in any batch."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from decontaminate_texts import ODD, any_text, make_items, plain, texts
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.dedup.decontaminate.hits import list_hits
from factory.dedup.decontaminate.index import Index, build_index, open_index
from factory.dedup.decontaminate.items import join_items
from factory.dedup.decontaminate.scan import Runs, search
from factory.dedup.decontaminate.schemas import HITS, ITEMS
from factory.text.buffers import text_buffers

Rows = list[str | None]


def look(rows: Rows, index: Index) -> Runs:
    return search(text_buffers(pl.Series(rows, dtype=pl.String)), index)[0]


def slow_runs(row: list[str], document: list[str], n: int) -> list[tuple[int, int, int]]:
    """(place in the row, place in the document, words) of every maximal common run of at least n words."""
    runs = []
    for at in range(len(row)):
        for place in range(len(document)):
            if at and place and row[at - 1] == document[place - 1]:
                continue
            k = 0
            while at + k < len(row) and place + k < len(document) and row[at + k] == document[place + k]:
                k += 1
            if k >= n:
                runs.append((at, place, k))
    return runs


def grams_found(rows: Rows, documents: list[str], n: int) -> tuple[list[set], list[set]]:
    """The n-grams of each row that the benchmark has: by the runs, and by the plain script."""
    items = make_items(documents)
    index = build_index(items, n)
    words = [plain.words_of(text) for text in index.items["text"]]
    mine: list[set] = [set() for _ in rows]
    runs = look(rows, index)
    for row, document, word, count in zip(runs.row, runs.document, runs.word, runs.words, strict=True):
        mine[row] |= {tuple(words[document][at:at + n]) for at in range(word, word + count - n + 1)}
    return mine, list(plain.hits_of(rows, plain.build_set(items["text"], n), n))


@settings(deadline=None, max_examples=60)
@given(st.lists(any_text, min_size=1, max_size=5), st.lists(texts, min_size=1, max_size=4), st.integers(1, 5))
def test_the_ngrams_hit_are_those_of_the_plain_script(rows, documents, n):
    mine, expected = grams_found(rows, documents, n)
    assert mine == expected


@settings(deadline=None, max_examples=15)
@given(st.lists(texts, min_size=1, max_size=4), st.lists(texts, min_size=1, max_size=3), st.integers(1, 4))
def test_the_ngrams_of_phrases_are_too(rows, documents, n):
    many = [f"{document} x{number}" for document in documents for number in range(70)]
    mine, expected = grams_found([*rows, *documents, many[0], " ".join(many[68:72])], many, n)
    assert mine == expected


@settings(deadline=None, max_examples=60)
@given(texts, texts, st.integers(1, 4))
def test_runs_are_maximal_and_their_spans_hold_the_words(row, document, n):
    index = build_index(make_items([document]), n)
    left, right = plain.words_of(row), plain.words_of(document)
    expected = slow_runs(left, right, n)
    runs = look([row], index)
    found = list(zip(runs.word.tolist(), runs.words.tolist(), strict=True))
    assert set(found) <= {(place, k) for _, place, k in expected}
    assert max((k for _, k in found), default=0) == max((k for _, _, k in expected), default=0)
    for begin, end, word, count in zip(runs.begin, runs.end, runs.word, runs.words, strict=True):
        span = row[begin:end]
        assert plain.words_of(span) == right[word:word + count]
        first = int(index.word_at[0]) + word
        assert plain.words_of(document[index.chars_at[first]:index.chars_to[first + count - 1]]) == right[
            word:word + count]


@settings(deadline=None, max_examples=60)
@given(st.lists(texts, min_size=1, max_size=3), st.lists(texts, min_size=1, max_size=3), st.integers(1, 3))
def test_a_hit_says_how_much_of_the_item_the_row_has(rows, documents, n):
    index = build_index(make_items(documents), n)
    hits = list_hits(look(rows, index), index)
    assert hits.schema == HITS
    by_text = {item: plain.words_of(text) for item, text in index.items.select("item", "text").iter_rows()}
    for hit in hits.iter_rows(named=True):
        words, row = by_text[hit["item"]], plain.words_of(rows[hit["row"]])
        known = {tuple(row[at:at + n]) for at in range(len(row) - n + 1)}
        places = [at for at in range(len(words) - n + 1) if tuple(words[at:at + n]) in known]
        covered = {at + offset for at in places for offset in range(n)}
        assert hit["grams"] == len(places)
        assert hit["share"] == pytest.approx(len(covered) / len(words))
        assert hit["letters"] <= hit["words"]
        assert hit["spread"] >= 1


@settings(deadline=None, max_examples=60)
@given(st.lists(st.one_of(any_text, st.none()), min_size=2, max_size=8), st.lists(texts, min_size=1, max_size=3),
       st.integers(1, 7))
def test_any_cut_into_batches_gives_the_same_runs(rows, documents, cut):
    index = build_index(make_items(documents), 2)
    cut = min(cut, len(rows) - 1)
    whole, left, right = look(rows, index), look(rows[:cut], index), look(rows[cut:], index)
    for name, values in whole._asdict().items():
        shifted = getattr(right, name) + (cut if name == "row" else 0)
        assert values.tolist() == [*getattr(left, name).tolist(), *shifted.tolist()]


def test_more_runs_than_there_is_room_for_at_once():
    documents = [f"alpha {number} beta gamma" for number in range(6000)]
    runs = look([" | ".join(documents), "", documents[7]], build_index(make_items(documents), 2))
    assert (np.bincount(runs.document[runs.row == 0], minlength=6000) >= 1).all()
    assert runs.words[runs.row == 2].max() == 4


def test_a_phrase_of_many_items_is_a_hit_of_the_first_and_an_item_of_its_own_words():
    frame = "solve the problem below step by step what is {} plus one and not two"
    documents = [frame.format(f"x{number}") for number in range(500)]
    index = build_index(make_items(documents), 4)
    runs = look([frame.format("y"), f"so: {frame.format('x321')}", "what is x321 plus"], index)
    assert (runs.row == 0).sum() == 2
    own = np.flatnonzero(runs.words == len(plain.words_of(documents[321])))
    assert index.items["text"][runs.document[own[-1]].item()] == documents[321]
    assert set(runs.row[own].tolist()) == {1}
    assert runs.words[runs.row == 2].tolist() == [4]


@pytest.mark.parametrize("row", [*ODD, "a " * 2_000_000, "好" * 1_700_000, "x" * 5_000_000, "1 2 3 " * 800_000,
                                 "1 2 3 x a a a " * 300_000])
def test_odd_and_long_rows_have_a_defined_result(row):
    index = build_index(make_items(["a a a a a a", "1 2 3 1 2 3", "好好好好"]), 3)
    runs = look([row, None, "a a a"], index)
    assert set(runs.row.tolist()) <= {0, 2}
    assert (runs.row == 2).sum() == 4  # at each place of the first document
    assert len(runs.row) < 30


def test_chinese_is_compared_by_characters():
    problem = "妈咪买了3盒茶叶，一盒茶叶有6小包，一共买了多少小包茶叶？"
    row = f"好的，题目是：{problem}我们来算。"
    runs = look([row], build_index(make_items([problem]), 13))
    assert row[runs.begin[0]:runs.end[0]] == problem[:-1]
    assert list(plain.simple_hits([row], plain.simple_set([problem], 13), 13)) == [False]


def test_an_index_of_nothing_hits_nothing():
    index = build_index(pl.DataFrame(schema=ITEMS), 8)
    assert len(look(["a b c d e f g h i"], index).row) == 0
    assert list_hits(look(["a"], index), index).schema == HITS
    assert build_index(make_items(["too short"]), 8).too_short == 1


def test_the_index_on_disk_is_the_one_in_memory(tmp_path, monkeypatch):
    items = make_items(["the quick brown fox jumps over", "lazy dogs sleep all the day long"])
    built = build_index(items, 3)
    monkeypatch.setattr("factory.dedup.decontaminate.index._READY", {})
    stored = open_index(items, 3, tmp_path)
    again = open_index(items.reverse().pipe(lambda frame: join_items([frame])), 3, tmp_path)
    assert again is stored
    assert len(list(tmp_path.iterdir())) == 1
    assert not stored.values.flags.writeable
    row = ["see the QUICK brown fox jumps; lazy dogs sleep"]
    for name, values in look(row, built)._asdict().items():
        assert values.tolist() == getattr(look(row, stored), name).tolist()
    open_index(items, 4, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_damaged_index_on_disk_is_made_again(tmp_path, monkeypatch):
    items = make_items(["the quick brown fox jumps over"])
    open_index(items, 3, tmp_path)
    file = next(tmp_path.glob("*/values.npy"))
    for raw in (file.read_bytes()[:-8], file.read_bytes()[:-8] + bytes(8)):
        file.chmod(0o644)
        file.write_bytes(raw)
        monkeypatch.setattr("factory.dedup.decontaminate.index._READY", {})
        assert open_index(items, 3, tmp_path).values.tolist() == build_index(items, 3).values.tolist()
        assert file.read_bytes() != raw
