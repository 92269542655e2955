"""What the measuring filters keep: a verdict for every row, the same for any sharding and executor; texts untouched."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import factory
from factory.engine.errors import DataError
from factory.engine.op import SCORE_SCHEMA, OpContext
from factory.filters import code_blocks, length, paragraphs, repetition, structure

Filter = Callable[[pl.DataFrame], pl.DataFrame]
FILTERS: dict[str, Filter] = {
    "length": lambda batch: length.length(batch, length.LengthParams(max_chars=50), OpContext()),
    "paragraphs": lambda batch: paragraphs.paragraphs(batch, paragraphs.ParagraphsParams(wall_chars=9), OpContext()),
    "code_blocks": lambda batch: code_blocks.code_blocks(
        batch, code_blocks.CodeBlocksParams(allow_in_answer=False, min_bare_lines=1), OpContext()),
    "repetition": lambda batch: repetition.repetition(batch, repetition.RepetitionParams(min_words=2), OpContext()),
    "structure": lambda batch: structure.structure(batch, structure.StructureParams(), OpContext()),
}
EACH = pytest.mark.parametrize("measure", FILTERS.values(), ids=FILTERS)
PIECE = st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", "```\n", "x = f(a_b)\n", "ab ab ", "\n\n",
                         ". ", "好", "é", "👍", "\u200b", "\x00", "שלום ", "</s>", "I cannot help with that.",
                         "$x$", "  "])
TEXT = st.none() | st.lists(PIECE, max_size=30).map("".join) | st.text(max_size=40)


def frame(texts: list[str | None], prompts: list[str | None] | None = None) -> pl.DataFrame:
    columns = {"response": texts, "prompt": prompts or texts}
    return pl.DataFrame(columns, schema={"response": pl.String, "prompt": pl.String})


@EACH
@given(texts=st.lists(TEXT, max_size=6), points=st.lists(st.integers(0, 6), max_size=3))
@settings(max_examples=25, deadline=None)
def test_any_sharding_gives_the_same_scores_and_no_text_changes(measure: Filter, texts: list[str | None],
                                                                points: list[int]) -> None:
    batch, before = frame(texts), frame(texts)
    whole = measure(batch)
    assert batch.equals(before)
    assert (whole.height, whole.columns[:5]) == (len(texts), list(SCORE_SCHEMA))
    cuts = sorted({0, len(texts), *(min(point, len(texts)) for point in points)})
    parts = [measure(batch[start:stop]) for start, stop in pairwise(cuts)]
    assert pl.concat([whole.clear(), *parts]).equals(whole)
    if texts:
        assert measure(frame(texts[::-1])).reverse().equals(whole)


@EACH
@given(texts=st.lists(TEXT, min_size=1, max_size=6))
@settings(max_examples=25, deadline=None)
def test_places_stand_in_the_text_and_verdicts_have_reasons(measure: Filter, texts: list[str | None]) -> None:
    out = measure(frame(texts))
    for text, row in zip(texts, out.iter_rows(named=True), strict=True):
        if text is None:
            assert (row["passed"], row["reason_code"], row["reason"]) == (None, "no_text", "response is null")
            assert all(value is None for name, value in row.items() if name not in ("reason_code", "reason"))
            continue
        assert row["passed"] is (row["reason_code"] is None)
        assert row["reason"]
        places = [value for name, value in row.items() if name.endswith(("_at", "_end")) and type(value) is int]
        assert all(0 <= place <= len(text) for place in places)


HOSTILE = ["", "x", " ", "\0", "\0" * 10_000, "\n" * 10_000, "中" * 10_000, "\u200b" * 10_000, "👩‍👩‍👧" * 3000,
           "שלום عالم " * 3000, "ab" * 30_000, ("q" * 16 + "x" * 50) * 900 + "q" * 16, r"$$\frac{1}{2}$$" * 500,
           "\u202e\u202d" * 99, "<think>" * 9999, "</think>" * 9999, "<think></think>" * 5000, "`" * 99_999,
           "```\n" * 9999, "\ufffd" * 9, "\U0010ffff" * 9, "</s>" * 9999, "<|" * 9999, "a\r\n" * 999]


@EACH
def test_hostile_rows_get_a_verdict(measure: Filter) -> None:
    out = measure(frame([*HOSTILE, "w" * 5_000_000, "ab cd.\n" * 700_000, None]))
    assert out["passed"][:-1].null_count() == 0
    assert out["passed"][-1] is None


@EACH
def test_a_column_without_text_is_refused_and_one_of_nulls_undecided(measure: Filter) -> None:
    with pytest.raises(DataError, match="'response' has type"):
        measure(pl.DataFrame({"response": [1], "prompt": ["a"]}))
    out = measure(pl.DataFrame({"response": [None, None], "prompt": ["a", None]}))
    assert out["reason_code"].to_list() == ["no_text"] * 2
    assert out.schema == measure(frame(["a"])).schema


def test_executors_agree(tmp_path: Path) -> None:
    """All of them as steps of one recipe, thinking and answers of a model that loops now and then."""
    texts = ["<think>So 2.</think>2", "<think>" + "Wait, again. " * 60, "```py\nx = 1\n", "I cannot help with that.",
             "好 </s>"]
    rules = [{"text": text, "weight": 1} for text in texts]
    steps: dict[str, Any] = {
        "problems": {"op": "source.procedural", "params": {"tasks": [{"task": "arithmetic", "count": 12}]}},
        "samples": {"op": "generate.sample", "from": "problems", "model": "rules",
                    "params": {"n": 2, "max_tokens": 99}},
        **{name: {"op": f"filter.{name}", "from": "samples"} for name in FILTERS}}
    body = {"recipe": "all", "seed": 1, "models": {"rules": {"replay": {"rules": rules}}},
            "runtime": {"shard_rows": 5}, "steps": steps}
    path = tmp_path / "r.yaml"
    path.write_text(json.dumps(body))
    found: list[dict[str, str]] = []
    for executor, workers in (("inline", 1), ("local", 2)):
        report = factory.run(path, warehouse=tmp_path / executor, executor=executor, workers=workers)
        assert report.status == "succeeded", report.errors
        found.append({name: manifest.content_hash for name, manifest in report.manifests.items()})
    assert found[0] == found[1]
