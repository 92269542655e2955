"""The shape of a reasoning answer: where the thinking ends and the answer begins.

Shared by generators, verifiers and filters, which never import one another. The forms are R1-Zero's
`<think>…</think><answer>…</answer>` (R1 paper, Table 1) and R1's `<think>…</think>` followed by Markdown.
"""

from __future__ import annotations

from typing import NamedTuple

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
ANSWER_OPEN, ANSWER_CLOSE = "<answer>", "</answer>"


class Parts(NamedTuple):
    """A response split in two. Offsets are character positions of the parts' first characters in the response;
    `thinking` is None when the response has no thinking part, `answer` is None when there is nothing but thinking that
    never ends."""

    thinking: str | None
    answer: str | None
    thinking_at: int
    answer_at: int


def split_response(response: str) -> Parts:
    """Split a response into thinking and answer.

    The thinking ends at the first `</think>`; a missing `<think>` before it is allowed, since many templates put it
    into the prompt. Without `</think>` it is what follows `<think>`, and a response without either tag is all answer.
    No later thinking is part of the answer: what follows the thinking at once continues it, other blocks are cut out,
    and what follows a `<think>` that stays open is lost.
    """
    close = response.find(THINK_CLOSE)
    if close < 0:
        before, opened, after = response.partition(THINK_OPEN)
        if opened:
            start = len(before) + len(opened)
            if not before.strip():
                return Parts(after, None, start, len(response))
            answer, at = _tagged([(0, before)])
            return Parts(after, answer, start, at)
        answer, at = _tagged([(0, response)])
        return Parts(None, answer, 0, at)
    lead = len(response) - len(response.lstrip())
    start = lead + len(THINK_OPEN) if response.startswith(THINK_OPEN, lead) else 0
    pieces, close = _outside(response, close)
    if close < 0:
        return Parts(response[start:], None, start, len(response))
    answer, at = _tagged(pieces)
    return Parts(response[start:close], answer, start, at)


def _outside(response: str, close: int) -> tuple[list[tuple[int, str]], int]:
    """The pieces of the answer with their places, and where the thinking that ends at `close` does end once the blocks
    that follow at once are counted in: -1 if one of them stays open."""
    pieces: list[tuple[int, str]] = []
    at = close + len(THINK_CLOSE)
    while (opened := response.find(THINK_OPEN, at)) >= 0:
        closed = response.find(THINK_CLOSE, opened)
        if pieces or response[at:opened].strip():
            pieces.append((at, response[at:opened]))
        else:
            close = closed
        if closed < 0:
            return pieces, close
        at = closed + len(THINK_CLOSE)
    return [*pieces, (at, response[at:])], close


def _tagged(pieces: list[tuple[int, str]]) -> tuple[str, int]:
    """The pieces as one text, or what stands in the first `<answer>` of it, and the place where that begins."""
    text = "".join(piece for _, piece in pieces)
    before, opened, inner = text.partition(ANSWER_OPEN)
    if not opened:
        return text, pieces[0][0]
    begin, at = len(before) + len(opened), 0
    for place, piece in pieces:
        at = place + begin
        if begin < len(piece):
            break
        begin -= len(piece)
    return inner.partition(ANSWER_CLOSE)[0], at
