"""generate.sample: ask a model n times per row.

The op only says what to ask and how answers become rows; the engine pumps requests and keeps answers. What is asked
comes from a prompt template (see `prompts`), whose text is fixed at plan time and is identity. A larger `n` adds
samples; a larger `max_tokens` redoes only answers that ended by length.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import polars as pl
from pydantic import Field, field_validator

from factory.engine.op import Ask, Kind, OpContext, op
from factory.engine.prompts import Asking, questions, template_identity
from factory.models.base import OWN_FIELDS, Completion


class SampleParams(Asking):
    """`template` is plain, r1_zero, r1 or a path ending in .txt; `prompt` names the column behind `{prompt}`; `columns`
    are further columns that the template uses; `system` and `prefill` replace the template's own. `temperature` 0 is
    greedy, `top_k` 0 and `top_p` 1 are off, `max_tokens` counts new tokens. `extra` are further fields of a request to
    an endpoint that change what is answered (`reasoning_effort`, `min_p`, `chat_template_kwargs`)."""

    n: int = Field(default=1, ge=1)
    temperature: float = Field(default=0.7, ge=0, allow_inf_nan=False)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    max_tokens: int = Field(512, ge=1)
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    extra: dict[str, Any] = Field(default_factory=dict)

    @field_validator("extra")
    @classmethod
    def _further(cls, value: dict[str, Any]) -> dict[str, Any]:
        if taken := sorted(OWN_FIELDS & set(value)):
            raise ValueError(f"{taken[0]!r} has a param or a template of its own: set it there")
        return value


def _columns(params: SampleParams) -> list[str]:
    return list(dict.fromkeys((params.prompt, *params.columns)))


_OUT = {"response": pl.String(), "finish_reason": pl.String(), "tokens_in": pl.Int32(), "tokens_out": pl.Int32(),
        "sample_index": pl.Int32()}


@op("generate.sample", version=1, kind=Kind.EXPAND, params=SampleParams, columns=_columns, out=_OUT,
    identity=template_identity, extensible=("n", "max_tokens"), provenance=("template",), asks_model=True)
class Sample:
    """Sample n answers per row from a model.

    Adds `response` (prefill and completion), `finish_reason` (stop, length or content_filter), `tokens_in`,
    `tokens_out` and `sample_index` (0 … n-1). A row whose column is null asks nothing, and is rejected as
    `prompt_missing`.
    """

    def requests(self, batch: pl.DataFrame, params: SampleParams, ctx: OpContext) -> list[Ask]:
        """n questions per row, in order of rows and then samples."""
        asked = questions(batch, params, ctx.identity["template"])
        extra = json.dumps(params.extra, sort_keys=True) if params.extra else ""
        return [Ask(row, slot, found.messages, found.prompt, found.prefill, params.temperature, params.top_p,
                    params.top_k, params.max_tokens, params.stop, found.spans, extra)
                for row, found in enumerate(asked) for slot in range(params.n)]

    def collect(self, batch: pl.DataFrame, asks: Sequence[Ask], completions: Sequence[Completion],
                params: SampleParams, ctx: OpContext) -> pl.DataFrame:
        """One row per question, in order."""
        pairs = list(zip(asks, completions, strict=True))
        columns: dict[str, list[Any]] = {
            "response": [ask.prefill + completion.text for ask, completion in pairs],
            "finish_reason": [completion.finish_reason for completion in completions],
            "tokens_in": [completion.tokens_in for completion in completions],
            "tokens_out": [completion.tokens_out for completion in completions],
            "sample_index": [ask.slot for ask in asks],
        }
        return pl.DataFrame(columns, schema=_OUT)
