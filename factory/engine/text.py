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
    `thinking` is None when the response has no thinking part, `answer` is None when the thinking never ends."""

    thinking: str | None
    answer: str | None
    thinking_at: int
    answer_at: int


def split_response(response: str) -> Parts:
    """Split a response into thinking and answer.

    A response without `</think>` that begins with `<think>` is all thinking (the answer is None); one without either
    tag is all answer. A missing `<think>` before `</think>` is allowed, since many templates put it into the prompt.
    """
    close = response.find(THINK_CLOSE)
    lead = len(response) - len(response.lstrip())
    opens = response.startswith(THINK_OPEN, lead)
    start = lead + len(THINK_OPEN) if opens else 0
    if close < 0:
        if opens:
            return Parts(response[start:], None, start, len(response))
        thinking, after = None, 0
        start = 0
    else:
        thinking, after = response[start:close], close + len(THINK_CLOSE)
    rest = response[after:]
    inner = rest.find(ANSWER_OPEN)
    if inner >= 0:
        begin = inner + len(ANSWER_OPEN)
        end = rest.find(ANSWER_CLOSE, begin)
        return Parts(thinking, rest[begin:end if end >= 0 else len(rest)], start, after + begin)
    return Parts(thinking, rest, start, after)
