"""filter.code_blocks: code where prose was wanted.

DeepSeek dropped chains of thought with code blocks before the second fine-tuning (R1 paper, section 2.3.3), while the
answer may hold code. Two things count as code: fenced blocks (see `find_fences`), and *bare* code, which is runs of
lines outside any fence that read as program text. One line that looks like code may be mathematics ("for x in S:"), so
the default rule wants `min_bare_lines` of them. A fence that never closes makes the rest of the text
unreadable and is rejected wherever it stands.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import polars as pl
from pydantic import Field

from factory.engine.op import SCORE_SCHEMA, Kind, OpContext, Params, op
from factory.engine.text import Parts, split_response
from factory.filters.masking import find_fences, read_texts

_OUT: dict[str, pl.DataType] = {
    "fenced_thinking": pl.Int32(), "fenced_answer": pl.Int32(), "bare_code_lines_thinking": pl.Int32(),
    "unbalanced": pl.Boolean(),
}
_LONGEST_LINE = 400  # no line of a program is longer; a longer line is prose and is not tried
_BARE = re.compile(  # at most one free `.*` in each alternative, so no line takes more than linear time
    r"[ \t]*(?:"
    r"(?:async )?def \w+ ?\(.*:$|class \w+(?:\(.*\))?:$|@\w[\w.]*(?:\(.*\))?$|import \w[\w.]*(?: as \w+)?$|"
    r"from \w[\w.]* import [\w*(, )]+$|for \w+(?:, ?\w+)* in [\w.]+(?:[\[(].*[\])])?:$|"
    r"(?:if|elif|while) [^=<>!()]*[=<>!(].*:$|(?:if|elif|while) (?:not )?[\w.]+(?: (?:not )?(?:in|is) [\w.]+)?:$|"
    r"(?:else|try|finally):$|except(?: \w.*)?:$|return [\w.\[\](){}'\"+*/%,<>= -]+;?$|return;?$|"
    r"(?:print|assert|len|range|input|printf)\(.*\);?$|"
    r"(?:[A-Za-z]\w* ?[-+*/%]?= ?)?[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+\(.*\);?$|"
    r"(?=[A-Za-z]{2}\w*_[A-Za-z]{2})\w++ ?[-+*/%]?= ?\S|"
    r"#include ?[<\"]|(?:SELECT|INSERT INTO) .+;$|(?:>>>|In \[\d+\]:) .|function \w+\(.*\{$|"
    r"(?:public|private|static|const|let|var|int|void|double|float|long|char|string|bool|auto) .*[;{]$|"
    r"(?:for|while|if|switch) ?\(.*\) ?\{$|\}(?: ?else.*\{)?;?$"
    r")")


class CodeBlocksParams(Params):
    """`min_bare_lines`: how many bare lines of code in the thinking count as a code block there."""

    text: str = "response"
    allow_in_thinking: bool = False
    allow_in_answer: bool = True
    min_bare_lines: int = Field(default=3, ge=1)


class _Part(NamedTuple):
    fenced: int
    first: int | None  # offset in the response
    bare: int
    bare_first: tuple[int, str] | None
    open_at: int | None


def _measure(text: str | None, base: int) -> _Part:
    """Fences and bare code of one part, which begins at offset `base` of the response."""
    if not text:
        return _Part(0, None, 0, None, None)
    fences = find_fences(text)
    bare, first, at = 0, None, 0
    ends = iter([*fences, None])
    fence = next(ends)
    for line in text.split("\n"):
        while fence is not None and fence.end <= at:
            fence = next(ends)
        inside = fence is not None and fence.start < at + len(line) + 1
        # A backslash is LaTeX far more often than a program.
        if not inside and len(line) <= _LONGEST_LINE and "\\" not in line and _BARE.match(line.rstrip()):
            bare += 1
            first = first or (base + at, line.strip())
        at += len(line) + 1
    opened = next((base + one.start for one in fences if not one.closed), None)
    return _Part(len(fences), base + fences[0].start if fences else None, bare, first, opened)


def _judge(parts: Parts, thinking: _Part, answer: _Part, params: CodeBlocksParams) -> tuple[bool, str | None, str]:
    if not params.allow_in_thinking:
        if thinking.fenced:
            return False, "code_in_thinking", f"{thinking.fenced} fenced blocks, first at {thinking.first}"
        if thinking.bare_first and thinking.bare >= params.min_bare_lines:
            at, line = thinking.bare_first
            return False, "code_in_thinking", f"{thinking.bare} lines of code, first at {at}: {line[:60]}"
    if answer.fenced and not params.allow_in_answer:
        return False, "code_in_answer", f"{answer.fenced} fenced blocks, first at {answer.first}"
    opened = thinking.open_at if thinking.open_at is not None else answer.open_at
    if opened is not None:
        return False, "unbalanced_fence", f"the code fence at {opened} never closes"
    return True, None, f"{thinking.fenced} code blocks in the thinking, {answer.fenced} in the answer"


@op("filter.code_blocks", version=2, kind=Kind.SCORE, params=CodeBlocksParams,
    columns=lambda params: (params.text,), out=_OUT)
def code_blocks(batch: pl.DataFrame, params: CodeBlocksParams, ctx: OpContext) -> pl.DataFrame:
    """Find code in the thinking and in the answer.

    Columns: `fenced_thinking`, `fenced_answer` (blocks), `bare_code_lines_thinking` (lines outside fences),
    `unbalanced` (some fence never closes). `score` is the fenced blocks and bare lines of the thinking together.
    Reason codes, first that holds: `code_in_thinking`, `code_in_answer`, `unbalanced_fence`; `no_text` (null text:
    undecided).

    Raises:
        DataError: the column does not hold text.
    """
    rows: list[tuple[Any, ...]] = []
    for text in read_texts(batch, params.text):
        if text is None:
            rows.append((None, None, None, "no_text", f"{params.text} is null", *[None] * len(_OUT)))
            continue
        parts = split_response(text)
        thinking, answer = _measure(parts.thinking, parts.thinking_at), _measure(parts.answer, parts.answer_at)
        passed, code, reason = _judge(parts, thinking, answer, params)
        unbalanced = thinking.open_at is not None or answer.open_at is not None
        rows.append((passed, None, float(thinking.fenced + thinking.bare), code, reason, thinking.fenced, answer.fenced,
                     thinking.bare, unbalanced))
    return pl.DataFrame(rows, schema={**SCORE_SCHEMA, **_OUT}, orient="row")
