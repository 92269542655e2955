"""Languages of stretches by lid.176 alone: what filter.language does for targets that its own tables do not know.

1. Formulas, code, URLs and tags are masked (`filters.masking`). Words are runs of letters of one script; Han, Kana and
   other scripts without spaces count one word per character. Single Latin or Greek letters are no words.
2. Words form *units*: stretches of one script within a sentence or line, at most 60 words long.
3. A script that one language owns decides. Else lid.176 reads the unit. It answers for the target where it gives the
   target a fair chance, and for another language only where it is sure, surer for short units than for long ones.
4. A unit too short or too unclear takes the language of its nearest decided neighbours of the same script (the target
   if they disagree); without any, the target if that is written in this script, else it stays `und`, foreign to all.

Languages are the codes of lid.176 (ISO 639-1 where there is one), varieties folded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

from factory.filters.langmix.lanes import fold
from factory.filters.langmix.lid import ask_codes
from factory.filters.masking import HAN, KANA, MARKS, SOUTH_EAST

UNDECIDED = "und"
_LATIN = "A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u0300-\u036f\u1e00-\u1eff"
_WORDS = re.compile(
    rf"(?P<latin>(?<![\d_{_LATIN}])[{_LATIN}]++(?:['’][{_LATIN}]+)?(?![\d_]))|(?P<kana>[{KANA}])|(?P<han>[{HAN}])|"
    r"(?P<hangul>[\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3]+)|(?P<cyrillic>[\u0400-\u052f\u0300\u0301]+)|"
    r"(?P<arabic>[\u0610-\u061a\u0620-\u065f\u066e-\u06d3\u06d5-\u06ef\u06fa-\u06ff\u0750-\u077f\u08a0-\u08ff\u200c]+)|"
    r"(?P<devanagari>[\u0900-\u0963\u0971-\u097f\u200d]+)|(?P<greek>[\u0370-\u03ff\u1f00-\u1fff]+)|"
    r"(?P<hebrew>[\u0591-\u05c7\u05d0-\u05f4]+)|(?P<thai>[\u0e01-\u0e4e])|"
    rf"(?P<south_east>[{SOUTH_EAST}])|(?P<other>(?:[^\W\d_{_LATIN}]|[{MARKS}])+)")
_BREAK = re.compile(r"[\n\r。！？；…।؟۔]|[.!?][\"')\]*”’»]*\s")
_OWNER = {"hangul": "ko", "greek": "el", "hebrew": "he", "thai": "th"}
_WRITTEN_IN = {
    "cyrillic": ("ru uk bg be mk mn ba tt ce cv kv mhr mrj myv os sah tyv xal bxr krc lez av ab rue "
                 "sr kk ky tg uz tk az sh"),
    "arabic": "ar fa ur ps sd ug ckb azb arz pnb mzn lrc kk ku az", "devanagari": "hi mr ne sa bh mai gom dty new",
    "latin": "sr kk ky tg uz tk az sh ku", "other": "hy ka xmf bn bpy as ta te ml kn gu pa or si am dv",
    "south_east": "lo km my bo", "cjk": "ja zh", "hangul": "ko", "greek": "el", "hebrew": "he yi", "thai": "th",
}
"""Languages by script; every language not named here is written in Latin letters alone."""
_NOT_LATIN_ONLY = frozenset(" ".join(_WRITTEN_IN.values()).split())
_IN_SCRIPT = {script: frozenset(languages.split()) for script, languages in _WRITTEN_IN.items()}
_LONGEST, _SHORTEST = 60, {"latin": 20, "cyrillic": 12}
_FAIR = 0.12
_SURE = ((40, 0.85), (80, 0.6), (10**9, 0.45))
"""(letters below, probability needed) before a unit is given to a language that is not the target."""


@dataclass(slots=True)
class Unit:
    """Words of one script in one sentence. `start` and `end` are offsets in the text; `guesses` maps languages to
    probabilities, most likely first, and is empty where the script decides or the unit is too short to ask."""

    script: str
    start: int
    end: int
    words: int = 0
    letters: int = 0
    kana: bool = False
    guesses: dict[str, float] = field(default_factory=dict)


@cache
def known_languages() -> frozenset[str]:
    """Every language the model can name."""
    return frozenset(fold(code) for code, _ in ask_codes("a", -1))


def _fits(language: str, script: str) -> bool:
    return language in _IN_SCRIPT[script] or (script == "latin" and language not in _NOT_LATIN_ONLY)


def _guess(unit: Unit, text: str) -> dict[str, float]:
    if unit.script in _OWNER or unit.script == "cjk" or unit.letters < _SHORTEST.get(unit.script, 10):
        return {}
    guesses: dict[str, float] = {}
    for code, p in ask_codes(text.lower() if text.isupper() else text, 6):
        language = fold(code)
        if _fits(language, unit.script):
            guesses[language] = guesses.get(language, 0.0) + float(p)
    return guesses


def find_units(masked: str) -> list[Unit]:
    """Cut masked text into units and ask the model about those where it is needed."""
    units: list[Unit] = []
    end = 0
    for match in _WORDS.finditer(masked):
        word, script = match[0], match.lastgroup or "other"
        if len(word) == 1 and (script == "greek" or word.isascii()):
            continue
        kana = script == "kana"
        script = "cjk" if kana or script == "han" else script
        unit = units[-1] if units else None
        between = masked[end:match.start()]
        if (unit is None or unit.script != script or unit.words >= _LONGEST
                or (len(between) > 1 and _BREAK.search(between)) or between in ("\n", "。", "！", "？", "；")):
            unit = Unit(script, match.start(), match.end())
            units.append(unit)
        unit.words, unit.letters, unit.end = unit.words + 1, unit.letters + len(word), match.end()
        unit.kana, end = unit.kana or kana, match.end()
    for unit in units:
        unit.guesses = _guess(unit, masked[unit.start:min(unit.end, unit.start + 600)].replace("\n", " "))
    return units


def _decide(unit: Unit, target: str | None) -> str | None:
    """The language of a unit by itself; None where it cannot tell."""
    if unit.script in _OWNER:
        return target if target and _fits(target, unit.script) else _OWNER[unit.script]
    if unit.script == "cjk":
        # A Japanese heading or list item may be Han alone; a sentence of ten Han characters is not.
        return "ja" if unit.kana or (target == "ja" and unit.words < 10) else "zh"
    if target is not None and unit.guesses.get(target, 0.0) >= _FAIR:
        return target
    if not unit.guesses:
        return None
    language, p = next(iter(unit.guesses.items()))
    needed = next(need for below, need in _SURE if unit.letters < below)
    return language if p >= needed else None


def resolve(units: Sequence[Unit], target: str | None) -> list[str]:
    """One language for each unit (rules 3 and 4 above)."""
    decided = [_decide(unit, target) for unit in units]
    after: list[str | None] = [None] * len(units)
    latest: dict[str, str] = {}
    for at in range(len(units) - 1, -1, -1):
        after[at] = latest.get(units[at].script)
        if (own := decided[at]) is not None:
            latest[units[at].script] = own
    latest.clear()
    languages: list[str] = []
    for unit, own, following in zip(units, decided, after, strict=True):
        if own is None:
            near = [one for one in (latest.get(unit.script), following) if one]
            fallback = target if target and _fits(target, unit.script) else None
            if not near:
                own = fallback or UNDECIDED
            else:
                own = near[0] if len(set(near)) == 1 or fallback not in near else fallback
        else:
            latest[unit.script] = own
        languages.append(own or UNDECIDED)
    return languages
