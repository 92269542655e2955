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

from factory.text.jit import inlined
from factory.text.words import BASIS

from .ascii_words import read_short
from .charset import DIGIT, GREEK, LATIN, NEWLINE, SCRIPTS, STOP
from .code_lines import is_code_line
from .fences import skip_fence, skip_inline
from .formulas import skip_formula
from .letters import _is_identifier, _line_stop, _pass_address, _pass_number, char_at, read_word
from .masks import skip_tag, skip_url
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


_LETTER, _BLANK, _LINE, _MASKING, _REST = range(5)


def _begins() -> Any:
    """What each byte may begin: a word, white space, what `skip` masks, or anything else."""
    table = np.full(256, _REST, np.uint8)
    table[list(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")] = _LETTER
    table[32], table[10] = _BLANK, _LINE
    table[[0x24, 0x5C, 0x60, 0x7E, 0x3C, 0x22, 0x27, 0xE2, 0xC2, 0xE3]] = _MASKING
    return table


_BEGINS = _begins()


@inlined
def _may_be_url(data: Any, at: Any, end: Any) -> Any:
    """Whether "ht" or "ww" stands at `at`; few words begin so, few of those that begin with h do."""
    if at + 8 >= end:
        return False
    first, second = data[np.uint64(at)], data[np.uint64(at + 1)]
    return ((first == 104) & (second == 116)) | ((first == 119) & (second == 119))


@inlined
def _pass_identifier(named: Any, data: Any, after: Any, end: Any, page: Any, classes: Any) -> Any:
    """Where a name or an address ends whose first word ends at `after`; `after` where it is a plain word (0)."""
    if named == 2:
        return _pass_address(data, after, end)
    if named == 1:
        return _pass_number(data, after, end, page, classes)
    return after


@inlined
def _pass_masked(data: Any, begin: Any, at: Any, line: Any, end: Any, begins: Any, ahead: Any) -> Any:
    """Where what is masked at `at` ends; `at` itself where nothing is."""
    if begins == _MASKING:
        return skip(data, begin, at, line, end, ahead)
    if begins == _LETTER and _may_be_url(data, at, end):
        return skip_url(data, at, end)
    return at


@inlined
def scan_text(data: Any, begin: Any, end: Any, chars: Any, words: Any, ahead: Any) -> Any:
    """Write the words of `data[begin:end]` into six arrays (room for `end - begin + 1` words); how many there are.

    `start` and `stop` are byte offsets from `begin`, `value` the hash of the lower-cased word, `sentence` the number of
    the sentence it stands in. `ahead`: see `masks`.
    """
    page, classes, lower = chars
    start, stop, value, script, flags, sentence = words
    ahead[:] = line = begin
    count, sentences, fresh = 0, 0, True
    at = _line_stop(data, begin, end) if is_code_line(data, begin, end) else begin
    while at < end:
        byte = data[np.uint64(at)]
        begins = _BEGINS[byte]
        if begins == _BLANK:
            at += 1
            continue
        if begins == _LINE:
            line = at = at + 1
            sentences, fresh = sentences + (not fresh), True
            at = _line_stop(data, at, end) if is_code_line(data, at, end) else at
            continue
        own: Any = np.int64(LATIN)
        after = _pass_masked(data, begin, at, line, end, begins, ahead)
        if after > at:
            at = after
            continue
        if begins != _LETTER:
            _, wide, after = char_at(data, at, end, page, classes)
            own = np.int64(wide)
        if own == DIGIT:
            after = _pass_number(data, after, end, page, classes)
        elif 0 < own < SCRIPTS:
            letters, hashed = read_short(data, at, end) if begins == _LETTER else (np.int64(0), BASIS)
            after, odd, capital = at + letters, False, byte < 97
            if letters == 0:
                after, hashed, letters, odd, capital = read_word(data, at, end, page, classes, lower)
            named = _is_identifier(data, after, end, own, letters)
            start[count], stop[count], value[count] = at - begin, after - begin, hashed
            script[count], sentence[count] = own, sentences
            flags[count] = capital * CAPITAL + fresh * INITIAL
            # added and not branched on, since no processor can foretell it
            alone = (letters > 1) | (((own != LATIN) | (byte > 127)) & (own != GREEK))
            count += alone & (not odd) & (named == 0)
            fresh = False
            after = _pass_identifier(named, data, after, end, page, classes)
        elif own == STOP or own == NEWLINE or _ends_sentence(data, begin, at, end):  # noqa: SIM109 - compiled
            sentences, fresh = sentences + (not fresh), True
        at = after
    return count
