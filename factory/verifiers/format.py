"""`verify.format`: does a response keep the form that it was asked for?

The format reward of DeepSeek-R1 (R1 paper, section 2.2.2, and Table 1 for the template). Two forms are known:

- `r1_zero`: `<think>…</think>` and then `<answer>…</answer>`, each once, in this order, neither empty, and nothing but
  white space around them;
- `r1`: `<think>…</think>` once, not empty, at the start; then an answer in Markdown that is not empty.

`none` accepts every response that is not blank. A prefilled `<think>` is part of `response`. The form is exact on
purpose: a trainer that rewards near misses teaches them.
"""

from __future__ import annotations

from typing import Literal

import polars as pl

from factory.engine.op import Kind, OpContext, Params, op
from factory.engine.text import ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE, THINK_OPEN
from factory.verifiers.verdict import VERDICT_OUT, Verdict, frame

Form = Literal["r1_zero", "r1", "none"]

_FAULTS: dict[str, str] = {
    "empty_response": "the response is blank",
    "missing_think": "there is no <think>",
    "unopened_think": "there is </think> but no <think>",
    "unclosed_think": "<think> is never closed",
    "repeated_think": "<think> or </think> occurs more than once",
    "missing_answer": "there is no <answer>",
    "unopened_answer": "there is </answer> but no <answer>",
    "unclosed_answer": "<answer> is never closed",
    "repeated_answer": "<answer> or </answer> occurs more than once",
    "wrong_order": "the tags do not follow one another as <think>, </think>, <answer>, </answer>",
    "text_outside": "there is text outside the tags",
    "empty_thinking": "the thinking is blank",
    "empty_answer": "the answer is blank",
}


class FormatParams(Params):
    """`form` is the form that is asked for; `response` names the column."""

    form: Form = "r1_zero"
    response: str = "response"


@op("verify.format", version=1, kind=Kind.SCORE, params=FormatParams, columns=lambda params: (params.response,),
    out=VERDICT_OUT)
def verify_format(batch: pl.DataFrame, params: FormatParams, ctx: OpContext) -> pl.DataFrame:
    """Whether the response keeps the form of thinking and answer exactly.

    `reason_code` is `well_formed` or the first fault found; `extracted` is null; `score` is 1.0 or 0.0.
    """
    responses = batch.get_column(params.response).cast(pl.String)
    return frame([check_format(response, params.form) for response in responses])


def check_format(response: str | None, form: Form = "r1_zero") -> Verdict:
    """The verdict on one response; see `verify_format`."""
    fault = _find_fault(response or "", form)
    if fault is None:
        return Verdict("correct", "well_formed", f"the response has the form {form}", None, 1.0)
    return Verdict("incorrect", fault, _FAULTS[fault], None, 0.0)


def _find_fault(response: str, form: Form) -> str | None:
    if not response.strip():
        return "empty_response"
    if form == "none":
        return None
    fault = _tag_fault(response, THINK_OPEN, THINK_CLOSE, "think")
    if fault is None and form == "r1_zero":
        fault = _tag_fault(response, ANSWER_OPEN, ANSWER_CLOSE, "answer")
    if fault is not None:
        return fault
    tags = (THINK_OPEN, THINK_CLOSE) + ((ANSWER_OPEN, ANSWER_CLOSE) if form == "r1_zero" else ())
    places = [response.find(tag) for tag in tags]
    if places != sorted(places):
        return "wrong_order"
    before, thinking, *after = (response[start:end] for start, end in _gaps(places, tags, len(response)))
    if before.strip():
        return "text_outside"
    if not thinking.strip():
        return "empty_thinking"
    if form == "r1":
        return None if after[0].strip() else "empty_answer"
    between, answer, behind = after
    if between.strip() or behind.strip():
        return "text_outside"
    return None if answer.strip() else "empty_answer"


def _gaps(places: list[int], tags: tuple[str, ...], length: int) -> list[tuple[int, int]]:
    """The stretches before, between and after the tags."""
    starts = [0, *(place + len(tag) for place, tag in zip(places, tags, strict=True))]
    return list(zip(starts, [*places, length], strict=True))


def _tag_fault(response: str, opening: str, closing: str, name: str) -> str | None:
    opened, closed = response.count(opening), response.count(closing)
    if opened > 1 or closed > 1:
        return f"repeated_{name}"
    if opened and not closed:
        return f"unclosed_{name}"
    if closed and not opened:
        return f"unopened_{name}"
    return None if opened else f"missing_{name}"
