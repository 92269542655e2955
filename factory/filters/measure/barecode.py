"""Bare code: lines outside any fence that read as program text.

Two stages. `may_be_code` (compiled) throws out nearly every line of prose by its first word and its last sign; a
regular expression judges what is left. A line that holds a backslash is LaTeX far more often than a program and is
none; nor is a line of more than `LONGEST` bytes. Every alternative of the expression wants something that mathematics
does not have: a keyword with its colon, brace or semicolon, a dotted call, or one assignment (no second `=`, no `^`) to
a name in snake_case or UPPER_CASE: `Area_ABC = sqrt(21) = 4.6` is mathematics.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from factory.text.jit import inlined

LONGEST = 400
CODE_LINE = re.compile(  # at most one free `.*` in each alternative, so no line takes more than linear time
    r"[ \t]*(?:"
    r"(?:async )?def \w+ ?\(.*:$|class \w+(?:\(.*\))?:$|@\w[\w.]*(?:\(.*\))?$|import \w[\w.]*(?: as \w+)?$|"
    r"from \w[\w.]* import [\w*(, )]+$|for \w+(?:, ?\w+)* in [\w.]+(?:[\[(].*[\])])?:$|"
    r"(?:if|elif|while) [^=<>!()]*[=<>!(].*:$|(?:if|elif|while) (?:not )?[\w.]+(?: (?:not )?(?:in|is) [\w.]+)?:$|"
    r"(?:else|try|finally):$|except(?: \w.*)?:$|return [\w.\[\](){}'\"+*/%,<>= -]+;?$|return;?$|"
    r"(?:print|assert|len|range|input|printf)\(.*\);?$|"
    r"(?:[A-Za-z]\w* ?[-+*/%]?= ?)?[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+\(.*\);?$|"
    r"(?=[a-z]{2}[a-z0-9_]*_[a-z]{2}|[A-Z]{2}[A-Z0-9_]*_[A-Z]{2})\w++ ?[-+*/%]?= ?[^\s=][^=^≈°]*$|"
    r"#include ?[<\"]|(?:SELECT|INSERT INTO) .+;$|(?:>>>|In \[\d+\]:) .|function \w+\(.*\{$|"
    r"(?:public|private|static|const|let|var|int|void|double|float|long|char|string|bool|auto) .*[;{]$|"
    r"(?:for|while|if|switch) ?\(.*\) ?\{$|\}(?: ?else.*\{)?;?$"
    r")")


@inlined
def _word_byte(byte: Any) -> Any:
    return 0x61 <= (byte | 0x20) <= 0x7A or 0x30 <= byte <= 0x39 or byte == 0x5F or byte >= 0x80


@inlined
def _assigns(data: Any, at: int, stop: int) -> Any:
    """Whether data[at:stop] begins with `=`, perhaps after a space and an operator."""
    if at < stop and data[at] == 0x20:
        at += 1
    if at < stop and (data[at] == 0x2B or data[at] == 0x2D or data[at] == 0x2A or data[at] == 0x2F or data[at] == 0x25):
        at += 1
    return at < stop and data[at] == 0x3D


@inlined
def _bare_start(data: Any, at: int, stop: int, end: int) -> Any:
    """Whether the word data[at:end] is import, from or return (6, 4, 6 letters; told by length and three of them)."""
    size = end - at
    if size == 6:
        return ((data[at] == 0x69 and data[at + 1] == 0x6D and data[at + 2] == 0x70)
                or (data[at] == 0x72 and data[at + 1] == 0x65 and data[at + 2] == 0x74))
    return size == 4 and data[at] == 0x66 and data[at + 1] == 0x72 and data[at + 2] == 0x6F


@inlined
def may_be_code(data: Any, at: int, stop: int) -> Any:
    """False only for lines data[at:stop] that are no bare code; most of prose."""
    while stop > at and (data[stop - 1] == 0x20 or 9 <= data[stop - 1] <= 13 or 0x1C <= data[stop - 1] <= 0x1F):
        stop -= 1
    if stop == at:
        return False
    first = at
    while data[first] == 0x20 or data[first] == 9:
        first += 1
    sign, last = data[first], data[stop - 1]
    if sign == 0x40 or sign == 0x23 or sign == 0x3E or sign == 0x7D:  # @ # > }
        return True
    if not _word_byte(sign):
        return False
    end, underscore = first, False
    while end < stop and _word_byte(data[end]):
        underscore |= data[end] == 0x5F
        end += 1
    following = data[end] if end < stop else np.uint8(0)
    if last == 0x3B or last == 0x7B or (last == 0x3A and 0x61 <= sign <= 0x7A):  # ; { :
        return True
    if last == 0x29 and (following == 0x28 or following == 0x2E or _assigns(data, end, stop)):  # )
        return True
    if _bare_start(data, first, stop, end) or (sign == 0x49 and end - first == 2):  # In [1]:
        return True
    return underscore and _assigns(data, end, stop)
