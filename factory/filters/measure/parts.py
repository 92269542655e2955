"""Thinking and answer of every row as byte spans, by the rules of `split_response`.

Rows with at most one `<think>` and one `</think>`, in this order, are split by a compiled scan; others, which are rare,
by `split_response` itself. An answer that is cut into pieces is joined and appended to the bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from factory.text.blocks import find_byte
from factory.text.buffers import TextBuffers
from factory.text.jit import inlined, kernel
from factory.text.tables import load_tables

from .parts_odd import find_pieces, split_odd
from .spans import holds, skip_space, to_chars, trim_space

Ints = npt.NDArray[np.int64]
_OPEN, _CLOSE = np.frombuffer(b"<think>", np.uint8), np.frombuffer(b"</think>", np.uint8)
_ANSWER, _ANSWER_END = np.frombuffer(b"<answer>", np.uint8), np.frombuffer(b"</answer>", np.uint8)
_TAGS = (_OPEN, _CLOSE, _ANSWER, _ANSWER_END)
_SIGN = 60
"""What every tag begins with."""


@dataclass(frozen=True, slots=True)
class Spans:
    """One text per row: `data[starts[i]:ends[i]]`; starts[i] is -1 where the row has no such text."""

    data: npt.NDArray[np.uint8]
    starts: Ints
    ends: Ints

    @property
    def there(self) -> npt.NDArray[np.bool_]:
        """Which rows have the text."""
        return self.starts >= 0

    @property
    def longest(self) -> int:
        """Bytes of the longest text."""
        return int((self.ends - self.starts).max(initial=0))


@dataclass(frozen=True, slots=True)
class Parts:
    """The rows of a column split in two. `joined[row]` are the pieces (byte place in the row, bytes) of an answer that
    does not stand in one piece in its row."""

    whole: Spans
    thinking: Spans
    answer: Spans
    joined: dict[int, list[tuple[int, int]]] = field(default_factory=dict)

    def locate(self, places: Ints) -> Ints:
        """Character offsets, in the rows' original texts, of one byte place per row (-1: none) in any of the spans."""
        places = places.copy()
        for row, pieces in self.joined.items():
            rest = int(places[row] - self.answer.starts[row])
            if places[row] >= 0 and 0 <= rest <= self.answer.ends[row] - self.answer.starts[row]:
                for at, size in pieces:
                    places[row] = self.whole.starts[row] + at + min(rest, size)
                    if rest < size:
                        break
                    rest -= size
        return to_chars(self.whole.data, self.whole.starts, places)  # type: ignore[no-any-return]


@inlined
def _find_tag(data: Any, at: int, stop: int, tag: Any) -> Any:
    """The first place of a tag in data[at:stop]; -1 if nowhere."""
    place = find_byte(data, at, stop, _SIGN)
    while place < stop:
        if holds(data, place, stop, tag):
            return place
        place = find_byte(data, place + 1, stop, _SIGN)
    return np.int64(-1)


@inlined
def _answer_span(data: Any, at: int, stop: int, tags: Any) -> Any:
    """data[at:stop], or what stands in the first `<answer>` of it."""
    opened = _find_tag(data, at, stop, tags[2])
    if opened < 0:
        return at, stop
    begin = opened + len(tags[2])
    end = _find_tag(data, begin, stop, tags[3])
    return begin, stop if end < 0 else end


@inlined
def _count_tags(data: Any, at: int, stop: int, tags: Any) -> Any:
    """How many `<think>` and `</think>` there are, and the place of the first of each (-1: none)."""
    opens, closes, opened, closed = 0, 0, np.int64(-1), np.int64(-1)
    place = find_byte(data, at, stop, _SIGN)
    while place < stop:
        if holds(data, place, stop, tags[0]):
            opens, opened = opens + 1, place if opens == 0 else opened
        elif holds(data, place, stop, tags[1]):
            closes, closed = closes + 1, place if closes == 0 else closed
        place = find_byte(data, place + 1, stop, _SIGN)
    return opens, closes, opened, closed


@kernel
def _split_rows(data: Any, offsets: Any, classes: Any, tags: Any, spans: Any, odd: Any) -> None:
    """Write (thinking start, end, answer start, end) of each row; mark rows that need the general rules as odd."""
    for row in range(len(offsets) - 1):
        at, stop = offsets[row], offsets[row + 1]
        opens, closes, opened, closed = _count_tags(data, at, stop, tags)
        spans[row, :] = -1
        if opens > 1 or closes > 1 or (opens == 1 and closes == 1 and opened > closed):
            odd[row] = True
        elif closes == 1:
            lead = skip_space(data, at, stop, classes)
            spans[row, 0] = lead + len(tags[0]) if opened == lead else at
            spans[row, 1] = closed
            spans[row, 2], spans[row, 3] = _answer_span(data, closed + len(tags[1]), stop, tags)
        elif opens == 1:
            spans[row, 0], spans[row, 1] = opened + len(tags[0]), stop
            if skip_space(data, at, opened, classes) < opened:
                spans[row, 2], spans[row, 3] = _answer_span(data, at, opened, tags)
        else:
            spans[row, 2], spans[row, 3] = _answer_span(data, at, stop, tags)


def split_rows(texts: TextBuffers) -> Parts:
    """Thinking and answer of every row (see the module docstring)."""
    data, offsets, rows = texts.data, texts.offsets, texts.rows
    spans, odd = np.empty((rows, 4), np.int64), np.zeros(rows, np.bool_)
    _split_rows(data, offsets, load_tables().classes, _TAGS, spans, odd)
    joined: dict[int, list[tuple[int, int]]] = {}
    extra: list[bytes] = []
    size = len(data)
    for row in np.flatnonzero(odd).tolist():
        base, raw = int(offsets[row]), data[offsets[row]:offsets[row + 1]].tobytes()
        thinking, answer = split_odd(raw.decode())
        spans[row, :2] = [base + place if place >= 0 else -1 for place in thinking]
        if answer is None:
            continue
        begin, end = answer
        if isinstance(end, str):
            extra.append(end.encode())
            joined[row] = find_pieces(raw, len(extra[-1]), begin)
            begin, end = size - base, size - base + len(extra[-1])
            size += len(extra[-1])
        spans[row, 2:] = base + begin, base + end
    if extra:
        data = np.concatenate([data, np.frombuffer(b"".join(extra), np.uint8)])
        data.flags.writeable = False
    columns = [np.ascontiguousarray(spans[:, column]) for column in range(4)]
    return Parts(Spans(data, offsets[:-1], offsets[1:]), Spans(data, columns[0], columns[1]),
                 Spans(data, columns[2], columns[3]), joined)


@kernel
def _trim_rows(data: Any, begins: Any, stops: Any, classes: Any, out: Any) -> None:
    for row in range(len(begins)):
        out[row, 0], out[row, 1] = begins[row], stops[row]
        if begins[row] >= 0:
            out[row, 0] = skip_space(data, begins[row], stops[row], classes)
            out[row, 1] = trim_space(data, out[row, 0], stops[row], classes)


def trim(spans: Spans) -> Spans:
    """The texts without the white space around them."""
    out = np.empty((len(spans.starts), 2), np.int64)
    _trim_rows(spans.data, spans.starts, spans.ends, load_tables().classes, out)
    return Spans(spans.data, np.ascontiguousarray(out[:, 0]), np.ascontiguousarray(out[:, 1]))
