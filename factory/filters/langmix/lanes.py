"""Languages, and the lanes in which those that share a script compete."""

from __future__ import annotations

from functools import cache

from . import charset as c

LANES: dict[int, tuple[str, ...]] = {
    c.LATIN: ("en", "es", "fr", "de", "it", "pt", "nl", "pl", "sv", "tr", "vi", "id", "ro", "cs", "hu", "fi", "da",
              "no", "ca", "hr", "sk", "lt", "lv", "et", "sq", "sw", "tl", "az", "eu", "cy", "sl", "is"),
    c.CYRILLIC: tuple(["ru", "uk", "bg", "be", "sr", "mk", "kk", "mn"]),
    c.ARABIC: tuple(["ar", "fa", "ur"]),
    c.DEVANAGARI: tuple(["hi", "mr", "ne"]),
}
"""Languages that are told apart by their words, by script. The order is that of the columns of the tables."""
WIDTH = 32
OWNERS = {
    c.HAN: "zh", c.KANA: "ja", c.THAI: "th", c.LAO: "lo", c.KHMER: "km", c.BURMESE: "my", c.TIBETAN: "bo",
    c.HANGUL: "ko", c.GREEK: "el", c.HEBREW: "he", c.BENGALI: "bn", c.GURMUKHI: "pa", c.GUJARATI: "gu", c.TAMIL: "ta",
    c.TELUGU: "te", c.KANNADA: "kn", c.MALAYALAM: "ml", c.SINHALA: "si", c.ARMENIAN: "hy", c.GEORGIAN: "ka",
    c.ETHIOPIC: "am", c.OTHER: "und"}
"""The language that a script stands for where only one of note is written in it."""
FOLDED = {"yue": "zh", "wuu": "zh", "cmn": "zh", "nb": "no", "nn": "no", "ms": "id", "bs": "hr", "sh": "hr",
          "fil": "tl", "in": "id", "iw": "he"}
"""Varieties that are not told apart."""


@cache
def languages() -> tuple[str, ...]:
    """Every language that the measure knows; a language's number is its place here. The first is `und`."""
    named = [one for lanes in LANES.values() for one in lanes] + list(OWNERS.values())
    return ("und", *(one for one in dict.fromkeys(named) if one != "und"))


@cache
def fold(code: str) -> str:
    """The code without its region, varieties folded: `zh-CN`, `yue` -> `zh`."""
    code = code.lower().replace("_", "-").split("-")[0]
    return FOLDED.get(code, code)


@cache
def number_of(code: str) -> int:
    """The number of a language code, folded; 0 where it is not known."""
    known = languages()
    code = fold(code)
    return known.index(code) if code in known else 0
