"""filter.paragraphs: text without breath.

DeepSeek dropped chains of thought with long paragraphs before the second fine-tuning (R1 paper, section 2.3.3), without
saying how long. A *paragraph* is what stands between blank lines; a list, a table or a derivation is a long one that
reads well, since it breaks its lines. So two things are measured: the longest paragraph, and *walls of text*, which are
paragraphs of more than `wall_chars` characters without a single line break. The default rule refuses a part that is
mostly wall, or that holds a paragraph beyond any reading. White space around lines, paragraphs and parts does not
count. The defaults are about the 99th percentile of correct thinking in public traces.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from pydantic import Field

from factory.engine.op import Kind, OpContext, Params, op
from factory.filters.measured import Verdicts, read_column, score_table, sides, snippet, split_column

_SIDE: dict[str, pl.DataType] = {
    "paragraphs_{}": pl.Int32(), "longest_paragraph_{}": pl.Int64(), "longest_paragraph_words_{}": pl.Int64(),
    "longest_line_{}": pl.Int64(), "walls_{}": pl.Int32(), "wall_share_{}": pl.Float64(),
    "longest_paragraph_{}_at": pl.Int64(), "longest_paragraph_{}_end": pl.Int64(),
    "wall_{}_at": pl.Int64(), "wall_{}_end": pl.Int64(),
}
_OUT: dict[str, pl.DataType] = {name.format(side): dtype for side in ("thinking", "answer")
                                for name, dtype in _SIDE.items()}


class ParagraphsParams(Params):
    """`wall_chars`: an unbroken paragraph above it is a wall. `max_wall_share`: the largest share (0 to 1) of a part's
    characters inside walls that passes. `max_paragraph_chars` bounds any paragraph; None does not. The answer is held
    to both only with `judge_answer`."""

    text: str = "response"
    wall_chars: int = Field(default=2000, ge=1)
    max_wall_share: float = Field(default=0.5, ge=0, le=1)
    max_paragraph_chars: int | None = Field(default=20_000, ge=1)
    judge_answer: bool = True


def _measure(texts: pl.Series, wall_chars: int) -> dict[str, Any]:
    from factory.filters.measure.length import measure_layout

    parts = split_column(texts)
    columns: dict[str, Any] = {}
    for side, spans in sides(parts):
        layout, places = measure_layout(spans, wall_chars)
        share = np.where(spans.there, np.maximum(layout[:, 5], 0) / np.maximum(layout[:, 6], 1), np.nan)
        evidence = (parts.locate(np.ascontiguousarray(places[:, which, end])) for which in (0, 2) for end in (0, 1))
        columns |= {name.format(side): values
                    for name, values in zip(_SIDE, (*layout.T[:5], share, *evidence), strict=True)}
    return columns


def _hold(verdicts: Verdicts, texts: pl.Series, columns: dict[str, Any], side: str, params: ParagraphsParams) -> None:
    """Refuse rows for one part."""
    def told(name: str, row: int) -> str:
        at, end = columns[f"{name}_{side}_at"][row], columns[f"{name}_{side}_end"][row]
        return f"at {at} of {end - at} characters: {snippet(texts[row], at, end, 40)}"

    share, longest = np.nan_to_num(columns[f"wall_share_{side}"]), columns[f"longest_paragraph_{side}"]
    verdicts.refuse(share > params.max_wall_share, "wall_of_text",
                    lambda row: f"{share[row]:.2f} of the {side} is wall of text, first {told('wall', row)}")
    if params.max_paragraph_chars is not None:
        verdicts.refuse(longest > params.max_paragraph_chars, "long_paragraph",
                        lambda row: f"a paragraph of the {side} {told('longest_paragraph', row)}")


@op("filter.paragraphs", version=1, kind=Kind.SCORE, params=ParagraphsParams, columns=lambda params: (params.text,),
    out=_OUT, code=("factory.filters.measured", "factory.filters.measure.length", "factory.filters.measure.parts"))
def paragraphs(batch: pl.DataFrame, params: ParagraphsParams, ctx: OpContext) -> pl.DataFrame:
    """Measure the paragraphs of thinking and answer.

    Columns, for `thinking` and `answer` (null where there is no such part): `paragraphs_<part>`,
    `longest_paragraph_<part>` and `longest_line_<part>` (characters), `longest_paragraph_words_<part>`, `walls_<part>`,
    `wall_share_<part>` (characters inside walls over all); `longest_paragraph_<part>_at` and `_end`, `wall_<part>_at`
    and `_end` (the first wall), in characters of the response. `score` is the larger wall share. Reason codes, first
    that holds, thinking first: `wall_of_text`, `long_paragraph`; `no_text` (null text: undecided).

    Raises:
        DataError: the column does not hold text.
    """
    texts = read_column(batch, params.text)
    columns, verdicts = _measure(texts, params.wall_chars), Verdicts(len(texts))
    for side in ("thinking", "answer") if params.judge_answer else ("thinking",):
        _hold(verdicts, texts, columns, side, params)
    longest = np.maximum(columns["longest_paragraph_thinking"], columns["longest_paragraph_answer"])
    score = np.nan_to_num(np.fmax(columns["wall_share_thinking"], columns["wall_share_answer"]))
    said = pl.select(pl.format("longest paragraph {} characters", pl.Series(np.maximum(longest, 0)))).to_series()
    return score_table(texts, params.text, verdicts, said, score, columns, _OUT)
