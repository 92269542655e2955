"""The conversations of a batch: from a prompt and a response, or from a column of messages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import polars as pl

from factory.engine.errors import DataError
from factory.filters.measured import read_column

Row = list[dict[str, str]] | tuple[bool | None, str, str]
"""A conversation that ends with an answer, or why there is none: passed, reason code, reason."""


def read_rows(batch: pl.DataFrame, prompt: str, response: str, messages: str | None, system: str | None,
              ) -> Iterator[Row]:
    """One for each row of the batch, in order.

    Raises:
        DataError: a column does not hold text, or messages.
    """
    if messages is not None:
        yield from _conversations(batch, messages)
        return
    lead = [] if system is None else [{"role": "system", "content": system}]
    for asked, answer in zip(read_column(batch, prompt), read_column(batch, response), strict=True):
        if asked is None or answer is None:
            yield None, "no_text", f"{prompt if asked is None else response} is null"
        else:
            yield [*lead, {"role": "user", "content": asked}, {"role": "assistant", "content": answer}]


def name_of(number: int, count: int, prompt: str, response: str, messages: str | None) -> str:
    """Where message `number` of `count` stands in the row."""
    if messages is not None:
        return f"{messages}[{number}]"
    return response if number == count - 1 else prompt if number == count - 2 else "system"


def _conversations(batch: pl.DataFrame, column: str) -> Iterator[Row]:
    dtype = batch.schema[column]
    if dtype not in (pl.String, pl.Null) and not isinstance(dtype, pl.List):
        raise DataError(f"column {column!r} has type {dtype}: expected a list of {{role, content}}, or its JSON text")
    for value in batch[column].to_list():
        if value is None:
            yield None, "no_text", f"{column} is null"
            continue
        try:
            yield _checked(json.loads(value) if isinstance(value, str) else value, column)
        except (ValueError, RecursionError) as error:
            yield False, "bad_messages", f"{column} is no JSON: {error}"[:300]


def _checked(value: Any, column: str) -> Row:
    if not isinstance(value, list) or not value:
        return False, "bad_messages", f"{column} is no list of messages"
    for number, message in enumerate(value):
        if not isinstance(message, dict) or not all(isinstance(message.get(key), str) for key in ("role", "content")):
            return False, "bad_messages", f"{column}[{number}] has no role and content that are text"
        try:
            f"{message['role']}{message['content']}".encode()
        except UnicodeEncodeError as error:
            return False, "not_unicode", f"{column}[{number}] holds half of a surrogate pair at {error.start}"
    if value[-1]["role"] != "assistant":
        return False, "no_response", f"{column} ends with {value[-1]['role'][:40]!r}: expected an answer (assistant)"
    return [{"role": message["role"], "content": message["content"]} for message in value]
