"""Keywords that begin a line of code."""

from __future__ import annotations

from typing import Any

import numpy as np

from factory.text.jit import inlined

_PLACE_BITS = np.uint64(56)


def _keywords() -> Any:
    """(A factor, 256 places): the last eight letters of a keyword, packed, stand at the place that the upper eight bits
    of their product with the factor name."""
    words = ("def", "class", "for", "while", "if", "elif", "else", "return", "import", "from", "print", "try", "except",
             "with", "assert", "const", "let", "var", "int", "void", "public", "function", "raise", "yield", "lambda",
             "pass", "break", "continue", "async", "await", "struct", "static")
    packed = np.unique(np.array([int.from_bytes(word.encode()[-8:], "big") for word in words], np.uint64))
    factor = np.uint64(0x9E3779B97F4A7C15)
    while len(np.unique(packed * factor >> _PLACE_BITS)) < len(packed):
        factor += np.uint64(2)
    places = np.zeros(256, np.uint64)
    places[packed * factor >> _PLACE_BITS] = packed
    return factor, places


_FACTOR, _KEYWORDS = _keywords()


@inlined
def is_keyword(data: Any, at: Any, end: Any) -> Any:
    """Whether the run of small ASCII letters at `at` is a keyword, by its last eight letters."""
    packed = np.uint64(0)
    while at < end and 97 <= data[np.uint64(at)] <= 122:
        packed = (packed << np.uint64(8)) | np.uint64(data[np.uint64(at)])
        at += 1
    return packed != 0 and _KEYWORDS[packed * _FACTOR >> _PLACE_BITS] == packed
