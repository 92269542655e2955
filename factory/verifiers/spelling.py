r"""Spellings of mathematics, put into one: what `\dfrac12`, `\tfrac{1}{2}` and `\left(\frac 12\right)` have in common.

`tidy` gives the form in which answers are compared as text and read by `factory.verifiers.math.values`: ASCII signs,
one way to write fractions, roots and spaces, no sizes, no delimiters, no box. It never changes what an expression says,
and it takes time in proportion to the text. The braces of a set (`\{`, `\}`) become `⦃` and `⦄`, so that every `{` that
is left groups.
"""

from __future__ import annotations

import functools
import re

SET_OPEN, SET_CLOSE = "⦃", "⦄"
_WIDE = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}  # full-width forms of ASCII
_SIGNS = str.maketrans({
    "−": "-", "–": "-", "—": "-", "﹣": "-", "×": r"\times ", "÷": "/", "·": r"\cdot ", "⋅": r"\cdot ",
    "π": r"\pi ", "∞": r"\infty ", "≤": r"\leq ", "⩽": r"\leq ", "≥": r"\geq ", "⩾": r"\geq ", "≠": r"\neq ",
    "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "°": r"^\circ ", "±": r"\pm ", "≈": r"\approx ",
    "²": "^2", "³": "^3", "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}", "，": ",", "、": ",",
    "；": ";", "：": ":", "。": ".", "’": "'", "\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u3000": " ",
    "\u200b": None, "¢": r"\text{ cents}", "€": None, "£": None, "¥": None, "￥": None, "∠": r"\angle ",
    "…": r"\ldots "}) | _WIDE
_ESCAPES = re.compile(r"(?<!\\)\\\\+(?=[A-Za-z({\[%$!,;])")
_SIZES = re.compile(r"\\(?:left|right)\s*\.|\\(?:left|right|middle|[bB]igg?[lrm]?|displaystyle|textstyle|limits"
                    r"|nolimits)(?![A-Za-z])")
_SPACES = re.compile(r"(?<!\\)\\(?:[,;:!> ]|q?quad(?![A-Za-z])|thinspace(?![A-Za-z])|enspace(?![A-Za-z])|\n)|~")
_THIN = re.compile(r"(?<=\d)(?:\\[,!;: ]|\{,\}|,\\!|~)+\s*(?=\d{3}(?!\d))")
_FRACTIONS = re.compile(r"\\(?:[dtc]frac|frac)(?![A-Za-z])")
_SHORT_FRAC = re.compile(r"\\frac\s*(?:\{([^{}]*)\}|(\d|[A-Za-z]|\\[a-z]+))\s*(?:\{([^{}]*)\}|(\d|[A-Za-z]|\\[a-z]+))")
# letters that are no unit, whatever font they stand in
_CONSTANT = re.compile(r"\\(?:mathrm|text|rm)\s*\{\s*([abeijknpqruvwxyz])\s*\}")
_PI = re.compile(r"\\(?:mathrm|text|rm)\s*\{\s*pi\s*\}")
_GOES_ON = re.compile(r"(\.\d+)\s*\.{3,}")
_OPTION = re.compile(r"^([A-J])\)(?:\s+(?=[^()]*$)|$)")
_CLOCK = re.compile(r"(?<=\d) ?: ?(?=\d)")
_SHORT_ROOT = re.compile(r"\\sqrt\s*(\d|[A-Za-z])(?![A-Za-z])")
_ROOT_SIGN = re.compile(r"√\s*(\d+(?:\.\d+)?|[A-Za-z])")
_DEGREES = re.compile(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))|\\degree(?![A-Za-z])")
_FONTS = re.compile(r"\\(?:mathbf|boldsymbol|bm|mathit|mathsf|rm|bf)(?![A-Za-z])\s*")
_SINGLE = re.compile(r"([_^])\s*\{([A-Za-z0-9])\}")
_OUTER = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"), ("`", "`"), ('"', '"'))
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_WORDS_OF_SIGNS = {r"\dfrac": r"\frac", r"\le": r"\leq", r"\ge": r"\geq", r"\ne": r"\neq", r"\leqslant": r"\leq",
                   r"\geqslant": r"\geq", r"\lt": "<", r"\gt": ">", r"\lbrace": SET_OPEN, r"\rbrace": SET_CLOSE,
                   r"\infin": r"\infty", r"\div": "/", r"\ast": r"\cdot", r"\lvert": "|", r"\rvert": "|",
                   r"\vert": "|", r"\textbf": r"\text", r"\mathrm": r"\text", r"\mbox": r"\text",
                   r"\textit": r"\text", r"\textrm": r"\text", r"\textnormal": r"\text", r"\hbox": r"\text",
                   r"\operatorname": r"\text", r"\colon": ":", r"\land": r"\text{ and }", r"\lor": r"\text{ or }",
                   r"\emptyset": r"\varnothing", r"\bmatrix": r"\pmatrix", r"\dots": r"\ldots", r"\cdots": r"\ldots"}
_UNFINISHED = re.compile(r"(?:[-+*/^_=<>&]|\\(?:frac|sqrt|boxed|text|cdot|times|left))$|\{\s*\}")
_COMMAND = re.compile(r"\\[A-Za-z]+")


def tidy(text: str) -> str:
    r"""One spelling of an answer: see the module docstring. Idempotent on ordinary text; "" for blank text."""
    return _tidy_short(text) if len(text) <= 300 else _tidy(text)


def _tidy(text: str) -> str:
    text = unwrap(_ESCAPES.sub(r"\\", text) if r"\begin" not in text else text)
    text = _ROOT_SIGN.sub(r"\\sqrt{\1}", _THIN.sub("", text.translate(_SIGNS)))
    text = text.replace(r"\{", SET_OPEN).replace(r"\}", SET_CLOSE).replace(r"\%", "%")
    text = text.replace(r"\$", "").replace("$", "").replace(r"\(", "").replace(r"\)", "")
    text = _SPACES.sub(" ", _SIZES.sub("", text))
    text = _COMMAND.sub(lambda found: _WORDS_OF_SIGNS.get(found[0], found[0]), _FONTS.sub("", text))
    text = _PI.sub(r"\\pi ", _CONSTANT.sub(r"\1", text))
    if r"\frac" in text or r"\tfrac" in text or r"\cfrac" in text:
        text = _SHORT_FRAC.sub(_long_fraction, _FRACTIONS.sub(r"\\frac", text))
    if r"\sqrt" in text:
        text = _SHORT_ROOT.sub(r"\\sqrt{\1}", text)
    text = _SINGLE.sub(r"\1\2", _DEGREES.sub("°", text))
    text = " ".join(_GOES_ON.sub(r"\1\\ldots ", text).replace(r"\sqrt{-1}", "i").split())
    text = _OPTION.sub(r"(\1) ", _CLOCK.sub(":", text.replace("⦃⦄", r"\varnothing")))
    return text.rstrip(".,;: \\")


_tidy_short = functools.lru_cache(maxsize=8192)(_tidy)


def unwrap(text: str) -> str:
    """The text without delimiters, emphasis and boxes that stand around all of it."""
    text = text.strip()
    for _ in range(8):
        before = text
        for left, right in _OUTER:
            if text.startswith(left) and text.endswith(right) and len(text) > len(left) + len(right) - 1:
                inner = text[len(left):len(text) - len(right)]
                if left not in inner:
                    text = inner.strip()
        box = _BOX.match(text)
        if box and text.endswith("}") and closing(text, box.end() - 1) == len(text) - 1:
            text = text[box.end():-1].strip()
        if text == before:
            break
    return text


def closing(text: str, at: int) -> int:
    """Where the brace that opens at `at` is closed; -1 where it never is."""
    depth = 0
    for index in range(at, len(text)):
        if text[index] == "{" and (index == 0 or text[index - 1] != "\\"):
            depth += 1
        elif text[index] == "}" and text[index - 1] != "\\":
            depth -= 1
            if depth == 0:
                return index
    return -1


def squeeze(text: str) -> str:
    """A tidy text without what says nothing where two texts are compared: spaces, `\\text`, signs of multiplication
    written out. Spaces between letters stay."""
    text = text.replace(r"\text", "").replace(r"\cdot", "*").replace(r"\times", "*")
    return re.sub(r"(?<![A-Za-z])\s+|\s+(?![A-Za-z])", "", text)


def same_text(one: str, other: str) -> bool:
    """Whether two answers are written with the same mathematics."""
    return squeeze(tidy(one)) == squeeze(tidy(other))


def is_whole(text: str) -> bool:
    """Whether a text could be an answer: something in it, no bracket open, nothing missing at its end."""
    plain = tidy(text)
    depth = 0
    for sign in plain:
        depth += (sign in "([{⦃") - (sign in ")]}⦄")
        if depth < 0:
            return False
    return depth == 0 and bool(re.search(r"\w|\\[A-Za-z]", plain)) and not _UNFINISHED.search(plain)


def split_top(text: str, separators: str) -> list[str]:
    """Parts of a text between separators that stand in no bracket, stripped; brackets that do not match give one
    part. Half-open intervals are brackets too."""
    parts, depth, start = [], 0, 0
    for index, sign in enumerate(text):
        if sign in "([{⦃":
            depth += 1
        elif sign in ")]}⦄":
            depth -= 1
            if depth < 0:
                return [text.strip()]
        elif sign in separators and depth == 0:
            parts.append(text[start:index].strip())
            start = index + 1
    return [text.strip()] if depth else [*parts, text[start:].strip()]


def whole_bracket(text: str) -> bool:
    """Whether one pair of brackets, of any kinds, holds all of the text."""
    if len(text) < 2 or text[0] not in "([{⦃" or text[-1] not in ")]}⦄":
        return False
    depth = 0
    for index, sign in enumerate(text):
        depth += (sign in "([{⦃") - (sign in ")]}⦄")
        if depth == 0:
            return index == len(text) - 1
    return False


def _long_fraction(found: re.Match[str]) -> str:
    top = found[1] if found[1] is not None else found[2]
    bottom = found[3] if found[3] is not None else found[4]
    return rf"\frac{{{top.strip()}}}{{{bottom.strip()}}}"
