"""Sample rows of a dataset for the page: which, and how much of each. Which rows is decided by their content, so the
same dataset shows the same rows wherever it lies; long texts are cut by what they weigh in the page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl

from factory.engine.text import THINK_CLOSE, Parts, split_response

_HIDDEN = ("row_id", "row_key", "answer_key", "parent_row_id", "entry", "weight")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_PAGE_BYTES = 500_000
_PROMPT, _THINKING, _ANSWER = 4_000, 16_000, 8_000


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A row: `prompt`, `thinking` (None without any), `answer`; rows without a response have `fields` instead."""

    row_id: int
    expected: str | None
    prompt: str
    thinking: str | None
    thinking_length: int
    answer: str
    fields: tuple[tuple[str, str], ...]


def sample(rows: pl.LazyFrame, count: int, datasets: int, rank: Callable[[pl.DataFrame, str], pl.DataFrame],
           seen: set[int]) -> list[Excerpt]:
    """`count` rows as `rank` orders them, in the space that one of `datasets` datasets has. Rows of `seen`, which
    another dataset showed, come last; what is chosen is added to it."""
    schema = rows.collect_schema()
    if count == 0 or not {"row_id", "row_key"} <= set(schema.names()):
        return []
    keys = [name for name in ("row_id", "row_key", "answer_key") if name in schema]
    ranked = rank(rows.select(keys).collect(), "random")["row_id"].to_list()
    ids = sorted(ranked, key=lambda row_id: row_id in seen)[:count]  # stable: the rank decides among equals
    seen.update(ids)
    chosen = pl.DataFrame({"row_id": ids}, schema={"row_id": pl.Int64}).with_row_index("_place")
    found = rows.filter(pl.col("row_id").is_in(chosen["row_id"].implode())).collect()
    share = min(1.0, _PAGE_BYTES / (datasets * count * (_PROMPT + _THINKING + _ANSWER)))
    return [_excerpt(row, share) for row in chosen.join(found, on="row_id").sort("_place").to_dicts()]


def printable(text: str) -> str:
    """Text without what HTML cannot hold: control characters as their pictures, lone surrogates replaced."""
    return _CONTROL.sub(lambda found: chr(0x2400 + ord(found[0])) if found[0] < " " else "\ufffd",
                        text.replace("\r\n", "\n"))


def clip(text: str, most: int) -> str:
    """The text if it takes at most `most` bytes in the page, or its beginning and how much was left out."""
    if len(text) <= most and _weight(text) <= most:
        return text
    kept = text[:most]
    while kept and _weight(kept) > most:
        kept = kept[: min(len(kept) - 1, len(kept) * most // _weight(kept))]
    return f"{kept} […] ({len(text) - len(kept):,} more characters)"


def _weight(text: str) -> int:
    """Bytes of the text as escaped HTML, at most."""
    return len(printable(text).encode()) + 4 * sum(text.count(char) for char in "&<>'\"")


def _excerpt(row: dict[str, Any], share: float) -> Excerpt:
    expected = row.get("answer")
    common = {"row_id": row["row_id"], "expected": clip(_text(expected), 500) if expected is not None else None}
    if row.get("response") is None:
        shown = [(name, value) for name, value in row.items() if name not in (*_HIDDEN, "_place") and value is not None]
        room = int(share * (_PROMPT + _THINKING + _ANSWER)) // max(1, len(shown))
        return Excerpt(**common, prompt="", thinking=None, thinking_length=0, answer="",
                       fields=tuple((name, clip(_text(value), room)) for name, value in shown))
    response = _text(row["response"])
    parts = split_response(response)
    answer = response if parts.thinking is None else _behind(response, parts)
    thinking = parts.thinking if parts.thinking is None else clip(parts.thinking.strip(), int(share * _THINKING))
    return Excerpt(**common, prompt=clip(_text(row.get("prompt", "")), int(share * _PROMPT)), thinking=thinking,
                   thinking_length=len(parts.thinking or ""), answer=clip(answer.strip(), int(share * _ANSWER)),
                   fields=())


def _behind(response: str, parts: Parts) -> str:
    """What a reader sees beside the thinking: all that follows it, or the answer where that stands before it."""
    if parts.answer is None or parts.thinking is None:
        return ""
    if parts.answer_at < parts.thinking_at:
        return parts.answer
    return response[parts.thinking_at + len(parts.thinking) + len(THINK_CLOSE):]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(turn, dict) and "content" in turn for turn in value):
        return "\n".join(f"{turn.get('role', '')}: {_text(turn['content'])}" for turn in value)
    return json.dumps(value, ensure_ascii=False, default=str)
