"""The op on rows: which it refuses, with what reason and evidence, and what a report says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from decontaminate_texts import ODD, any_text, keyed
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.dedup.decontaminate import Decontaminate, DecontaminateParams
from factory.dedup.decontaminate.judge import find_hits, open_benchmarks
from factory.dedup.decontaminate.op import _out
from factory.dedup.decontaminate.report import REPORT, report_hits
from factory.dedup.decontaminate.schemas import ITEMS
from factory.engine.errors import DataError
from factory.engine.gathered import Gathered, GatheredPart
from factory.engine.op import OpContext

PROBLEM = "Tom has 12 apples and gives 5 of them to Ann; how many apples does Tom have left to eat today?"
QUESTION = DecontaminateParams(items={"prompt": "question"})


def gather(params: DecontaminateParams, *parts: tuple[str, pl.DataFrame], tmp: Any = None) -> dict[str, pl.DataFrame]:
    """The tables of benchmarks given as (ref, rows)."""
    def part(ref: str, rows: pl.DataFrame) -> GatheredPart:
        partial = Decontaminate.partial(rows, params, OpContext())
        return GatheredPart(-1, False, lambda _columns: partial, (ref,))

    gathered = Gathered(tuple(part(*each) for each in parts), lambda ids: pl.DataFrame(), tmp)
    return Decontaminate.gather(gathered, params, OpContext())


def two_benchmarks(params: DecontaminateParams = QUESTION) -> dict[str, pl.DataFrame]:
    return gather(params, ("gsm@3", keyed({"question": [PROBLEM, None]})),
                  ("other@1", keyed({"question": ["Something else"]})))


def judge(rows: pl.DataFrame, tables: dict[str, pl.DataFrame], params: DecontaminateParams) -> pl.DataFrame:
    return Decontaminate.decide(rows, tables, params, OpContext())


def test_rows_are_refused_by_the_default_rule_and_others_by_where() -> None:
    params = DecontaminateParams(parts={"prompt": "prompt", "trace": "response"}, items={"prompt": "question"})
    rows = keyed({"prompt": [PROBLEM.upper(), PROBLEM.replace("12", "30"), None, "hello", "x", " \n"],
                  "response": [None, "42", None, f"They ask: {PROBLEM} So", PROBLEM[:50], ""]})
    tables = two_benchmarks()
    scores = judge(rows, tables, params)
    assert scores["reason_code"].to_list() == [
        "benchmark_prompt", "benchmark_text", "no_text", "benchmark_text", None, "no_text"]
    assert scores["passed"].to_list() == [False, False, None, False, True, None]
    assert {name: scores.schema[name] for name in _out(params)} == _out(params)
    assert scores["prompt_longest"].to_list() == [21, 18, None, 0, 0, None]
    assert scores["trace_longest"].to_list() == [0, 0, None, 21, 12, None]
    last = scores.row(4, named=True)
    assert (last["longest"], last["contaminated"], last["hit_count"]) == (12, False, 1)
    hit = last["hits"][0]
    assert (hit["benchmark"], hit["item"], hit["part"], hit["counts"]) == ("gsm", b"0".hex(), "trace", False)
    assert len(hit["revision"]) == 12
    whole = [judge(rows[at:at + 1], tables, params) for at in range(rows.height)]
    assert pl.concat(whole).equals(scores)
    by_words = judge(rows, tables, params.model_copy(update={"words": 10}))
    assert by_words["passed"].to_list() == [False, False, None, False, False, None]
    templates = judge(rows, tables, params.model_copy(update={"modes": ("digits",)}))
    assert templates["reason_code"].to_list() == [None, "benchmark_template", "no_text", None, None, "no_text"]


def test_thinking_and_answer_are_checked_apart_and_places_are_those_of_the_response() -> None:
    params = DecontaminateParams(parts={"thinking": "response", "answer": "response"}, items={"prompt": "question"})
    responses = [f"<think>é {PROBLEM}</think>x", f"<think>x</think>\n{PROBLEM}", f"é {PROBLEM}", "<think>", None,
                 f"<think>a</think>b <think>c</think> {PROBLEM} <answer>d"]
    scores = judge(keyed({"response": responses}), two_benchmarks(), params)
    assert scores["thinking_longest"].to_list() == [21, 0, 0, 0, None, 0]
    assert scores["answer_longest"].to_list() == [0, 21, 21, 0, None, 0]
    for response, hits in zip(responses, scores["hits"].to_list(), strict=True):
        for hit in hits or ():
            assert response[hit["begin"]:hit["end"]] == PROBLEM.rstrip("?")


def test_every_benchmark_that_has_the_prompt_is_named() -> None:
    tables = gather(QUESTION, ("b@1", keyed({"question": ["What is 2+3?", "Who?"]})),
                    ("a@1", keyed({"question": ["x", "what is 2+3?"]})))
    scores = judge(keyed({"prompt": ["WHAT is 2+3?", "What is 2-3?"]}), tables, QUESTION)
    assert scores["modes"].to_list() == [["exact", "near"], ["near"]]
    assert scores["contaminated"].to_list() == [True, False]
    assert scores["hits"].list.eval(pl.element().struct.field("benchmark")).to_list() == [
        ["a", "b", "a", "b"], ["a", "b"]]
    assert judge(keyed({"prompt": ["What is 7+3?"]}), tables, QUESTION)["modes"].to_list() == [["digits"]]


def test_a_template_of_many_items_is_one_hit() -> None:
    items = keyed({"question": [f"What is {number} + 1?" for number in range(2000)]})
    scores = judge(keyed({"prompt": ["What is 7.5 + 1?"] * 50}), gather(QUESTION, ("b@1", items)), QUESTION)
    assert scores["modes"].to_list() == [["digits"]] * 50
    assert scores["hit_count"].to_list() == [1] * 50


def test_a_revision_is_what_a_benchmark_says() -> None:
    rows = keyed({"question": [PROBLEM, "Something else"]})

    def revision(*parts: tuple[str, pl.DataFrame]) -> list[str]:
        return gather(QUESTION, *parts)["items"]["revision"].unique(maintain_order=True).to_list()

    once = revision(("a@1", rows))
    assert revision(("b@7", rows[1:]), ("b@7", rows[:1]), ("b@7", rows)) == once
    assert revision(("a@1", rows[1:])) != once
    named = QUESTION.model_copy(update={"item": "question"})
    assert set(gather(named, ("a@1", rows))["items"]["item"]) == {PROBLEM, "Something else"}


def test_only_text_is_compared() -> None:
    numbers = pl.DataFrame({"row_id": [1], "row_key": [b"k"], "prompt": [1]})
    with pytest.raises(DataError, match=r"'prompt' has type Int64.*params\.items"):
        Decontaminate.partial(numbers, DecontaminateParams(), OpContext())
    with pytest.raises(DataError, match=r"'prompt' has type Int64.*params\.parts"):
        judge(numbers, two_benchmarks(), DecontaminateParams())
    with pytest.raises(DataError, match="none of the columns 'question'"):
        Decontaminate.partial(numbers, QUESTION, OpContext())


def test_a_benchmark_without_rows_refuses_nothing() -> None:
    scores = judge(keyed({"prompt": ["a b c", "x" * 10]}), {}, QUESTION)
    assert scores["passed"].to_list() == [True, True]
    assert scores["hit_count"].to_list() == [0, 0]
    assert judge(keyed({"prompt": []}), two_benchmarks(), QUESTION).height == 0


@settings(deadline=None, max_examples=25)
@given(st.lists(st.none() | any_text, min_size=1, max_size=6), st.lists(any_text, max_size=4), st.integers(1, 5))
def test_any_cut_gives_the_same_scores(rows: list[str | None], items: list[str], cut: int) -> None:
    params = DecontaminateParams(parts={"prompt": "a", "thinking": "a"}, items={"prompt": "question"}, ngram=3, words=3)
    batch, benchmark = keyed({"a": [*rows, *ODD]}), keyed({"question": items})
    scores = judge(batch, gather(params, ("b@1", benchmark)), params)
    assert scores["row_id"].to_list() == batch["row_id"].to_list()
    assert scores["passed"].is_null().to_list() == [not (text or "").strip() for text in batch["a"].to_list()]
    tables = gather(params, ("b@1", benchmark[cut:]), ("b@1", benchmark[:cut]))
    pieces = [judge(batch[at:at + cut], tables, params) for at in range(0, batch.height, cut)]
    assert pl.concat(pieces).equals(scores)


def test_long_and_odd_rows_get_a_verdict() -> None:
    rows = keyed({"prompt": ["a " * 2_500_000, "好" * 1_700_000, "x" * 5_000_000, "1 2 " * 1_200_000, *ODD,
                             f"\u202e{PROBLEM}\u0000"]})
    scores = judge(rows, two_benchmarks(), QUESTION)
    assert scores["passed"].to_list()[:4] == [True] * 4
    assert scores["passed"].to_list()[-1] is False


def test_the_index_of_large_benchmarks_is_kept_where_there_is_room(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = "factory.dedup.decontaminate"
    monkeypatch.setattr(f"{room}.judge.WORTH_KEEPING", 0)
    expected = judge(keyed({"prompt": [PROBLEM]}), two_benchmarks(), QUESTION)
    (tmp_path / "file").touch()
    for folder in ("cache", "file/below"):  # below a file nothing can be made
        monkeypatch.setattr(f"{room}.index._READY", {})
        monkeypatch.setenv("FACTORY_CACHE_DIR", str(tmp_path / folder))
        assert judge(keyed({"prompt": [PROBLEM]}), two_benchmarks(), QUESTION).equals(expected)
    assert len(list((tmp_path / "cache" / "decontaminate").iterdir())) == 1


def test_the_report_names_every_benchmark() -> None:
    items = two_benchmarks()["items"]
    hits = find_hits(pl.DataFrame({"prompt": [PROBLEM, "no"]}), {"prompt": "prompt"}, open_benchmarks(items, 8), 0.8)
    hits = hits.with_columns(row_id="row", counts=pl.col("mode") != "near")
    report = report_hits(hits, items)
    assert report.schema == REPORT
    counted = report.select("benchmark", "items", "items_hit", "rows_hit", "rows_counted")
    assert counted.rows() == [("gsm", 1, 1, 1, 1), ("other", 1, 0, 0, 0)]
    assert {entry["mode"] for entry in report["by"][0]} == {"ngram", "exact", "near"}
    assert report["examples"][0][0]["text"] == PROBLEM.rstrip("?")
    assert report_hits(hits.clear(), items)["rows_hit"].to_list() == [0, 0]
    assert report_hits(hits.clear(), pl.DataFrame(schema=ITEMS)).height == 0


def test_declaring_the_op_imports_no_compiler() -> None:
    code = "import sys, factory.dedup.decontaminate; sys.exit('numba' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
