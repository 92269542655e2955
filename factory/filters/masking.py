"""What the filters share: fences, and hiding what is not prose.

Masking replaces every character of a formula, code block, inline code, URL, tag or LaTeX command by a space, so the
masked text has the length of the original and every offset into one is an offset into the other. All scanners are
linear in the length of the text, also on input made to hurt (a million openers and no closer).
"""

from __future__ import annotations

import re
from typing import NamedTuple

KANA = "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9d"
HAN = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
SOUTH_EAST = "\u0e01-\u0e4e\u0e81-\u0ece\u0f40-\u0fbc\u1000-\u103f\u1050-\u108f\u1780-\u17d3"
MARKS = ("\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u064b-\u065f\u0670"
         "\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed\u0900-\u0963\u0971-\u0dff\u200c\u200d")
"""Signs that belong to a word though `\\w` leaves them out; without them Hindi falls apart at every vowel."""

_FENCE = re.compile(r"^([^`~\n]*)(`{3,}|~{3,})([^`\n]*)$", re.MULTILINE)
_INFO = re.compile(r"[\w+#.-]{0,30}")
_INLINE = re.compile(r"(`{1,2})[^`\n]+\1(?!`)|(?:https?://|www\.)[!-~]+|"
                     r"</?[A-Za-z][\w:-]{0,30}(?:\s[^<>$\n]{0,200})?/?>")
_COMMAND = re.compile(r"\\[A-Za-z]+\*?(?:\{[^{}\n]{0,200}\})*")
_OPENER = re.compile(r"\\\$|\\\(|\\\[|\\begin\{|\$\$|\$(?=[^\s$])")
_CLOSER = {r"\(": re.compile(r"\\\)"), r"\[": re.compile(r"\\\]"), r"\begin{": re.compile(r"\\end\{[A-Za-z]*\*?\}"),
           "$$": re.compile(r"\$\$"), "$": re.compile(r"(?<![\s\\])\$(?!\d)")}
_LONGEST = {r"\(": 2000, r"\[": 5000, r"\begin{": 5000, "$$": 5000, "$": 1000}


class Fence(NamedTuple):
    """A fenced block: character offsets of its first fence and past its last; `closed` is False where it never ends."""

    start: int
    end: int
    closed: bool


def find_fences(text: str) -> list[Fence]:
    """Fenced code blocks, in order, by CommonMark's rules with two allowances: any indentation, and an opening fence
    at the end of a line of prose, since models write both. An unclosed block runs to the end of the text."""
    if "```" not in text and "~~~" not in text:
        return []
    found: list[Fence] = []
    mark, start = "", 0
    for match in _FENCE.finditer(text):
        lead, fence, info = match[1].strip(" \t>"), match[2], match[3].strip()
        if not mark:
            if not lead or (fence[0] == "`" and _INFO.fullmatch(info)):
                mark, start = fence, match.start(2)
        elif fence[0] == mark[0] and len(fence) >= len(mark) and not lead and not info:
            found.append(Fence(start, match.end(2), True))
            mark = ""
    if mark:
        found.append(Fence(start, len(text), False))
    return found


def _find_formulas(text: str) -> list[tuple[int, int]]:
    """Spans of LaTeX maths. A lone dollar is money unless it closes within its paragraph, with no space before the
    closing sign and no digit after it."""
    spans: list[tuple[int, int]] = []
    ahead: dict[str, tuple[int, int]] = {}  # the next closer of each kind is searched once, so the scan stays linear
    at = 0
    while opener := _OPENER.search(text, at):
        at, kind = opener.end(), opener[0]
        if kind == r"\$":
            continue
        closer = ahead.get(kind)
        if closer is None or closer[0] < at:
            hit = _CLOSER[kind].search(text, at)
            closer = ahead[kind] = hit.span() if hit else (len(text) + _LONGEST[kind] + 1, 0)
        if closer[0] - at > _LONGEST[kind] or (kind == "$" and "\n\n" in text[at:closer[0]]):
            continue
        spans.append((opener.start(), closer[1]))
        at = closer[1]
    return spans


def _blank(text: str, spans: list[tuple[int, int]]) -> str:
    parts, at = [], 0
    for start, end in spans:
        parts += [text[at:start], " " * (end - start)]
        at = end
    return "".join([*parts, text[at:]]) if spans else text


def _blank_match(match: re.Match[str]) -> str:
    return " " * len(match[0])


def mask(text: str) -> str:
    """The text with everything that is not prose turned into spaces; same length, same offsets."""
    text = _blank(text, [(fence.start, fence.end) for fence in find_fences(text)])
    text = _INLINE.sub(_blank_match, text)
    if "$" in text or "\\" in text:
        text = _COMMAND.sub(_blank_match, _blank(text, _find_formulas(text)))
    return text
