"""Numbers in Chinese: 二十五, 一百零三, 三分之一, 五又二分之一, 三点一四, 百分之五, 5万, 5百万."""

from __future__ import annotations

import re
from fractions import Fraction

_DIGITS = {sign: value for value, sign in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_SCALES = {"十": 10, "百": 100, "千": 1000}
_MYRIADS = {"万": 10**4, "亿": 10**8}
_NUMERAL = re.compile(r"[零〇一二两三四五六七八九十百千万亿]{1,20}")
# 千米 and 千克 are units
_SCALE = re.compile(r"(?:[十百万亿]|千(?![米克瓦帕焦卡赫]))+")
_SHARE = re.compile(rf"({_NUMERAL.pattern}|\d{{1,20}})分之({_NUMERAL.pattern}|\d{{1,20}})")


def read_chinese(text: str) -> tuple[Fraction, bool] | None:
    """The value of a numeral or a fraction, and whether it is said in per cent; None for any other text."""
    negative = text.startswith("负")
    text = text.removeprefix("负")
    for sign, join in (("又", _mixed), ("点", _decimal)):
        if sign in text:
            joined = join(*text.split(sign, 1))
            return None if joined is None else (-joined if negative else joined, False)
    share = _SHARE.fullmatch(text)
    if share is None:
        value = _whole(text)
        return None if value is None else (Fraction(-value if negative else value), False)
    bottom, top = (int(part) if part.isdecimal() else 100 if part == "百" else _whole(part) for part in share.groups())
    if top is None or not bottom:
        return None
    found = Fraction(-top if negative else top)
    return (found, True) if share[1] == "百" else (found / bottom, False)


def _mixed(whole: str, rest: str) -> Fraction | None:
    units, part = _whole(whole), read_chinese(rest) if "分之" in rest and not rest.startswith("负") else None
    return None if units is None or part is None or part[1] or part[0] >= 1 else units + part[0]


def _decimal(whole: str, rest: str) -> Fraction | None:
    units = _whole(whole)
    if units is None or not 1 <= len(rest) <= 20 or any(sign not in _DIGITS for sign in rest):
        return None
    return units + Fraction(int("".join(str(_DIGITS[sign]) for sign in rest)), 10**len(rest))


def leading_scale(text: str) -> tuple[int, int]:
    """The scale at the start of what stands behind digits, and where it ends: 万元 is 10 000 and 1."""
    found = _SCALE.match(text)
    if found is None:
        return 1, 0
    value = 1
    for sign in found[0]:
        value *= _SCALES.get(sign) or _MYRIADS[sign]
    return value, found.end()


def _whole(text: str) -> int | None:
    if not _NUMERAL.fullmatch(text) or (len(text) > 1 and not re.search("[十百千万亿]", text)):
        return None
    total = section = 0
    digit: int | None = None
    for sign in text:
        if sign in _DIGITS:
            if digit:
                return None
            digit = _DIGITS[sign]
        elif sign in _SCALES:
            if digit is None and (sign != "十" or section % 100):
                return None
            section += (1 if digit is None else digit) * _SCALES[sign]
            digit = None
        else:
            if not section and not digit:
                return None
            total = (total + section + (digit or 0)) * _MYRIADS[sign]
            section, digit = 0, None
    return total + section + (digit or 0)
