"""filter.render: would this row survive the target tokenizer and its chat template?

What a trainer sees is not the row but its rendering: templates drop the thinking of answers (those of R1 and Qwen do,
at least of earlier ones), text that spells a control token ends its own turn, a vocabulary without some characters
loses them, and what does not fit is cut. All of it is silent in training. Here each row is rendered as a conversation,
encoded and decoded, and what happened is measured (`render_chat`). A control token that is spelled across the border of
two messages is not found.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import polars as pl
from pydantic import Field, model_validator

from factory.engine.op import SCORE_SCHEMA, Kind, OpContext, Params, PlanContext, op
from factory.filters.render_chat import Chat, Harm, Message, is_dropped
from factory.filters.render_rows import Row, name_of, read_rows
from factory.filters.tokenizer import TokenizerSpec, identify, open_tokenizer
from factory.filters.tokens import BATCH_CHARS, cut_batches

_OUT: dict[str, pl.DataType] = {
    "tokens_prompt": pl.Int64(), "tokens_response": pl.Int64(), "tokens_total": pl.Int64(), "fits": pl.Boolean(),
    "round_trip": pl.Boolean(), "control": pl.Int32(), "unknown": pl.Int32(), "thinking_dropped": pl.Int32(),
    "template_error": pl.String(), "evidence": pl.String(),
}
_MOST_EVIDENCE = 20


class RenderParams(Params):
    """Rows are `prompt` and `response` (and a fixed `system` text), or `messages`, a column of conversations whose last
    message is the answer. `max_tokens` is what the trainer or the model takes in, prompt and answer together.
    `thinking` says which answers must keep theirs: `all`, the `last`, or `none`. `options` are further variables of the
    template (`enable_thinking`)."""

    tokenizer: TokenizerSpec
    prompt: str = "prompt"
    response: str = "response"
    messages: str | None = None
    system: str | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    thinking: Literal["all", "last", "none"] = "all"
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_form(self) -> RenderParams:
        if self.messages is not None and self.system is not None:
            raise ValueError("`system` belongs to rows of prompt and response: with `messages` it is one of them")
        return self


class _Rendered(NamedTuple):
    messages: Sequence[Message]
    prefix: str
    whole: str
    dropped: list[int]  # numbers of the messages that lost their thinking


def _columns(params: RenderParams) -> tuple[str, ...]:
    return (params.prompt, params.response) if params.messages is None else (params.messages,)


def _identity(params: RenderParams, plan: PlanContext) -> dict[str, Any]:
    return identify(params.tokenizer, Path(plan.base_dir))


def _without(passed: bool | None, code: str, reason: str, error: str | None = None) -> tuple[Any, ...]:
    return (passed, None, None, code, reason, *[None] * 8, error, "[]")


def _render(chat: Chat, row: Row) -> _Rendered | tuple[Any, ...]:
    """The row rendered, or its score where that cannot be done."""
    if isinstance(row, tuple):
        return _without(*row)
    try:
        prefix, whole = chat.render(row[:-1], opened=True), chat.render(row, opened=False)
    except Exception as error:  # a template is a program: it may raise anything over a row
        told = f"{type(error).__name__}: {error}"[:300]
        return _without(False, "template_error", f"the chat template refuses the row: {told}", told)
    dropped, at = [], 0
    for number, message in enumerate(row):
        if message["role"] == "assistant" and is_dropped(message["content"], whole[at:]):
            dropped.append(number)
        elif (found := whole.find(message["content"].strip(), at)) >= 0:
            at = found + len(message["content"].strip())
    return _Rendered(row, prefix, whole, dropped)


def _encode(chat: Chat, batch: Sequence[_Rendered]) -> list[tuple[int, int, bool]]:
    """Tokens of the prefix and the whole, and whether the whole comes back without an unknown token."""
    coded = chat.backend.encode_batch_fast([text for row in batch for text in (row.prefix, row.whole)],
                                           add_special_tokens=False)
    ids = [one.ids for one in coded[1::2]]
    back = chat.backend.decode_batch(ids, skip_special_tokens=False)
    return [(len(prefix), len(whole), text == row.whole and (chat.unknown is None or chat.unknown not in whole))
            for prefix, whole, text, row in zip(coded[::2], ids, back, batch, strict=True)]


def _judge(row: _Rendered, tokens: int, harms: Sequence[Harm], params: RenderParams) -> tuple[bool, str | None, str]:
    lost = row.dropped if params.thinking == "all" else [n for n in row.dropped if n == len(row.messages) - 1]
    if lost and params.thinking != "none":
        return False, "thinking_dropped", f"the chat template drops the thinking of {_told(lost[0], params, row)}"
    first = {harm.kind: harm for harm in reversed(harms)}
    if harm := first.get("control"):
        return False, "control_token", f"{harm.what!r} stands at {harm.at} of {_told(harm.message, params, row)}"
    if harm := first.get("unknown"):
        return False, "unknown", f"no token for {harm.what[:20]!r} at {harm.at} of {_told(harm.message, params, row)}"
    if harm := first.get("difference"):
        return False, "round_trip", f"{_told(harm.message, params, row)} comes back another text from {harm.at} on"
    if params.max_tokens is not None and tokens > params.max_tokens:
        return False, "too_long", f"{tokens} tokens, at most {params.max_tokens} fit"
    return True, None, f"{tokens} tokens"


def _told(number: int, params: RenderParams, row: _Rendered) -> str:
    return name_of(number, len(row.messages), params.prompt, params.response, params.messages)


def _score(row: _Rendered, prefix: int, total: int, harms: Sequence[Harm], params: RenderParams) -> tuple[Any, ...]:
    passed, code, reason = _judge(row, total, harms, params)
    count = {kind: sum(harm.kind == kind for harm in harms) for kind in ("control", "unknown", "difference")}
    fits = None if params.max_tokens is None else total <= params.max_tokens
    proof = [[harm.kind, _told(harm.message, params, row), harm.at, harm.what[:40]] for harm in harms[:_MOST_EVIDENCE]]
    proof += [["thinking_dropped", _told(number, params, row), 0, ""] for number in row.dropped[:_MOST_EVIDENCE]]
    return (passed, None, float(total), code, reason, prefix, max(total - prefix, 0), total, fits,
            not count["difference"], count["control"], count["unknown"], len(row.dropped), None,
            json.dumps(proof, ensure_ascii=False))


@op("filter.render", version=1, kind=Kind.SCORE, params=RenderParams, columns=_columns, out=_OUT, identity=_identity,
    code=("factory.filters.render_chat", "factory.filters.render_rows", "factory.filters.tokenizer"))
def render(batch: pl.DataFrame, params: RenderParams, ctx: OpContext) -> pl.DataFrame:
    """Render each row with the target tokenizer's chat template, and measure what that does to it.

    Columns: `tokens_prompt` (rendered, with the opening of the answer), `tokens_total`, `tokens_response` (their
    difference: the answer with what the template writes behind it), `fits` (null without `max_tokens`), `round_trip`
    (the row's texts come back from their tokens, canonical equivalents counted the same), `control` and `unknown`
    (tokens in the row's own texts), `thinking_dropped` (answers without their thinking), `template_error`, `evidence`
    (a JSON list of [kind, column, offset, text], offsets in characters of the column's text). `score` is
    `tokens_total`. Reason codes, first that holds: `template_error`, `thinking_dropped`, `control_token`, `unknown`,
    `round_trip`, `too_long`; `not_unicode`, `bad_messages`, `no_response`; `no_text` (null: undecided).

    Raises:
        DataError: a column does not hold what the params say.
        ModelError: the tokenizer cannot be loaded, or has no chat template.
    """
    chat = Chat(open_tokenizer(params.tokenizer, ctx.identity), params.tokenizer.chat_template, params.options)
    done: list[Any] = [_render(chat, row) for row in read_rows(batch, params.prompt, params.response, params.messages,
                                                                params.system)]
    places = [place for place, row in enumerate(done) if isinstance(row, _Rendered)]
    spelled = chat.spell_control(["\n".join(one["content"] for one in done[place].messages) for place in places])
    for start, stop in cut_batches([len(done[place].prefix) + len(done[place].whole) for place in places], BATCH_CHARS):
        few = places[start:stop]
        coded = _encode(chat, [done[place] for place in few])
        for place, (prefix, total, intact), suspect in zip(few, coded, spelled[start:stop], strict=True):
            harms = [] if intact and not suspect else chat.look(done[place].messages)
            done[place] = _score(done[place], prefix, total, harms, params)
    return pl.DataFrame(done, schema={**SCORE_SCHEMA, **_OUT}, orient="row")
