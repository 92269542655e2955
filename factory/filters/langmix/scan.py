"""One pass over a text: what is prose, its words, their scripts and sentences.

A *word* is a maximal run of letters of one script (combining marks and an apostrophe between two letters included);
in scripts written without spaces every character. Not counted, because they belong to no language: what `masks` and
`formulas` skip, lines that are mostly operators (bare code, bare formulas), identifiers (a run that touches a digit,
an underscore or an opening parenthesis, has a capital after a small letter, or stands before a dot and a small
letter), e-mail addresses, quoted names and single ASCII or Greek letters.

A *sentence* ends at . ! ? before white space or the end, at the full stops of other scripts, and at a line's end.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from factory.text.jit import inlined, kernel

from .charset import DIGIT, GREEK, LATIN, NEWLINE, SCRIPTS, STOP
from .code_lines import is_code_line
from .fences import skip_fence, skip_inline
from .formulas import skip_formula
from .letters import _is_identifier, _line_stop, _pass_address, _pass_number, char_at, read_word
from .masks import is_ascii_letter, skip_tag, skip_url
from .names import skip_name

CAPITAL, INITIAL = 1, 2
"""Flags of a word: it begins with a capital; it is the first of its sentence."""


@inlined
def skip(data: Any, begin: Any, at: Any, line: Any, end: Any, ahead: Any) -> Any:
    """The place after what is masked at `at`, or `at`."""
    byte = data[at]
    if byte == 0x24 or byte == 0x5C:
        return skip_formula(data, at, end, ahead)
    if byte == 0x60:
        stop = skip_fence(data, at, line, end)
        return stop if stop > at else skip_inline(data, at, end)
    if byte == 0x7E:
        return skip_fence(data, at, line, end)
    if byte == 0x3C:
        return skip_tag(data, at, end)
    if byte == 0x22 or byte == 0x27 or byte == 0xE2 or byte == 0xC2 or byte == 0xE3:
        return skip_name(data, begin, at, end)
    if byte == 104 or byte == 119:
        return skip_url(data, at, end)
    return at


@inlined
def _ends_sentence(data: Any, begin: Any, at: Any, end: Any) -> Any:
    """Whether . ! ? at `at` ends a sentence: white space, a quotation mark, ) ] or * follows, or nothing, or, after a
    small letter, a digit or a sign, a capital or a letter beyond ASCII."""
    byte = data[at]
    if byte != 0x2E and byte != 0x21 and byte != 0x3F:
        return False
    after = data[at + 1] if at + 1 < end else 32
    if after <= 32 or after == 0x22 or after == 0x27 or after == 0x29 or after == 0x5D or after == 0x2A:
        return True
    glued = 65 <= after <= 90 or after >= 0xC3
    return glued and at > begin and not 65 <= data[at - 1] <= 90


@inlined
def _may_skip(byte: Any) -> Any:
    return (byte < 0x80 and not is_ascii_letter(byte)) or byte == 104 or byte == 119 or (
        byte == 0xE2 or byte == 0xC2 or byte == 0xE3)


@kernel
def scan_text(data: Any, begin: Any, end: Any, page: Any, classes: Any, lower: Any, start: Any, stop: Any, value: Any,
              script: Any, flags: Any, sentence: Any) -> Any:
    """Write the words of `data[begin:end]` into the six arrays (room for `end - begin` words); how many there are.

    `start` and `stop` are byte offsets from `begin`, `value` the hash of the lower-cased word, `sentence` the number of
    the sentence it stands in.
    """
    ahead = np.full(5, begin, np.int64)
    line = begin
    count, sentences, fresh = 0, 0, True
    at = _line_stop(data, begin, end) if is_code_line(data, begin, end) else begin
    while at < end:
        byte = data[np.uint64(at)]
        if byte == 32:
            at += 1
            continue
        if byte == 10:
            line = at = at + 1
            sentences, fresh = sentences + (not fresh), True
            at = _line_stop(data, at, end) if is_code_line(data, at, end) else at
            continue
        after = skip(data, begin, at, line, end, ahead) if _may_skip(byte) else at
        if after > at:
            at = after
            continue
        if is_ascii_letter(byte):
            own: Any = np.int64(LATIN)
            after = at + 1
        else:
            _, wide, after = char_at(data, at, end, page, classes)
            own = np.int64(wide)
        if own == DIGIT:
            after = _pass_number(data, after, end, page, classes)
        elif 0 < own < SCRIPTS:
            after, hashed, letters, odd, capital = read_word(data, at, end, page, classes, lower)
            kind = _is_identifier(data, after, end, own, letters)
            if not odd and kind == 0 and (letters > 1 or ((own != LATIN or byte > 127) and own != GREEK)):
                start[count], stop[count], value[count] = at - begin, after - begin, hashed
                script[count], sentence[count] = own, sentences
                flags[count] = capital * CAPITAL + fresh * INITIAL
                count += 1
            fresh = False
            if kind == 2:
                after = _pass_address(data, after, end)
            elif kind == 1:
                after = _pass_number(data, after, end, page, classes)
        elif own == STOP or own == NEWLINE or _ends_sentence(data, begin, at, end):  # noqa: SIM109 - compiled
            sentences, fresh = sentences + (not fresh), True
        at = after
    return count
