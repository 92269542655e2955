"""Units behind a number: which text is a unit, and which known units measure the same thing.

A unit is a word of at least three letters, a known abbreviation, or what stands in `\\text{…}`; a bare letter that
touches a number is a variable (`0.64N`, `3x`) and never a unit, and words that change the number (or more, squared,
halves, 以上) are none. Unknown units (apples, 小包) are names: they never make two answers differ. Known ones have a
kind and a scale, also as powers and quotients, so 1 m is 100 cm, 1 l is 1000 cm^3, and 2 hours are no 2 kg.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

_KNOWN: dict[str, dict[str, str]] = {
    "length": {"mm": "1/1000", "cm": "1/100", "dm": "1/10", "m": "1", "km": "1000", "nm": "1/1000000000",
               "inch": "127/5000", "foot": "381/1250", "yard": "1143/1250", "mile": "201168/125"},
    "mass": {"mg": "1/1000000", "g": "1/1000", "kg": "1", "ounce": "45359237/1600000000", "pound": "45359237/100000000",
             "ton": "1000"},
    "time": {"s": "1", "min": "60", "h": "3600", "day": "86400", "week": "604800"},
    "dollar": {"cent": "1/100", "dollar": "1"}, "yuan": {"元": "1", "角": "1/10", "分": "1/100"},
    "euro": {"€": "1"}, "sterling": {"£": "1"},
    "angle": {"°": "1", "rad": "180000000/3141593"},
    "data": {"KB": "1000", "MB": "1000000", "GB": "1000000000", "TB": "1000000000000"},
    "power": {"W": "1", "kW": "1000", "MW": "1000000"}, "force": {"N": "1", "kN": "1000"},
    "energy": {"J": "1", "kJ": "1000", "kWh": "3600000"}, "pressure": {"Pa": "1", "kPa": "1000"},
    "frequency": {"Hz": "1", "kHz": "1000", "MHz": "1000000", "GHz": "1000000000"},
    "voltage": {"V": "1"}, "current": {"A": "1"}, "temperature": {"K": "1"}, "charge": {"C": "1"},
    "capacitance": {"F": "1"}, "inductance": {"H": "1"}, "field": {"T": "1"},
}
_VOLUMES = {"ml": "1/1000000", "l": "1/1000"}  # in cubic metres
_NAMES = {"millimeter": "mm", "millimetre": "mm", "centimeter": "cm", "centimetre": "cm", "decimeter": "dm",
          "meter": "m", "metre": "m", "kilometer": "km", "kilometre": "km", "in": "inch", "inches": "inch",
          "ft": "foot",
          "feet": "foot", "yd": "yard", "mi": "mile", "milligram": "mg", "gram": "g", "kilogram": "kg", "kilo": "kg",
          "oz": "ounce", "lb": "pound", "lbs": "pound", "tonne": "ton", "sec": "s", "second": "s", "minute": "min",
          "mins": "min", "hour": "h", "hr": "h", "hrs": "h", "milliliter": "ml", "millilitre": "ml", "mL": "ml",
          "litre": "l", "liter": "l", "L": "l",
          "usd": "dollar", "USD": "dollar", "美元": "dollar", "buck": "dollar", "euro": "€", "eur": "€", "yuan": "元",
          "rmb": "元", "块": "元", "人民币": "元", "deg": "°", "degree": "°", "radian": "rad", "弧度": "rad",
          "watt": "W", "newton": "N", "joule": "J", "厘米": "cm", "米": "m", "千米": "km", "公里": "km",
          "毫米": "mm", "分米": "dm", "克": "g", "千克": "kg", "公斤": "kg", "吨": "ton", "秒": "s", "分钟": "min",
          "小时": "h", "天": "day", "毫升": "ml", "升": "l", "度": "°"}
SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12,
          "quadrillion": 10**15, "tens": 10, "hundreds": 100, "thousands": 1000, "millions": 10**6, "billions": 10**9,
          "万": 10**4,
          "亿": 10**8, "dozen": 12}
"""Words that multiply the number before them."""

_TEXT = re.compile(r"\\text\s*\{([^{}]*)\}")
_PHRASE = re.compile(r"[A-Za-z°€£\u4e00-\u9fff][A-Za-z°\u4e00-\u9fff'./ -]*(?:(?<=[A-Za-z.])\^?[23])?"
                     r"(?:/[A-Za-z]+(?:\^?[23])?)?")
_TOUCHING = frozenset({"mm", "cm", "dm", "km", "mg", "kg", "ml", "mL", "lb", "lbs", "oz", "ft", "in", "hr", "hrs",
                       "min", "mph", "°", "°C", "°F", "usd", "USD", "nm", "Hz", "kHz", "MHz", "GHz", "Mbps", "MB", "GB",
                       "KB", "MiB", "eV", "keV", "MeV", "kJ", "kW", "kWh", "kPa", "Pa", "mol", "rad", "th", "st", "nd",
                       "rd",
                       "m^2", "m^3", "cm^2", "cm^3", "km^2", "mm^2", "ft^2", "ft^3", "in^2", "km/h", "m/s"})
_NO_UNIT = frozenset((
    "or", "and", "because", "is", "are", "was", "if", "when", "where", "to", "for", "then", "but", "not", "than", "so",
    "that", "thus", "since", "with", "the", "it", "we", "sin", "cos", "tan", "log", "exp", "mod", "sqrt", "pi"))
_OTHER_NUMBER = re.compile(
    r"(?i)\b(?:or|and|is|isn|are|but|not|nor|no|if|when|than|maybe|perhaps|possibly|either|neither|wrong|false|"
    r"incorrect|plus|minus|least|most|over|under|above|below|squared|cubed|factorial|negative|half|halves|quarters?|"
    r"thirds?|fourths?|fifths?|sixths?|sevenths?|eighths?|ninths?|tenths?|hundredths?|thousandths?|lakhs?|crores?|"
    r"\w+(?:teenths?|tieths?)|elevenths?|twelfths?|\w*fold|excluded|excepted|removed|millionths?|billionths?|doubled|tripled|twice|thrice|upwards?|onwards?|divided|into|choose|root|power|unless|"
    r"untrue|guess|by|pi|sqrt|sin|cos|tan|log|exp|mod|[xyz])\b"
    r"|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)(?![-\w])"
    r"|\b(?:more|less|fewer)$|\btimes\s+\S|[的又到至或不多余半错负几之除乘减]|加(?!仑)|和(?!尚)|次方|开方|分之|以上|以下|以内")
_POWERS = ((re.compile(r"(?i)^(?:square|sq\.?|平方)\s*(.+)"), 2), (re.compile(r"(?i)^(?:cubic|cu\.?|立方)\s*(.+)"), 3),
           (re.compile(r"(?i)^(.+?)\s*(?:\^?2|\s+squared)$"), 2), (re.compile(r"(?i)^(.+?)\s*(?:\^?3|\s+cubed)$"), 3))


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
    known = known_unit(plain)
    if known and (marked or (apart and len(plain) > 1) or plain in _TOUCHING or plain[0] > "\u4e00"):
        return known
    if _OTHER_NUMBER.search(plain) or (marked and len(plain) == 1 and plain.isascii()):
        return None
    long_enough = all(len(word) > 2 for word in words[:1]) or plain[0] > "\u4e00"
    if marked or plain in _TOUCHING or (long_enough and (apart or plain[0] > "\u4e00")):
        return Unit(plain.lower())
    return None


def known_unit(plain: str) -> Unit | None:
    """A known unit, a power of one or a quotient of two: `cm`, `square feet`, `平方米`, `km/h`, `meters per second`."""
    top, _, bottom = re.sub(r"\s+per\s+", "/", plain.replace("mph", "mile/h")).partition("/")
    above, below = _power(top.strip()), _power(bottom.strip()) if bottom else None
    if above is None or (bottom and below is None):
        return None
    if below is None:
        return Unit(plain, above[0], above[1])
    return Unit(plain, f"{above[0]}/{below[0]}", above[1] / below[1])


def _power(text: str) -> tuple[str, Fraction] | None:
    """The kind and scale of one unit or a power of it."""
    base = _base(text)
    if base:
        return base
    for pattern, power in _POWERS:
        found = pattern.match(text)
        base = _base(found[1].strip()) if found else None
        if base:
            return f"{base[0]}^{power}", base[1]**power
    return None


def _base(text: str) -> tuple[str, Fraction] | None:
    for name in (text, text.lower()) if len(text) > 2 else (text,):
        singular = name.removesuffix("s") if len(name) > 3 else name
        for candidate in (_NAMES.get(name, name), _NAMES.get(singular, singular)):
            if candidate in _VOLUMES:
                return "length^3", Fraction(_VOLUMES[candidate])
            for kind, scales in _KNOWN.items():
                if candidate in scales:
                    return kind, Fraction(scales[candidate])
    return None
