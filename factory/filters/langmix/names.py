"""Quoted names (see `masks` for the calling rule)."""

from __future__ import annotations

from typing import Any

from factory.text.jit import inlined

from .masks import is_ascii_letter


@inlined
def _opens(data: Any, at: Any, end: Any) -> Any:
    """(place after an opening quotation mark, the byte that its closing one ends with, whether that is one byte)."""
    byte = data[at]
    if byte == 0x22 or byte == 0x27:
        return at + 1, byte, True
    if byte == 0xE2 and at + 2 < end and data[at + 1] == 0x80 and (data[at + 2] == 0x9C or data[at + 2] == 0x98):
        return at + 3, data[at + 2] + 1, False
    if byte == 0xC2 and at + 1 < end and data[at + 1] == 0xAB:
        return at + 2, 0xBB, False
    if byte == 0xE3 and at + 2 < end and data[at + 1] == 0x80 and (data[at + 2] == 0x8A or data[at + 2] == 0x8C):
        return at + 3, data[at + 2] + 1, False
    return at, 0, True


@inlined
def _closes(data: Any, at: Any, begin: Any, i: Any) -> Any:
    """Whether the byte at `i` ends a quotation mark of as many bytes, with the same first ones, as that at `at`."""
    for k in range(1, begin - at):  # noqa: SIM110 - compiled
        if i - k < begin or data[i - k] != data[begin - 1 - k]:
            return False
    return True


@inlined
def skip_name(data: Any, start: Any, at: Any, end: Any) -> Any:
    """A quoted name: one quoted word without white space, or at most five words of which all but particles of up to
    three letters begin with a capital letter or a digit. At most 60 bytes, 12 of them beyond ASCII; a quotation mark
    that follows a letter opens nothing. Words beyond ASCII count as capitalised only by their ASCII first letter."""
    if at > start and is_ascii_letter(data[at - 1]):
        return at
    begin, sign, ascii_sign = _opens(data, at, end)
    if begin == at:
        return at
    words, capitals, wide, i = 1, 0, 0, begin
    last = min(end, begin + 60)
    fresh = True
    while i < last and data[i] != 10:
        byte = data[i]
        if byte == sign and (ascii_sign or _closes(data, at, begin, i)):
            closed = i > begin and not (byte == 0x27 and i + 1 < end and is_ascii_letter(data[i + 1]))
            if closed:
                return i + 1 if wide <= 12 and (words == 1 or (words <= 5 and capitals > 0)) else at
        if fresh:
            if 65 <= byte <= 90 or 48 <= byte <= 57:
                capitals += 1
            elif not (i + 3 < end and (data[i + 1] == 32 or data[i + 2] == 32 or data[i + 3] == 32)) and words > 1:
                return at
            fresh = False
        wide += byte > 127
        if byte == 32:
            words, fresh = words + 1, True
        i += 1
    return at
