"""What a judge said: from free text to one vote, or none.

A verdict is a JSON object with a key `correctness` or `verdict`. Judges write it in many ways: in code fences, with
single or curly quotes, a comma too many, LaTeX that is no valid escape, Chinese words. Those are read; nothing else is
repaired, because a verdict that had to be guessed is not a verdict.

What is read must be the judge's own last word:

- the judge's thinking does not count, and thinking that never ends holds no verdict;
- an object inside another one's text is a quotation, and so is one that words follow: after the last verdict there may
  be white space, a closing fence, a full stop and special tokens;
- objects with different verdicts, or a verdict beside them that cannot be read, make the vote `unparseable`: a response
  may have slipped its own object into what the judge quotes.

Reading takes time in proportion to the text.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Literal

from factory.engine.text import THINK_CLOSE, THINK_OPEN

Vote = Literal["correct", "incorrect", "ambiguous", "unparseable"]

_WORDS: dict[str, Vote] = {
    **dict.fromkeys(("correct", "right", "true", "yes", "equivalent", "equal", "same", "正确", "对", "是", "等价",
                     "相同", "一致"), "correct"),
    **dict.fromkeys(("incorrect", "wrong", "false", "no", "not correct", "different", "not equivalent", "不正确",
                     "错误", "错", "不对", "否", "不等价", "不同", "不一致"), "incorrect"),
    **dict.fromkeys(("ambiguous", "unclear", "模糊", "不明确", "不确定", "有歧义"), "ambiguous"),
}
_LEAD = re.compile(r"(?:the |this |it |they )?(?:(?:final )?answers? |response )?(?:to be evaluated )?(?:is|are) ")
_KEYS = ("correctness", "verdict", "正确性", "结论", "判断")
_ANALYSIS = ("analysis", "分析")
_QUOTES = "\"'“”‘’"
_OPENING = re.compile(rf"\{{\s*[{_QUOTES}]")
_KEY = re.compile(rf"[{_QUOTES}]\s*(?:{'|'.join(_KEYS)})\s*[{_QUOTES}]\s*[:：]", re.IGNORECASE)
_STRING = r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|“[^”]*”|‘[^’]*’"
_MEMBER = re.compile(rf"\s*({_STRING})\s*[:：]\s*({_STRING}|[^\s,，{{}}\[\]{_QUOTES}]+)\s*([,，]?)\s*", re.DOTALL)
_TOKEN = re.compile(r"\"(?:[^\"\\]|\\.)*\"|[{}]", re.DOTALL)
_NOTHING_MORE = re.compile(r"(?:\s|```|~~~|[.。]|<[|｜][^<>|｜]{1,40}[|｜]>|</[a-z]{1,20}>|<(?:eos|end_of_turn)>)*+")
_JSON = json.JSONDecoder(strict=False, object_pairs_hook=list)
_FAULTS = 16
"""After so many places that look like an object and are none, a text is given up."""

Pairs = list[tuple[str, Any]]


@dataclass(frozen=True, slots=True)
class Reading:
    """One reply: the vote, and the judge's analysis (all it wrote, where there is no such key)."""

    vote: Vote
    analysis: str


def read_reply(text: str) -> Reading:
    """Read one reply of a judge; see the module docstring."""
    said = text.strip()
    if said.startswith(THINK_OPEN):
        _, closed, said = said.partition(THINK_CLOSE)
        if not closed:
            return Reading("unparseable", text.strip())
    found, rest, tail = _verdicts(said)
    votes = {_word(value) for pairs in found for value in _values(pairs, _KEYS)} - {None}
    last = _word(_values(found[-1], _KEYS)[-1]) if found else None
    if last is None or len(votes) != 1 or _KEY.search(rest) or not _NOTHING_MORE.fullmatch(tail):
        return Reading("unparseable", said.strip())
    analysis = next((value for value in _values(found[-1], _ANALYSIS) if isinstance(value, str)), said)
    return Reading(last, analysis.replace("\f", "\\f").replace("\b", "\\b").strip())


def _verdicts(text: str) -> tuple[list[Pairs], str, str]:
    """The objects with a verdict that stand after the thinking, what stands there beside all objects, and what follows
    the last of those with a verdict."""
    found: list[Pairs] = []
    beside: list[str] = []
    at = faults = end = 0
    while faults < _FAULTS and (opening := _OPENING.search(text, at)):
        pairs, after = _read_object(text, opening.start())
        read_until = opening.start() if pairs is not None else after
        beside.append(text[at:read_until])
        if THINK_CLOSE in text[at:opening.start()]:
            found.clear()
            beside = [beside[-1].rpartition(THINK_CLOSE)[2]]
        faults += pairs is None
        if pairs is not None and _values(pairs, _KEYS):
            found.append(pairs)
            end = after
        at = after
    if faults == _FAULTS or THINK_CLOSE in text[at:]:
        return [], text, ""
    return found, "\n".join([*beside, text[at:]]), text[end:]


def _read_object(text: str, start: int) -> tuple[Pairs | None, int]:
    """The members of the object at `start` and where it ends; without members, where to go on looking."""
    try:
        pairs, end = _JSON.raw_decode(text, start)
    except (ValueError, RecursionError):
        return _read_flat(text, start)
    return pairs, end


def _read_flat(text: str, start: int) -> tuple[Pairs | None, int]:
    """An object of plain members that is not quite JSON. Backslashes stay as they are unless a quote follows."""
    pairs: Pairs = []
    at = start + 1
    while member := _MEMBER.match(text, at):
        key, value, comma = member.groups()
        pairs.append((_unquote(key), _unquote(value)))
        at = member.end()
        if text.startswith("}", at):
            return pairs, at + 1
        if not comma:
            break
    return None, _end_of_braces(text, start) or start + 1


def _end_of_braces(text: str, start: int) -> int | None:
    depth = 0
    for token in _TOKEN.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(token.group(), 0)
        if depth == 0:
            return token.end()
    return None


def _unquote(text: str) -> str:
    if text[0] not in _QUOTES:
        return text
    return re.sub(r"\\([\"'/\\])", r"\1", text[1:-1])


def _values(pairs: Pairs, names: tuple[str, ...]) -> list[Any]:
    return [value for key, value in pairs if key.strip().lower() in names]


def _word(value: Any) -> Vote | None:
    """The vote that a word, or "the answer is" that word, stands for; None for everything else."""
    if isinstance(value, bool):
        return "correct" if value else "incorrect"
    if not isinstance(value, str):
        return None
    said = " ".join(value.strip(" \t\r\n*`.。").lower().split())
    return _WORDS.get(_LEAD.sub("", said, count=1) if _LEAD.match(said) else said)
