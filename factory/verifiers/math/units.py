"""Units behind a number: which text is a unit, and which known units measure the same thing.

A unit is a word of at least three letters, a known abbreviation, or what stands in `\\text{…}`; a bare letter that
touches a number is a variable (`0.64N`, `3x`) and never a unit. Unknown units (apples, 小包) are names: they never make
two answers differ. Known ones have a kind and a scale, so 1 m is 100 cm and 2 hours are no 2 kg.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

_KNOWN: dict[str, dict[str, str]] = {
    "length": {"mm": "1/1000", "cm": "1/100", "dm": "1/10", "m": "1", "km": "1000", "inch": "127/5000",
               "foot": "381/1250", "yard": "1143/1250", "mile": "201168/125"},
    "mass": {"mg": "1/1000000", "g": "1/1000", "kg": "1", "ounce": "45359237/1600000000", "pound": "45359237/100000000",
             "ton": "1000"},
    "time": {"s": "1", "min": "60", "h": "3600", "day": "86400", "week": "604800"},
    "volume": {"ml": "1/1000", "l": "1", "liter": "1"},
    "money": {"cent": "1/100", "dollar": "1"},
    "angle": {"°": "1", "degree": "1"},
}
_NAMES = {"millimeter": "mm", "millimetre": "mm", "centimeter": "cm", "centimetre": "cm", "decimeter": "dm",
          "meter": "m", "metre": "m", "kilometer": "km", "kilometre": "km", "in": "inch", "inches": "inch",
          "ft": "foot",
          "feet": "foot", "yd": "yard", "mi": "mile", "milligram": "mg", "gram": "g", "kilogram": "kg", "kilo": "kg",
          "oz": "ounce", "lb": "pound", "lbs": "pound", "tonne": "ton", "sec": "s", "second": "s", "minute": "min",
          "mins": "min", "hour": "h", "hr": "h", "hrs": "h", "milliliter": "ml", "millilitre": "ml", "litre": "l",
          "usd": "dollar",
          "buck": "dollar", "deg": "°", "degree": "°", "厘米": "cm", "米": "m", "千米": "km", "公里": "km",
          "毫米": "mm", "分米": "dm", "克": "g", "千克": "kg", "公斤": "kg", "吨": "ton", "秒": "s", "分钟": "min",
          "小时": "h", "天": "day", "毫升": "ml", "升": "l", "度": "°"}
SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12, "万": 10**4,
          "亿": 10**8, "dozen": 12}
"""Words that multiply the number before them."""

_TEXT = re.compile(r"\\text\s*\{([^{}]*)\}")
_PHRASE = re.compile(r"[A-Za-z°\u4e00-\u9fff][A-Za-z°\u4e00-\u9fff'./ -]*(?:\^?[23])?(?:/[A-Za-z]+(?:\^?[23])?)?")
_TOUCHING = frozenset({"mm", "cm", "dm", "km", "mg", "kg", "ml", "mL", "lb", "lbs", "oz", "ft", "in", "hr", "hrs",
                       "min", "mph", "°", "°C", "°F", "usd", "USD", "nm", "Hz", "kHz", "MHz", "GHz", "Mbps", "MB", "GB",
                       "KB", "MiB", "eV", "keV", "MeV", "kJ", "kW", "kWh", "kPa", "Pa", "mol", "rad", "th", "st", "nd",
                       "rd",
                       "m^2", "m^3", "cm^2", "cm^3", "km^2", "mm^2", "ft^2", "ft^3", "in^2", "km/h", "m/s"})
_NO_UNIT = frozenset((
    "or", "and", "because", "is", "are", "was", "if", "when", "where", "to", "for", "then", "but", "not", "than", "so",
    "that", "thus", "since", "with", "the", "it", "we", "sin", "cos", "tan", "log", "exp", "mod", "sqrt", "pi"))


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit by name. `kind` and `scale` are set for known ones: only these are compared."""

    name: str
    kind: str = ""
    scale: Fraction = Fraction(1)


def read_unit(text: str, apart: bool) -> Unit | None:
    """What stands behind a number, if it can be nothing but a unit; `apart`: white space stands between them."""
    plain = _TEXT.sub(r" \1 ", text)
    marked = plain != text
    plain = " ".join(plain.replace(" ^", "^").split()).strip(" .")
    if not plain:
        return Unit("")
    if not _PHRASE.fullmatch(plain) or len(plain) > 40:
        return None
    words = plain.replace("/", " ").split()
    if not marked and (len(words) > 4 or any(word.lower() in _NO_UNIT for word in words)):
        return None
    known = _known(plain)
    if known and (marked or (apart and len(plain) > 1) or plain in _TOUCHING or plain[0] > "\u4e00"):
        return known
    long_enough = all(len(word) > 2 for word in words[:1]) or plain[0] > "\u4e00"
    if marked or plain in _TOUCHING or (long_enough and (apart or plain[0] > "\u4e00")):
        return Unit(plain.lower())
    return None


def _known(plain: str) -> Unit | None:
    name = plain if len(plain) < 3 else plain.lower()
    singular = name.removesuffix("s") if len(name) > 3 else name
    for candidate in (_NAMES.get(name, name), _NAMES.get(singular, singular)):
        for kind, scales in _KNOWN.items():
            if candidate in scales:
                return Unit(candidate, kind, Fraction(scales[candidate]))
    return None
