"""From an op's questions to requests: their answer keys, their seeds, and what a replay model is told beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import polars as pl

from factory.engine.identity import AnswerKeys, seed_of
from factory.engine.op import Ask
from factory.models.base import Completion, Request, Sampling
from factory.models.spec import ResolvedModel


def answer_keys(make: AnswerKeys, asks: Sequence[Ask], row_keys: Sequence[bytes],
                occurrences: Sequence[int]) -> list[str]:
    """The answer key of each question; `row_keys` and `occurrences` are by `ask.row`. What the samples of one row share
    is hashed once."""
    keys: list[str] = []
    before: Any = None
    state = None
    for ask in asks:
        shared = (id(ask.messages), id(ask.prompt), ask.prefill, ask.temperature, ask.top_p, ask.top_k, ask.stop,
                  ask.extra)
        if state is None or shared != before:
            state, before = make.request(rendered(ask)), shared
        keys.append(make.sample(state, row_keys[ask.row], occurrences[ask.row], ask.slot))
    return keys


def rendered(ask: Ask) -> dict[str, Any]:
    """What of a request enters its answer key: all but max_tokens and the slot."""
    further = {"extra": ask.extra} if ask.extra else {}
    return {"messages": [dict(m) for m in ask.messages] if ask.messages is not None else None, "prompt": ask.prompt,
            "prefill": ask.prefill, "temperature": ask.temperature, "top_p": ask.top_p, "top_k": ask.top_k,
            "stop": list(ask.stop), **further}


def make_request(key: str, ask: Ask, row: dict[str, Any]) -> Request:
    """A question as a backend gets it; its seed derives from the answer key."""
    sampling = _sampling(ask.temperature, ask.top_p, ask.top_k, ask.max_tokens, ask.stop, ask.extra)
    return Request(key, seed_of(key), sampling, ask.messages, ask.prompt, ask.prefill, ask.spans, row)


@lru_cache(maxsize=64)
def _sampling(*settings: Any) -> Sampling:
    return Sampling(*settings)


def whole(completion: Completion) -> Completion:
    """The answer with text that UTF-8 can hold: a limit may cut a pair of surrogates, and half of one is no
    character."""
    if completion.text.isascii():
        return completion
    try:
        completion.text.encode()
    except UnicodeEncodeError:
        mended = completion.text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return replace(completion, text=mended)
    return completion


class ReplayRows:
    """What the replay backend is told of a row beside the request: the columns that its rules name; recorded answers
    are found by prompt and sample. Other models see no rows."""

    def __init__(self, model: ResolvedModel | None, batch: pl.DataFrame, prompt: str | None):
        self._columns: dict[str, list[Any]] | None = None
        if model is not None and model.spec.replay is not None:
            self._columns = {name: batch[name].to_list() for name in rule_columns(model) if name in batch.columns}
            if prompt is not None and prompt in batch.columns:
                self._columns["prompt"] = batch[prompt].to_list()

    def row(self, ask: Ask) -> dict[str, Any]:
        """The row behind a question."""
        if self._columns is None:
            return {}
        return {**{name: column[ask.row] for name, column in self._columns.items()}, "sample_index": ask.slot}


def rule_columns(model: ResolvedModel | None) -> list[str]:
    """The row columns that a rule-made model's templates name; no other model sees rows."""
    if model is None or model.spec.replay is None:
        return []
    return list(_named(tuple(rule.text for rule in model.spec.replay.rules)))


@lru_cache(maxsize=16)
def _named(templates: tuple[str, ...]) -> tuple[str, ...]:
    from jinja2 import Environment, meta

    environment = Environment()
    named = (meta.find_undeclared_variables(environment.parse(text)) for text in templates)
    return tuple(sorted(set().union(*named) - {"rng"}))
