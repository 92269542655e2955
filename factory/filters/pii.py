"""filter.pii: personal data and secret keys that a model should not learn.

A secret is a key that opens something: tokens of known issuers, private keys, passwords in URLs, random values assigned
to names such as `api_key` (`pii_secrets`). Personal data are e-mail and IP addresses, telephone, card and bank account
numbers (`pii_persons`). What is reserved for documentation (example.com, 127.0.0.1, test cards) is neither. A find is
stored by kind, place and length, never by its text; a reason shows it masked (`al***@ex***.com`).

By default what opens or pays fails a row: secrets, cards, bank accounts. Addresses and telephone numbers are counted,
since a task may well hold those of a public office; `fail_on` or `where` decides.

One regular expression runs over the whole column first, in Rust by polars, and then one for each kind over the few rows
that it finds; Python looks only at what is left, for the kinds that are left.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import polars as pl
from pydantic import Field, field_validator

from factory.engine.op import SCORE_SCHEMA, Kind, OpContext, Params, op
from factory.engine.text import Parts, split_response
from factory.filters import pii_persons, pii_secrets
from factory.filters.measured import read_column

PiiKind = Literal["secret", "iban", "card", "email", "phone", "ip"]
KINDS: tuple[PiiKind, ...] = ("secret", "iban", "card", "email", "phone", "ip")
_OUT: dict[str, pl.DataType] = {
    **{f"{kind}_{part}": pl.Int32() for kind in KINDS for part in ("thinking", "answer")}, "evidence": pl.String()}
_MOST_EVIDENCE = 50
_ROUGH: dict[str, str] = {"secret": pii_secrets.ROUGH, **pii_persons.ROUGH}


class PiiParams(Params):
    """`fail_on`: kinds of which one find fails a row. `regions`: countries (ISO 3166-1, two letters) in which a
    telephone number is tried that names none."""

    text: str = "response"
    fail_on: tuple[PiiKind, ...] = ("secret", "iban", "card")
    regions: tuple[str, ...] = Field(default=("US", "GB", "DE", "FR", "ES", "IT", "IN", "CN", "JP", "KR", "BR"))

    @field_validator("regions")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for region in value:
            if not re.fullmatch("[A-Z]{2}", region):
                raise ValueError(f"region {region!r}: expected two capital letters (ISO 3166-1), such as 'US'")
        return value


class Found(NamedTuple):
    """A find: its kind, what exactly, and the characters [start, end) of the text; the first `shown` of them are no
    secret."""

    kind: PiiKind
    what: str
    start: int
    end: int
    shown: int


def find_pii(text: str, regions: Sequence[str] = PiiParams().regions, kinds: Sequence[str] = KINDS) -> list[Found]:
    """All finds of a text in the order of their places. Where two overlap the one of the earlier kind (`KINDS`) stays,
    of one kind the longer one."""
    finders: dict[PiiKind, Callable[[str], Iterable[pii_secrets.Span]]] = {
        "secret": pii_secrets.find_secrets, "iban": pii_persons.find_accounts, "card": pii_persons.find_cards,
        "email": pii_persons.find_emails, "phone": partial(pii_persons.find_phones, regions=regions),
        "ip": pii_persons.find_addresses}
    kept: list[Found] = []
    taken = bytearray()  # one for each character: a text may hold a hundred thousand finds
    for kind, finder in finders.items():  # in the order of KINDS
        found = [Found(kind, *span) for span in finder(text)] if kind in kinds else []
        taken = taken or bytearray(len(text) if found else 0)
        for one in sorted(found, key=lambda one: (one.start - one.end, one.start, one.what)):
            if taken.find(1, one.start, one.end) < 0:
                kept.append(one)
                taken[one.start:one.end] = b"\1" * (one.end - one.start)
    return sorted(kept, key=lambda one: one.start)


def mask(text: str, one: Found) -> str:
    """A find so that a reader knows which it is and nobody can use it."""
    shown = text[one.start:one.end]
    if one.kind == "email":
        local, _, host = shown.partition("@")
        name, _, top = host.rpartition(".")
        return f"{local[:2]}***@{name[:2]}***.{top}"
    if one.kind in ("secret", "iban"):
        return f"{shown[:one.shown][:24]}***"
    return f"***{shown[-2:]}"


def _score(text: str, kinds: Sequence[str], params: PiiParams) -> tuple[Any, ...]:
    found = find_pii(text, params.regions, kinds) if kinds else []
    if not found:
        return _NOTHING
    parts = split_response(text)
    counts = {name: 0 for name in _OUT if name != "evidence"}
    for one in found:
        counts[f"{one.kind}_{'thinking' if _is_thinking(parts, one) else 'answer'}"] += 1
    first = next((one for kind in params.fail_on for one in found if one.kind == kind), None)
    kinds = ", ".join(f"{sum(one.kind == kind for one in found)} {kind}" for kind in KINDS
                      if any(one.kind == kind for one in found))
    told = first or found[0]
    reason = f"{kinds}; {told.what} at {told.start}: {mask(text, told)}"
    proof = json.dumps([[one.kind, one.what, one.start, one.end - one.start] for one in found[:_MOST_EVIDENCE]])
    return (first is None, None, float(len(found)), first.kind if first else None, reason, *counts.values(), proof)


def _is_thinking(parts: Parts, one: Found) -> bool:
    return parts.thinking is not None and parts.thinking_at <= one.start < parts.thinking_at + len(parts.thinking)


def _rough_kinds(texts: pl.Series) -> dict[int, list[str]]:
    """The kinds that a text may hold, for those that may hold any."""
    rows = texts.str.contains("|".join(_ROUGH.values())).arg_true()
    likely = texts.gather(rows)
    kinds: dict[int, list[str]] = {}
    for kind, rough in _ROUGH.items():
        for row in rows.filter(likely.str.contains(rough)):
            kinds.setdefault(row, []).append(kind)
    return kinds


_NOTHING = (True, None, 0.0, None, "none found", *[0] * (len(_OUT) - 1), "[]")


@op("filter.pii", version=1, kind=Kind.SCORE, params=PiiParams, columns=lambda params: (params.text,), out=_OUT,

    code=("factory.filters.pii_persons", "factory.filters.pii_reserved", "factory.filters.pii_secrets"))
def pii(batch: pl.DataFrame, params: PiiParams, ctx: OpContext) -> pl.DataFrame:
    """Find secret keys and personal data in the thinking and in the answer.

    Columns: for each kind `<kind>_thinking` and `<kind>_answer` (finds; what stands outside the thinking counts for the
    answer); `evidence`, a JSON list of [kind, what, offset, length] in characters of the text, the first 50. `score` is
    the number of finds. The reason code is the first kind of `fail_on` that was found; `no_text` for null text
    (undecided).

    Raises:
        DataError: the column does not hold text.
    """
    texts = read_column(batch, params.text).to_list()
    kinds = _rough_kinds(batch[params.text].cast(pl.String))
    rows = [(None, None, None, "no_text", f"{params.text} is null", *[None] * len(_OUT)) if text is None
            else _score(text, kinds.get(row, ()), params) for row, text in enumerate(texts)]
    return pl.DataFrame(rows, schema={**SCORE_SCHEMA, **_OUT}, orient="row")
