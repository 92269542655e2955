"""The definitions in plain, slow Python."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise

from factory.text.tables import MARK_RANGES, SPACELESS_RANGES

_TOKEN = re.compile(rf"[{SPACELESS_RANGES}]|(?:[^\W{SPACELESS_RANGES}]|[{MARK_RANGES}])+|\S")
_WORD = re.compile(rf"[{SPACELESS_RANGES}]|(?:[^\W{SPACELESS_RANGES}]|[{MARK_RANGES}])+")


def tokens(text: str) -> list[str]:
    return _TOKEN.findall(text)


def words(text: str) -> list[str]:
    return _WORD.findall(text)


def repeats(pieces: list[str]) -> tuple[int, int]:
    seen: set[str] = set()
    count = chars = 0
    for piece in pieces:
        if piece in seen:
            count, chars = count + 1, chars + len(piece)
        seen.add(piece)
    return count, chars


def gopher(text: str, given: list[str] | None = None) -> list[float]:
    """The thirteen statistics of table A1 by datatrove's rules."""
    if not text:
        return [0.0] * 13
    words, out = tokens(text) if given is None else given, []
    for pieces in (re.split(r"\n+", text), re.split(r"\n{2,}", text.strip())):
        count, chars = repeats(pieces)
        out += [count / len(pieces), chars / len(text)]
    for n in (2, 3, 4):
        grams = Counter(" ".join(words[at:at + n]) for at in range(len(words) - n + 1))
        gram, times = grams.most_common(1)[0] if grams else ("", 0)
        out.append(len(gram) * times / len(text))
    for n in range(5, 11):
        seen, at, chars = set(), 0, 0
        while at < len(words) - n + 1:
            gram = "".join(words[at:at + n])
            if gram in seen:
                chars, at = chars + len(gram), at + n
            else:
                seen.add(gram)
                at += 1
        out.append(chars / len(text))
    return out


def tail_loop(text: str) -> tuple[int, float]:
    """(characters, times in bytes) of the loop, by trying every period."""
    raw = text.rstrip().encode()
    best, unit = 0, 0
    for period in range(1, len(raw) // 3 + 1):
        same = 0
        while same < len(raw) - period and raw[-1 - same] == raw[-1 - same - period]:
            same += 1
        if same >= 2 * period and same + period > best:
            best, unit = same + period, period
    if not unit:
        return 0, 0.0
    suffix = raw[-best:].decode(errors="ignore") if best else ""
    return len(suffix), len(suffix.encode()) / unit


def lz_bytes(raw: bytes) -> int:
    slots: dict[int, int] = {}
    size = place = literals = 0
    extra = lambda run, most: 0 if run < most else (run - most) // 255 + 1  # noqa: E731
    while place + 4 <= len(raw):
        slot = (int.from_bytes(raw[place:place + 4], "little") * 2654435761 & 0xFFFFFFFF) >> 20
        other, slots[slot] = slots.get(slot, -1), place
        if other < 0 or place - other > 65535 or raw[other:other + 4] != raw[place:place + 4]:
            place += 1 + ((place - literals) >> 6)
            continue
        length = 4
        while place + length < len(raw) and raw[other + length] == raw[place + length]:
            length += 1
        run = place - literals
        size += 3 + run + extra(run, 15) + extra(length, 19)
        place += length
        literals = place
    run = len(raw) - literals
    return size + 1 + run + extra(run, 15)


def sentences(text: str) -> list[str]:
    """Sentences without the white space around them; end marks as the module says, walked sign by sign."""
    out, begin, at = [], 0, 0

    def close(end: int) -> None:
        piece = text[begin:end].strip()
        if piece:
            out.append(piece)

    while at < len(text):
        if begin == at and text[at].isspace():
            begin = at = at + 1
            continue
        sign = text[at]
        at += 1
        if sign == "\n":
            close(at - 1)
            begin = at
        elif sign in ".!?":
            after = at
            while after < len(text) and text[after] in "\"')]*" + sign:
                after += 1
            if after == len(text) or text[after] in " \t\n\r\x0b\x0c":
                close(after)
                begin = at = after
        elif sign in "。！？।॥؟۔" or (sign == "…" and (at == len(text) or text[at] <= " ")):
            close(at)
            begin = at
    close(len(text))
    return out


def paragraphs(text: str) -> list[tuple[int, str]]:
    """(lines, paragraph without the white space around it)."""
    out: list[tuple[int, str]] = []
    block: list[str] = []
    for line in [*text.strip().split("\n"), ""]:
        if line.strip():
            block.append(line)
        elif block:
            out.append((len(block), "\n".join(block).strip()))
            block = []
    return out


def spans_of(words: list[str], text: str) -> list[tuple[int, int]]:
    """Byte spans of words that stand in the text in this order."""
    out, at = [], 0
    for word in words:
        place = text.index(word, at)
        out.append((len(text[:place].encode()), len(text[:place + len(word)].encode())))
        at = place + len(word)
    return out


def cuts(rows: int, points: list[int]) -> list[tuple[int, int]]:
    """Slices of a batch at the given points."""
    return list(pairwise(sorted({0, rows, *(point % (rows + 1) for point in points)})))
