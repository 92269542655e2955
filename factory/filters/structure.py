"""filter.structure: is the response whole, and is it a response at all?

What a sampler leaves when something went wrong has a shape: thinking that never ends, an empty answer, tags twice, text
before the thinking, the chat template's control tokens spelled out, the prompt once more in place of an answer, talk of
a system prompt, a refusal. Tags and parts are those of `factory.engine.text.split_response`; control tokens are listed
in `measure.controls`, refusals (English and Chinese) and words of system prompts in `measure.openings`. Those, and
copies of the prompt, are sought at the start of a part, where they are no topic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from pydantic import Field

from factory.engine.op import Kind, OpContext, Params, op
from factory.filters.measured import Verdicts, read_column, score_table, snippet, split_column

if TYPE_CHECKING:
    from factory.filters.measure.parts import Parts

_MARKS = ("think_opens", "think_closes", "answer_opens", "answer_closes", "other_tags", "control_tokens")
_OUT: dict[str, pl.DataType] = {
    **{name: pl.Int32() for name in _MARKS}, "control_tokens_at": pl.Int64(), "control_tokens_end": pl.Int64(),
    "thinking_missing": pl.Boolean(), "thinking_empty": pl.Boolean(), "answer_missing": pl.Boolean(),
    "answer_empty": pl.Boolean(), "chars_before_thinking": pl.Int64(), "prompt_copied_chars": pl.Int64(),
    "prompt_copied_share": pl.Float64(), "prompt_copied_at": pl.Int64(), "opens_with_prompt": pl.Boolean(),
    "refusal_at": pl.Int64(), "system_prompt_at": pl.Int64(), "open_end": pl.Boolean(),
}


class StructureParams(Params):
    """`prompt_column` (None: not looked at) holds a text, or messages of which the user's count. An answer whose first
    words are more than `max_copied_share` of the prompt (0 to 1) is a copy of it; one that quotes it later, as programs
    do that begin with the task as a comment, is measured and passes. `need_thinking` wants thinking that holds text."""

    text: str = "response"
    prompt_column: str | None = "prompt"
    max_copied_share: float = Field(default=0.9, ge=0, le=1)
    need_thinking: bool = False
    need_answer: bool = True
    allow_text_before_thinking: bool = False
    allow_more_tags: bool = False
    allow_control_tokens: bool = False
    allow_system_prompt: bool = False
    allow_refusal: bool = False
    allow_open_end: bool = True


def _columns(params: StructureParams) -> tuple[str, ...]:
    return (params.text, *([params.prompt_column] if params.prompt_column else []))


def _prompt_text(value: Any) -> str:
    """A prompt is a text or a list of messages, of which the user's count."""
    if isinstance(value, list):
        return "\n".join(str(part.get("content") or "") for part in value
                         if isinstance(part, dict) and part.get("role") == "user")
    return "" if value is None else str(value)


def _prompts(batch: pl.DataFrame, column: str | None) -> pl.Series | None:
    if column is None or batch[column].dtype in (pl.String, pl.Null):
        return None if column is None else batch[column].cast(pl.String)
    return pl.Series([_prompt_text(value) for value in batch[column].to_list()], dtype=pl.String)


def _measure(parts: Parts, prompts: pl.Series | None) -> dict[str, Any]:
    from factory.filters.measure import controls
    from factory.filters.measure.parts import trim
    from factory.filters.measure.structure import measure_structure
    from factory.text.buffers import text_buffers

    assert controls.NAMES == _MARKS
    shape = measure_structure(parts, None if prompts is None else text_buffers(prompts))
    token = [parts.locate(np.ascontiguousarray(shape.mark_places[:, 5, end])) for end in (0, 1)]
    copied_at, answer_at = parts.locate(shape.copied_at), parts.locate(trim(parts.answer).starts)
    return {
        "opens_with_prompt": (copied_at >= 0) & (copied_at == answer_at),
        **dict(zip(_MARKS, shape.marks.T, strict=True)), "control_tokens_at": token[0], "control_tokens_end": token[1],
        "thinking_missing": ~parts.thinking.there, "thinking_empty": shape.thinking_empty,
        "answer_missing": ~parts.answer.there, "answer_empty": shape.answer_empty,
        "chars_before_thinking": shape.before_chars, "prompt_copied_chars": shape.copied_chars,
        "prompt_copied_share": shape.copied_share, "prompt_copied_at": copied_at,
        "refusal_at": parts.locate(shape.refusal_at), "system_prompt_at": parts.locate(shape.system_at),
        "open_end": shape.open_end,
    }


def _judge(texts: pl.Series, columns: dict[str, Any], params: StructureParams) -> Verdicts:
    verdicts = Verdicts(len(texts))

    def said(words: str, name: str, most: int = 50) -> Callable[[int], str]:
        at = columns[f"{name}_at"]
        return lambda row: f"{words} at {at[row]}: {snippet(texts[row], at[row], len(texts[row]), most)}"

    copied, more = columns["prompt_copied_share"], columns["think_opens"] + columns["think_closes"]
    pairs = [columns["think_opens"] > 1, columns["think_closes"] > 1, columns["answer_opens"] > 1,
             columns["answer_opens"] != columns["answer_closes"]]
    rules: tuple[tuple[bool, Any, str, Callable[[int], str]], ...] = (
        (params.need_answer, columns["answer_missing"], "no_answer", lambda _row: "the thinking never ends"),
        (params.need_answer, columns["answer_empty"], "empty_answer", lambda _row: "the answer holds no text"),
        (params.need_thinking, columns["thinking_missing"], "no_thinking", lambda _row: "there is no thinking"),
        (params.need_thinking, columns["thinking_empty"], "empty_thinking", lambda _row: "the thinking holds no text"),
        (not params.allow_text_before_thinking, columns["chars_before_thinking"] > 0, "text_before_thinking",
         lambda row: f"{columns['chars_before_thinking'][row]} characters before the thinking"),
        (not params.allow_more_tags, np.logical_or.reduce(pairs), "more_tags",
         lambda row: f"{more[row]} tags of thinking, {columns['answer_opens'][row]} that open and "
                     f"{columns['answer_closes'][row]} that close an answer"),
        (not params.allow_control_tokens, columns["control_tokens"] > 0, "control_token",
         lambda row: f"{columns['control_tokens'][row]} {said('control tokens, first', 'control_tokens', 30)(row)}"),
        (params.prompt_column is not None, columns["opens_with_prompt"] & (copied > params.max_copied_share),
         "prompt_copied",
         lambda row: f"the answer begins with {copied[row]:.2f} of the {said('prompt', 'prompt_copied')(row)}"),
        (not params.allow_system_prompt, columns["system_prompt_at"] >= 0, "system_prompt",
         said("words of a system prompt", "system_prompt")),
        (not params.allow_refusal, columns["refusal_at"] >= 0, "refusal", said("a refusal", "refusal")),
        (not params.allow_open_end, columns["open_end"], "open_end",
         lambda row: f"it ends with {texts[row].rstrip()[-1:]!r}"),
    )
    for holds, broken, code, tell in rules:
        if holds:
            verdicts.refuse(broken, code, tell)
    return verdicts


@op("filter.structure", version=1, kind=Kind.SCORE, params=StructureParams, columns=_columns, out=_OUT,
    code=("factory.filters.measured", *(f"factory.filters.measure.{name}" for name in (
        "controls", "openings", "parts", "structure"))))
def structure(batch: pl.DataFrame, params: StructureParams, ctx: OpContext) -> pl.DataFrame:
    """Look at the shape of a response: tags, parts, control tokens, copied prompts, refusals.

    Columns: `think_opens`, `think_closes`, `answer_opens`, `answer_closes` (the tags), `other_tags` (those that other
    models think in, `<reasoning>` and its like), `control_tokens` with `_at` and `_end` of the first; `<part>_missing`
    and `<part>_empty` for `thinking` and `answer`; `chars_before_thinking`; `prompt_copied_chars` and
    `prompt_copied_share` (how much of the prompt's beginning stands within the answer's first 300 bytes; less than 32
    bytes of it are none), `prompt_copied_at`, `opens_with_prompt` (nothing stands before it); `refusal_at`,
    `system_prompt_at` (null: none); `open_end` (it ends with a sign that ends no text, such as a comma). Places are
    characters of the response. `score` is 1 where the rule passes, else 0. Reason codes, first that holds: `no_answer`,
    `empty_answer`, `no_thinking`, `empty_thinking`, `text_before_thinking`, `more_tags`, `control_token`,
    `prompt_copied`, `system_prompt`, `refusal`, `open_end`; `no_text` (null text: undecided).

    Raises:
        DataError: the column does not hold text.
    """
    texts = read_column(batch, params.text)
    columns = _measure(split_column(texts), _prompts(batch, params.prompt_column))
    verdicts = _judge(texts, columns, params)
    said = pl.select(pl.when(pl.Series(columns["thinking_missing"])).then(pl.lit("an answer"))
                     .otherwise(pl.lit("thinking and an answer"))).to_series()
    return score_table(texts, params.text, verdicts, said, verdicts.passed.astype(np.float64), columns, _OUT)
