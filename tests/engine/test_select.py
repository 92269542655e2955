"""`select.rejection` and `where`: which rows go, for which reasons, in which order; and that only content decides."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from labs import Lab

import factory
from factory.engine.errors import RecipeError

NAN = float("nan")
Texts = Callable[..., dict[str, Any]]


def marked(texts: Texts, rows: dict[str, dict[str, Any]], **more: Any) -> dict[str, Any]:
    """Rows named by their text, each with the marks a scorer will give it."""
    return texts(*rows, marks=[json.dumps(marks) for marks in rows.values()], **more)


def select(
    lab: Lab,
    source: dict[str, Any],
    where: list[Any],
    executor: str = "inline",
    *,
    steps: dict[str, Any] | None = None,
    warehouse: str = "w",
    seed: int = 0,
    **params: Any,
) -> Any:
    """Run a select step over `rows` and return its dataset."""
    lenient = {"max_failed": 1.0}
    made = {"rows": source, "marks": {"op": "test.marks", "from": "rows", "runtime": lenient}, **(steps or {}),
            "chosen": {"op": "select.rejection", "from": "rows", "where": where, "params": params}}
    report = lab.run(made, executor, warehouse=warehouse, seed=seed)
    assert report.status == "succeeded", report.errors
    return lab.dataset("chosen", warehouse)


def kept(chosen: Any) -> list[str]:
    return sorted(chosen.scan().collect()["text"].to_list())


def reasons(chosen: Any) -> dict[str, list[tuple[str, bool]]]:
    """Text of each rejected row -> its reasons in order, with whether it is the one that counts."""
    named = dict(chosen.contents[0].scan().select("row_id", "text").collect().iter_rows())
    found: dict[str, list[tuple[str, bool]]] = {}
    for row_id, code, primary in (
        chosen.table("rejections").select("row_id", "reason_code", "primary").collect().iter_rows()
    ):
        found.setdefault(named[row_id], []).append((code, primary))
    return found


GRADED = {
    "five": {"grade": 5, "ratio": 0.5, "word": "b", "flag": True},
    "six": {"grade": 6, "ratio": 0.6, "word": "c", "flag": False},
    "four": {"grade": 4, "ratio": 0.4, "word": "a", "flag": False},
    "null": {},
}


@pytest.mark.parametrize(
    ("column", "test", "expected"),
    [
        ("grade", {"ge": 5}, ["five", "six"]),
        ("grade", {"gt": 5}, ["six"]),
        ("grade", {"le": 5}, ["five", "four"]),
        ("grade", {"lt": 5}, ["four"]),
        ("grade", {"eq": 5}, ["five"]),
        ("grade", {"in": [4, 6]}, ["four", "six"]),
        ("grade", {"ge": 5, "lt": 6}, ["five"]),
        ("ratio", {"ge": 0.5}, ["five", "six"]),
        ("ratio", {"gt": 0}, ["five", "four", "six"]),
        ("ratio", {"in": [0.4]}, ["four"]),
        ("word", {"eq": "b"}, ["five"]),
        ("word", {"in": ["a", "c"]}, ["four", "six"]),
        ("word", {"lt": "b"}, ["four"]),
        ("flag", {"eq": True}, ["five"]),
        ("flag", {"in": [False]}, ["four", "six"]),
    ],
)
def test_comparisons_on_typed_columns(
    column: str, test: dict[str, Any], expected: list[str], lab: Lab, texts: Texts
) -> None:
    chosen = select(lab, marked(texts, GRADED), [{"marks": {column: test}}])
    assert kept(chosen) == expected
    assert reasons(chosen)["null"][0] == ("marks.undecided", True)
    assert chosen.manifest.counts.balanced
    lenient = select(lab, marked(texts, GRADED), [{"marks": {column: test, "undecided": "keep"}}])
    assert kept(lenient) == sorted([*expected, "null"])


@pytest.mark.parametrize(
    ("column", "test"),
    [
        ("grade", {"ge": "five"}),
        ("word", {"ge": 5}),
        ("word", {"in": ["a", 1]}),
        ("flag", {"eq": "yes"}),
        ("ratio", {"in": ["a"]}),
    ],
)
def test_a_comparison_that_can_never_hold_is_found_before_anything_runs(
    column: str, test: dict[str, Any], lab: Lab, texts: Texts
) -> None:
    steps = {"rows": marked(texts, GRADED), "marks": {"op": "test.marks", "from": "rows"},
             "chosen": {"op": "select.rejection", "from": "rows", "where": [{"marks": {column: test}}]}}
    with pytest.raises(RecipeError, match=column):
        factory.plan(lab.recipe(steps))


def test_not_a_number_is_no_measurement(lab: Lab, texts: Texts) -> None:
    rows = marked(texts, {"nan": {"ratio": NAN}, "high": {"ratio": 0.9}})
    chosen = select(lab, rows, [{"marks": {"ratio": {"ge": 0.5}}}])
    assert kept(chosen) == ["high"]
    assert reasons(chosen) == {"nan": [("marks.undecided", True)]}


JUDGED = {"good": {"passed": True}, "bad": {"passed": False, "reason_code": "wrong"}, "plain": {"passed": False},
          "unsure": {}, "broken": {"_failed": "timeout: too slow"}}


@pytest.mark.parametrize(("entry", "expected"), [
    ("marks", ["good"]), ({"marks": {"undecided": "reject"}}, ["good"]),
    ({"marks": {"undecided": "keep"}}, ["broken", "good", "unsure"])])
def test_the_default_rule(entry: Any, expected: list[str], lab: Lab, texts: Texts, executor: str) -> None:
    chosen = select(lab, marked(texts, JUDGED), [entry], executor)
    assert kept(chosen) == expected
    codes = {text: [code for code, _ in found] for text, found in reasons(chosen).items()}
    every = {
        "bad": ["marks.wrong"],
        "plain": ["marks.refused"],
        "unsure": ["marks.undecided"],
        "broken": ["marks.not_scored"],
    }
    assert codes == {text: found for text, found in every.items() if text not in expected}
    counted = chosen.manifest.counts
    assert (counted.owed, counted.kept, counted.rejected) == (5, len(expected), 5 - len(expected))


def test_a_row_whose_scoring_failed_says_so_under_a_comparison_too(lab: Lab, texts: Texts) -> None:
    chosen = select(lab, marked(texts, {"a": {"grade": 1}, **JUDGED}), [{"marks": {"grade": {"ge": 1}}}])
    assert reasons(chosen)["broken"] == [("marks.not_scored", True)]
    assert reasons(chosen)["unsure"] == [("marks.undecided", True)]


def test_every_failing_reason_is_stored_and_the_first_in_order_counts(lab: Lab, texts: Texts, executor: str) -> None:
    rows = marked(
        texts,
        {
            "both": {"grade": 1, "passed": False, "reason_code": "wrong"},
            "grade": {"grade": 1, "passed": True},
            "fine": {"grade": 9, "passed": True},
        },
    )
    where = [{"marks": {"grade": {"ge": 3, "gt": 2}}}, {"size": {"shape": {"eq": "long"}}}]
    steps = {"size": {"op": "test.size", "from": "rows"}}
    chosen = select(lab, rows, where, executor, steps=steps)
    assert reasons(chosen) == {
        text: [("marks.grade", True), ("marks.grade", False), ("size.shape", False)] for text in ("both", "grade")} | {
        "fine": [("size.shape", True)]}
    assert chosen.manifest.counts.reasons == {"marks.grade": 2, "size.shape": 1}
    turned = select(lab, rows, where[::-1], executor, steps=steps)
    assert turned.manifest.counts.reasons == {"size.shape": 3}
    assert reasons(turned)["both"][0] == ("size.shape", True)
    table = turned.table("rejections").collect()
    assert set(table.filter(reason_code="marks.grade").select("gate", "score", "threshold").rows()) == {
        ("marks", 1.0, 3.0), ("marks", 1.0, 2.0)}


NEAR = {"twins": {"op": "test.pairs", "from": "rows"}}
CHAIN = {"A": "B=0.9", "B": "C=0.85", "C": "", "D": "C=0.7", "E": ""}


def test_a_chain_is_one_component_and_one_row_of_it_stays(lab: Lab, texts: Texts, executor: str) -> None:
    rows = texts(*CHAIN, near=list(CHAIN.values()), marks=["{}"] * 5)
    chosen = select(lab, rows, ["twins"], executor, steps=NEAR)
    (first,) = set(kept(chosen)) & {"A", "B", "C"}
    assert kept(chosen) == sorted([first, "D", "E"])
    gone = chosen.table("rejections").collect()
    stays = chosen.scan().select("row_id", "text").collect().filter(text=first)["row_id"][0]
    assert set(gone["kept_row_id"]) == {stays}
    assert set(gone["reason_code"]) == {"twins.duplicate"}
    assert set(gone["threshold"]) == {0.8}
    assert kept(select(lab, rows, [{"twins": {"jaccard": {"lt": 0.7}}}], executor, steps=NEAR))[-1] == "E"
    assert len(kept(select(lab, rows, [{"twins": {"jaccard": {"lt": 0.7}}}], executor, steps=NEAR))) == 2
    assert len(kept(select(lab, rows, [{"twins": {"jaccard": {"lt": 0.85}}}], executor, steps=NEAR))) == 3
    assert len(kept(select(lab, rows, [{"twins": {"jaccard": {"le": 0.85}}}], executor, steps=NEAR))) == 4
    assert len(kept(select(lab, rows, [{"twins": {"jaccard": {"le": 0.9}}}], executor, steps=NEAR))) == 5


@pytest.mark.parametrize("wrong", ["A", "B", "C"])
def test_a_wrong_twin_never_ousts_a_right_one(wrong: str, lab: Lab, texts: Texts) -> None:
    rows = texts(*CHAIN, near=list(CHAIN.values()), marks=[json.dumps({"passed": text != wrong}) for text in CHAIN])
    chosen = select(lab, rows, ["marks", "twins"], steps=NEAR)
    left = set(kept(chosen)) & {"A", "B", "C"}
    if wrong == "B":  # it was the bridge: A and C resemble only B
        assert left == {"A", "C"}
    else:
        assert len(left) == 1
        assert wrong not in left
    assert reasons(chosen)[wrong] == [("marks.refused", True)]


def test_dedup_before_a_rule_may_keep_the_wrong_twin_and_does_not_hide_it(lab: Lab, texts: Texts) -> None:
    rows = texts(
        "same", "same", "other", near=["", "", ""], marks=['{"passed": false}', '{"passed": true}', '{"passed": true}']
    )
    assert kept(select(lab, rows, ["marks", "twins"], steps=NEAR)) == ["other", "same"]
    chosen = select(lab, rows, ["twins", "marks"], steps=NEAR)
    counted = chosen.manifest.counts
    assert counted.owed == counted.kept + counted.rejected == 3
    assert counted.reasons["twins.duplicate"] == 1


WORDS = ("a b c d", "e f g h", "i j k l", "e f g h")


def per_prompt(lab: Lab, texts: Texts, executor: str, warehouse: str, *, splits: int, shard_rows: int, seed: int = 0,
               turned: bool = False, **params: Any) -> Any:
    """Words of a text, and how many of each text stay."""
    rows = WORDS[::-1] if turned else WORDS
    steps = {"rows": texts(*rows, splits=splits),
             "samples": {"op": "test.letters", "from": "rows", "runtime": {"shard_rows": shard_rows}},
             "chosen": {"op": "select.rejection", "from": "samples", "params": {"length": "size", **params}}}
    report = lab.run(steps, executor, warehouse=warehouse, seed=seed)
    assert report.status == "succeeded", report.errors
    return lab.dataset("chosen", warehouse)


def picked(chosen: Any) -> list[tuple[str, str]]:
    return sorted(chosen.scan().select("text", "letter").collect().rows())


@pytest.mark.parametrize(("prefer", "sizes"), [("shortest", {1, 2}), ("longest", {3, 4}), ("random", None)])
def test_keep_per_prompt_is_decided_by_content_alone(
    prefer: str, sizes: set[int] | None, lab: Lab, texts: Texts
) -> None:
    first = per_prompt(lab, texts, "inline", "a", splits=1, shard_rows=9, keep_per_prompt=2, prefer=prefer)
    assert [len(picked(first)), first.manifest.counts.rejected] == [8, 8]
    assert first.manifest.counts.reasons == {"keep_per_prompt": 8}
    if sizes is not None:
        assert set(first.scan().collect()["size"]) == sizes
    others = [
        per_prompt(lab, texts, "local", "b", splits=4, shard_rows=1, keep_per_prompt=2, prefer=prefer),
        per_prompt(lab, texts, "inline", "c", splits=2, shard_rows=3, turned=True, keep_per_prompt=2, prefer=prefer),
    ]
    for other in others:
        assert other.manifest.content_hash == first.manifest.content_hash
        assert picked(other) == picked(first)


def test_the_seed_draws(lab: Lab, texts: Texts) -> None:
    drawn = {tuple(picked(per_prompt(lab, texts, "inline", "w", splits=1, shard_rows=9, seed=seed, keep_per_prompt=1)))
             for seed in range(6)}
    assert len(drawn) > 1


def test_a_row_without_a_length_is_the_least_preferred(lab: Lab, texts: Texts) -> None:
    for prefer in ("shortest", "longest"):
        chosen = per_prompt(lab, texts, "inline", "w", splits=1, shard_rows=9, keep_per_prompt=4, prefer=prefer)
        assert len(picked(chosen)) == 16
        steps = {"rows": texts("q w"), "samples": {"op": "test.letters", "from": "rows", "params": {"unknown": "q"}},
                 "chosen": {"op": "select.rejection", "from": "samples",
                            "params": {"length": "size", "prefer": prefer, "keep_per_prompt": 1}}}
        assert lab.run(steps, warehouse=prefer).status == "succeeded"
        assert lab.dataset("chosen", prefer).scan().collect()["letter"].to_list() == ["w"]


def test_a_choice_from_a_choice_and_from_two_datasets(lab: Lab, texts: Texts, executor: str) -> None:
    steps = {"a": texts("x", "y"), "b": texts("y", "z"), "mixed": {"op": "select.rejection", "from": ["a", "b"]},
             "size": {"op": "test.size", "from": "mixed"},
             "again": {"op": "select.rejection", "from": "mixed", "where": [{"size": {"length": {"le": 1}}}]},
             "loud": {"op": "test.shout", "from": "again"}}
    report = lab.run(steps, executor)
    assert report.status == "succeeded", report.errors
    assert kept(lab.dataset("mixed")) == ["x", "y", "y", "z"]
    assert lab.dataset("loud").scan().select("text", "loud").collect().sort("text").rows() == [
        ("x", "X"), ("y", "Y"), ("y", "Y"), ("z", "Z")]


def test_a_table_that_judges_no_row_cannot_be_a_rule(lab: Lab, texts: Texts) -> None:
    steps = {"rows": texts("a"), "table": {"op": "test.table", "from": "rows"},
             "chosen": {"op": "select.rejection", "from": "rows", "where": ["table"]}}
    with pytest.raises(RecipeError, match="table"):
        factory.plan(lab.recipe(steps))
