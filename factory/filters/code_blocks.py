"""filter.code_blocks: code where prose was wanted.

DeepSeek dropped chains of thought with code blocks before the second fine-tuning (R1 paper, section 2.3.3), while the
answer may hold code. Two things count as code: fenced blocks (CommonMark's, with allowances: `measure.fences`), and
*bare* code, which is lines outside any fence that read as program text (`measure.barecode`). One line that looks like
code may be mathematics ("for x in S:"), so the default rule wants `min_bare_lines` of them. A fence that never closes
makes the rest of the text unreadable and is rejected wherever it stands. In a domain that is about code, thinking may
hold it too: `domains` says so by the value of `domain_column`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from factory.engine.op import Kind, OpContext, Params, op
from factory.filters.measured import Flags, Verdicts, read_column, score_table, sides, snippet, split_column

_SIDE: dict[str, pl.DataType] = {
    "fenced_{}": pl.Int32(), "bare_code_lines_{}": pl.Int32(), "code_share_{}": pl.Float64(),
    "fenced_{}_at": pl.Int64(), "bare_code_{}_at": pl.Int64(), "bare_code_{}_end": pl.Int64(),
}
_OUT: dict[str, pl.DataType] = {
    **{name.format(side): dtype for side in ("thinking", "answer") for name, dtype in _SIDE.items()},
    "unbalanced": pl.Boolean(), "unbalanced_at": pl.Int64(),
}


class CodeRule(Params):
    """Where code may stand, in rows of one domain; None is as elsewhere."""

    allow_in_thinking: bool | None = None
    allow_in_answer: bool | None = None
    min_bare_lines: int | None = Field(default=None, ge=1)


class CodeBlocksParams(Params):
    """`min_bare_lines`: how many bare lines of code in the thinking (or in the answer, where code may not stand in it)
    count as a code block there. `domains` are other rules by the value of `domain_column`."""

    text: str = "response"
    allow_in_thinking: bool = False
    allow_in_answer: bool = True
    min_bare_lines: int = Field(default=3, ge=1)
    domain_column: str | None = None
    domains: dict[str, CodeRule] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_domains(self) -> CodeBlocksParams:
        if bool(self.domains) != (self.domain_column is not None):
            raise ValueError("`domains` and `domain_column` belong together: the column tells a row's rule")
        return self

    def rule(self, domain: str | None) -> tuple[bool, bool, int]:
        """(in the thinking, in the answer, bare lines) of a domain."""
        own = self.domains.get(domain, CodeRule()) if domain is not None else CodeRule()
        return (self.allow_in_thinking if own.allow_in_thinking is None else own.allow_in_thinking,
                self.allow_in_answer if own.allow_in_answer is None else own.allow_in_answer,
                own.min_bare_lines or self.min_bare_lines)


def _columns(params: CodeBlocksParams) -> tuple[str, ...]:
    return (params.text, *([params.domain_column] if params.domain_column else []))


def _measure(texts: pl.Series) -> dict[str, Any]:
    from factory.filters.measure.code import measure_code

    parts = split_column(texts)
    columns: dict[str, Any] = {}
    opened = np.full(len(texts), -1, np.int64)
    for side, spans in sides(parts):
        code = measure_code(spans)
        found = (code.fenced, code.bare, code.share,
                 *(parts.locate(places) for places in (code.first_block, code.first_line, code.first_line_end)))
        columns |= {name.format(side): values for name, values in zip(_SIDE, found, strict=True)}
        at = parts.locate(code.open_block)
        opened = np.where((opened < 0) & (at >= 0), at, opened)
    return {**columns, "unbalanced": opened >= 0, "unbalanced_at": opened}


def _rules(batch: pl.DataFrame, params: CodeBlocksParams) -> Iterator[tuple[Flags, tuple[bool, bool, int]]]:
    """The rows of each rule, and the rule."""
    if params.domain_column is None:
        yield np.ones(batch.height, np.bool_), params.rule(None)
        return
    domains = batch[params.domain_column].cast(pl.String)
    yield ~domains.is_in(list(params.domains)).fill_null(False).to_numpy(), params.rule(None)
    for domain in params.domains:
        yield (domains == domain).fill_null(False).to_numpy(), params.rule(domain)


def _hold(verdicts: Verdicts, texts: pl.Series, columns: dict[str, Any], side: str, rows: Flags, least: int) -> None:
    """Refuse rows with code in one part."""
    fenced, bare = columns[f"fenced_{side}"], columns[f"bare_code_lines_{side}"]
    fenced_at, at, end = (columns[name] for name in (f"fenced_{side}_at", f"bare_code_{side}_at",
                                                          f"bare_code_{side}_end"))
    verdicts.refuse(rows & (fenced > 0), f"code_in_{side}",
                    lambda row: f"{fenced[row]} fenced blocks, first at {fenced_at[row]}")
    verdicts.refuse(rows & (bare >= least), f"code_in_{side}",
                    lambda row: f"{bare[row]} lines of code, first at {at[row]}: "
                                f"{texts[row][at[row]:end[row]].strip()[:60]}")


# Version 3: snake_case names of mathematics are no code; bare lines in answers too, shares and places, domains.
@op("filter.code_blocks", version=3, kind=Kind.SCORE, params=CodeBlocksParams, columns=_columns, out=_OUT,
    code=("factory.filters.measured", *(f"factory.filters.measure.{name}" for name in (
        "barecode", "code", "fences", "parts"))))
def code_blocks(batch: pl.DataFrame, params: CodeBlocksParams, ctx: OpContext) -> pl.DataFrame:
    """Find code in the thinking and in the answer.

    Columns, for `thinking` and `answer`: `fenced_<part>` (blocks), `bare_code_lines_<part>` (lines outside fences),
    `code_share_<part>` (characters of both over all), `fenced_<part>_at` and `bare_code_<part>_at` (the first one, in
    characters of the response), `bare_code_<part>_end`; `unbalanced` (some fence never closes) and `unbalanced_at`.
    `score` is the fenced blocks and bare lines of the thinking together. Reason codes, first that holds:
    `code_in_thinking`, `code_in_answer`, `unbalanced_fence`; `no_text` (null text: undecided).

    Raises:
        DataError: the column does not hold text.
    """
    texts = read_column(batch, params.text)
    columns, verdicts = _measure(texts), Verdicts(len(texts))
    for rows, (in_thinking, in_answer, least) in _rules(batch, params):
        for side, allowed in (("thinking", in_thinking), ("answer", in_answer)):
            if not allowed:
                _hold(verdicts, texts, columns, side, rows, least)
    verdicts.refuse(columns["unbalanced"], "unbalanced_fence",
                    lambda row: f"the code fence at {columns['unbalanced_at'][row]} never closes: "
                                f"{snippet(texts[row], columns['unbalanced_at'][row], len(texts[row]), 30)}")
    blocks = pl.Series(columns["fenced_thinking"]), pl.Series(columns["fenced_answer"])
    said = pl.select(pl.format("{} code blocks in the thinking, {} in the answer", *blocks)).to_series()
    score = (columns["fenced_thinking"] + columns["bare_code_lines_thinking"]).astype(np.float64)
    return score_table(texts, params.text, verdicts, said, score, columns, _OUT)
