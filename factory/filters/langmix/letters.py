"""Reading characters and words from UTF-8 bytes."""

from __future__ import annotations

from typing import Any

import numpy as np

from factory.text.jit import inlined
from factory.text.words import BASIS, STEP, decode, mix

from .charset import DIGIT, FIRST_SPACELESS, LAST_SPACELESS, LATIN, LOWER_BELOW, MARK


@inlined
def char_at(data: Any, at: Any, end: Any, page: Any, classes: Any) -> Any:
    """(code point, class, place after it)."""
    byte = data[at]
    if byte < 0x80:
        return np.int64(byte), classes[page[0], byte], at + 1
    code, after = decode(data, at, end)
    return code, classes[page[code >> 8], code & 255], after


@inlined
def _read_ascii(data: Any, at: Any, end: Any) -> Any:
    """The run of ASCII letters at `at`, of which most words consist: as `read_word`, but the hash is not mixed; and
    whether there was a small letter."""
    value, letters, odd, small = BASIS, 0, False, False
    while at < end:
        byte = np.int64(data[np.uint64(at)])  # unsigned, which spares the test for a negative index
        folded = byte | 0x20
        if not 97 <= folded <= 122 or byte >= 0x80:
            break
        odd |= small and folded != byte
        small |= folded == byte
        letters += 1
        value = (value ^ np.uint64(folded)) * STEP
        at += 1
    return at, value, letters, odd, small


@inlined
def read_word(data: Any, at: Any, end: Any, page: Any, classes: Any, lower: Any) -> Any:
    """The word at `at`: (place after it, hash, letters, whether it is an identifier, whether it has a capital)."""
    if 65 <= data[at] < 0x80:
        script: Any = np.int64(LATIN)
        capital = data[at] < 97
        at, value, letters, odd, small = _read_ascii(data, at, end)
        if at >= end or (data[at] < 0x80 and data[at] != 0x27):
            return at, mix(value), letters, odd, capital
    else:
        code, first, after = char_at(data, at, end, page, classes)
        script = np.int64(first)
        own = script
        capital = code < LOWER_BELOW and lower[code] != code
        letters, odd, small = np.int64(own != MARK), False, not capital and own != MARK
        value = (BASIS ^ np.uint64(lower[code] if code < LOWER_BELOW else code)) * STEP
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
        value = (value ^ np.uint64(folded)) * STEP
        at = after
    return at, mix(value), letters, odd, capital


@inlined
def _is_identifier(data: Any, at: Any, end: Any, script: Any, letters: Any) -> Any:
    """Whether a word that ends at `at` is a name of code by what follows it; 2 if it begins an address or a path."""
    if at >= end or script != LATIN:
        return 0
    byte = data[at]
    if byte == 0x28 or byte == 0x5F or 48 <= byte <= 57:
        return 1
    if at + 1 < end and (byte == 0x40 or (byte == 0x2E and 97 <= data[at + 1] <= 122 and letters > 1)):
        return 2
    return 0


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
