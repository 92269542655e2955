"""filter.paragraphs: long paragraphs, and walls of text."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from factory.engine.op import OpContext
from factory.filters.paragraphs import ParagraphsParams, paragraphs

WALL = "Wait, so it goes on. " * 100


def score(response: str | None, **params: Any) -> dict[str, Any]:
    batch = pl.DataFrame({"response": [response]}, schema={"response": pl.String})
    return paragraphs(batch, ParagraphsParams(**params), OpContext()).row(0, named=True)


def test_paragraphs_lines_and_walls_by_hand() -> None:
    row = score("<think>\none two\nthree\n \nfour\n\n\n</think>\n\nfive", wall_chars=3)
    assert (row["paragraphs_thinking"], row["longest_paragraph_thinking"], row["longest_line_thinking"]) == (2, 13, 7)
    assert (row["longest_paragraph_words_thinking"], row["walls_thinking"]) == (3, 1)
    assert row["wall_share_thinking"] == len("four") / len("one two\nthree\n \nfour")
    assert (row["paragraphs_answer"], row["wall_share_answer"]) == (1, 1.0)


def test_a_wall_in_the_thinking_is_refused_with_its_place() -> None:
    response = f"<think>好 Short.\n\n{WALL}</think>Four."
    row = score(response)
    assert (row["passed"], row["reason_code"]) == (False, "wall_of_text")
    assert "of the thinking is wall of text, first at 17 of 2099 characters: 'Wait" in row["reason"]
    assert response[row["wall_thinking_at"]:row["wall_thinking_end"]] == WALL.strip()
    assert score(f"<think>{WALL}</think>Four.", max_wall_share=1.0)["passed"] is True
    assert score(WALL, wall_chars=len(WALL.strip()))["walls_answer"] == 0


@pytest.mark.parametrize("response", [
    WALL.replace(". ", ".\n"), f"<think>{WALL[:1900]}</think>4", "<think>So.</think>4", "", "\n",
    "$$" + "x" * 900 + "$$", f"{WALL}\n\n" + "A sentence.\n" * 400,
])
def test_what_breaks_its_lines_passes(response: str) -> None:
    assert score(response)["passed"] is True


def test_the_answer_is_judged_unless_it_shall_not_be() -> None:
    response = f"<think>So.</think>{WALL}"
    assert "of the answer is wall" in score(response)["reason"]
    assert score(response, judge_answer=False)["passed"] is True


def test_a_paragraph_beyond_any_reading() -> None:
    row = score("ab\n" * 8000)
    assert (row["passed"], row["reason_code"], row["longest_paragraph_answer"]) == (False, "long_paragraph", 23_999)
    assert score("ab\n" * 8000, max_paragraph_chars=None)["passed"] is True


def test_a_missing_part_has_no_measurements() -> None:
    row = score("only an answer")
    assert (row["paragraphs_thinking"], row["wall_share_thinking"], row["longest_paragraph_thinking"]) == (None,) * 3
    assert (row["score"], row["paragraphs_answer"], row["wall_answer_at"]) == (0.0, 1, None)
