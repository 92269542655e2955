"""`verify.format`: does a response keep the form that it was asked for?

The format reward of DeepSeek-R1 (R1 paper, section 2.2.2, and Table 1 for the template). Three forms are known:

- `r1_zero`: `<think>…</think>` and then `<answer>…</answer>`, each once, in this order, neither empty, and nothing but
  white space around them;
- `r1`: `<think>…</think>` once, not empty, at the start; then an answer in Markdown that is not empty;
- `cold_start`: the form of R1's cold-start data, `|special_token|reasoning|special_token|summary`: the token exactly
  twice, first of all, neither part empty. `special_token` says what stands for it.

`none` accepts every response that is not blank. A prefilled `<think>` is part of `response`. The form is exact on
purpose: a trainer that rewards near misses teaches them.
"""

from __future__ import annotations

from typing import Any, Literal

import polars as pl
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from factory.engine.op import Kind, OpContext, Params, Trial, op
from factory.engine.text import ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE, THINK_OPEN
from factory.verifiers.verdict import VERDICT_OUT, Verdict, frame

Form = Literal["r1_zero", "r1", "cold_start", "none"]
SPECIAL_TOKEN = "|special_token|"

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
    "missing_token": "the special token does not occur",
    "single_token": "the special token occurs once, not before and after the reasoning",
    "repeated_token": "the special token occurs more than twice",
    "empty_summary": "the summary is blank",
}
_EXAMPLES: dict[Form, tuple[str, tuple[str, ...]]] = {
    "r1_zero": ("<think>I add.</think>\n<answer>4</answer>", (
        "<think>I add.</think> 4", "<answer>4</answer>", "So: <think>I add.</think><answer>4</answer>",
        "<think>I add.</think><answer>4</answer><answer>5</answer>", "<think> </think><answer>4</answer>")),
    "r1": ("<think>I add.</think>\n\nIt is **4**.", ("It is **4**.", "<think>I add. It is 4.", "<think>I add.</think> ",
                                                     "4 <think>I add.</think> 4")),
    "cold_start": (f"{SPECIAL_TOKEN}I add.{SPECIAL_TOKEN}It is 4.", (
        "It is 4.", f"{SPECIAL_TOKEN}I add. It is 4.", f"So {SPECIAL_TOKEN}I add.{SPECIAL_TOKEN}It is 4.",
        f"{SPECIAL_TOKEN}I add.{SPECIAL_TOKEN}It{SPECIAL_TOKEN} is 4.", f"{SPECIAL_TOKEN}I add.{SPECIAL_TOKEN} ")),
    "none": ("4", ("", " \n")),
}
"""Of each form a response that keeps it, and responses that break it."""


class FormatParams(Params):
    """`form` is the form that is asked for; `response` names the column; `special_token` is what parts the form
    `cold_start`."""

    form: Form = "r1_zero"
    response: str = "response"
    special_token: str = Field(SPECIAL_TOKEN, min_length=1)

    @model_serializer(mode="wrap")
    def _told(self, plainly: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Other forms have no token: it is no part of their identity."""
        told: dict[str, Any] = plainly(self)
        return told if self.form == "cold_start" else {k: v for k, v in told.items() if k != "special_token"}


def format_trials(params: FormatParams) -> list[Trial]:
    """A response that keeps the form, and responses that break it in one way each."""
    kept, broken = _EXAMPLES[params.form]

    def row(text: str) -> dict[str, Any]:
        return {params.response: text.replace(SPECIAL_TOKEN, params.special_token)}

    return [Trial(row(kept), "correct"), *(Trial(row(text), "incorrect") for text in broken)]


@op("verify.format", version=1, kind=Kind.SCORE, params=FormatParams, columns=lambda params: (params.response,),
    out=VERDICT_OUT, trials=format_trials)
def verify_format(batch: pl.DataFrame, params: FormatParams, ctx: OpContext) -> pl.DataFrame:
    """Whether the response keeps the form of thinking and answer exactly.

    `reason_code` is `well_formed` or the first fault found; `extracted` is null; `score` is 1.0 or 0.0.
    """
    responses = batch.get_column(params.response).cast(pl.String)
    return frame([check_format(response, params.form, params.special_token) for response in responses])


def judge_format(response: str | None, reference: object = None, *, form: Form = "r1_zero",
                 special_token: str = SPECIAL_TOKEN) -> Verdict:
    """`check_format` as the contract of all verifiers has it; a form needs no reference."""
    return check_format(response, form, special_token)


def check_format(response: str | None, form: Form = "r1_zero", special_token: str = SPECIAL_TOKEN) -> Verdict:
    """The verdict on one response; see `verify_format`."""
    response = response or ""
    fault = _cold_fault(response, special_token) if form == "cold_start" else _find_fault(response, form)
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


def _cold_fault(response: str, token: str) -> str | None:
    if not response.strip():
        return "empty_response"
    before, *parts = response.split(token)
    if len(parts) != 2:
        return {0: "missing_token", 1: "single_token"}.get(len(parts), "repeated_token")
    if before.strip():
        return "text_outside"
    if not parts[0].strip():
        return "empty_thinking"
    return None if parts[1].strip() else "empty_summary"


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
