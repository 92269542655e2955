"""Reading characters and words from UTF-8 bytes."""

from __future__ import annotations

from typing import Any

import numpy as np

from factory.text.jit import inlined
from factory.text.words import BASIS, decode

from .ascii_words import finish, push, read_ascii
from .charset import DIGIT, FIRST_SPACELESS, LAST_SPACELESS, LATIN, LOWER_BELOW, MARK
from .masks import is_ascii_letter


@inlined
def char_at(data: Any, at: Any, end: Any, page: Any, classes: Any) -> Any:
    """(code point, class, place after it)."""
    byte = data[at]
    if byte < 0x80:
        return np.int64(byte), classes[page[0], byte], at + 1
    code, after = decode(data, at, end)
    return code, classes[page[code >> 8], code & 255], after


@inlined
def read_word(data: Any, at: Any, end: Any, page: Any, classes: Any, lower: Any) -> Any:
    """The word at `at`: (place after it, hash, letters, whether it is an identifier, whether it has a capital)."""
    if is_ascii_letter(data[at]):
        begin, capital = at, data[at] < 97
        at, value, packed, many, odd, small = read_ascii(data, at, end)
        if at >= end or (data[at] < 0x80 and data[at] != 0x27):
            return at, finish(value, packed, many), at - begin, odd, capital
        script: Any = np.int64(LATIN)
        letters = at - begin
    else:
        code, first, after = char_at(data, at, end, page, classes)
        script = np.int64(first)
        own = script
        capital = code < LOWER_BELOW and lower[code] != code
        letters, odd, small = np.int64(own != MARK), False, not capital and own != MARK
        folded = np.int64(lower[code]) if code < LOWER_BELOW else code
        value, packed, many = push(BASIS, np.uint64(0), np.int64(0), folded)
        at = after
    while at < end and not FIRST_SPACELESS <= script <= LAST_SPACELESS:
        code, own, after = char_at(data, at, end, page, classes)
        if own != script and own != MARK:
            if not ((code == 0x27 or code == 0x2019) and after < end):
                break
            _, following, _ = char_at(data, after, end, page, classes)
            if following != script:
                break
            code, own = np.int64(0x27), MARK
        folded = np.int64(lower[code]) if code < LOWER_BELOW else code
        odd |= small and folded != code
        small |= folded == code and own != MARK
        letters += own != MARK
        value, packed, many = push(value, packed, many, folded)
        at = after
    return at, finish(value, packed, many), letters, odd, capital


def _after() -> Any:
    table = np.zeros(256, np.uint8)
    table[list(b"(_0123456789")] = 1
    table[list(b"@.")] = 2
    return table


_AFTER = _after()


@inlined
def _is_identifier(data: Any, at: Any, end: Any, script: Any, letters: Any) -> Any:
    """Whether a word that ends at `at` is a name of code by what follows it; 2 if it begins an address or a path."""
    if at >= end or _AFTER[data[np.uint64(at)]] == 0 or script != LATIN:
        return 0
    byte = data[at]
    if byte != 0x40 and byte != 0x2E:
        return 1
    return 2 if at + 1 < end and (byte == 0x40 or (97 <= data[at + 1] <= 122 and letters > 1)) else 0


@inlined
def _pass_number(data: Any, at: Any, end: Any, page: Any, classes: Any) -> Any:
    """The place after digits, underscores and the letters that touch them."""
    while at < end:
        _, own, after = char_at(data, at, end, page, classes)
        if own != DIGIT and own != LATIN and own != MARK:
            break
        at = after
    return at


@inlined
def _pass_address(data: Any, at: Any, end: Any) -> Any:
    while at < end and 32 < data[at] < 127 and data[at] != 0x2C and data[at] != 0x22 and data[at] != 0x27:
        at += 1
    return at


@inlined
def _line_stop(data: Any, at: Any, end: Any) -> Any:
    while at < end and data[np.uint64(at)] != 10:
        at += 1
    return at
