r"""Telling expressions apart without a symbolic library: evaluated at the same points, equal ones agree.

`differ` says True only where two expressions are read whole, by a strict grammar, and have different values at points
where every symbol is positive and every root and power real; then no algebra makes them equal. It never says that two
expressions are equal: that is left to Math-Verify. What might be read in two ways (`1/2x`, `f(x)`, a unit) is not read.
The point of it: most wrong answers need no symbolic library.
"""

from __future__ import annotations

import functools
import math
import re
import zlib
from collections.abc import Callable
from itertools import pairwise

from factory.verifiers.spelling import split_top, tidy, whole_bracket

LONGEST_EXPRESSION = 200
_DEPTH = 20
_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?|\.\d+)|(?P<command>\\[A-Za-z]+|sqrt|arctan|sin|cos|tan|log|pi|ln)"
    r"|(?P<letter>[A-Za-z])"
    r"|(?P<sign>[-+*/^_(){}\[\]]))")
_SYMBOLS = frozenset(f"\\{name}" for name in (
    "alpha", "beta", "gamma", "delta", "epsilon", "varepsilon", "zeta", "eta", "theta", "vartheta", "kappa", "lambda",
    "mu", "nu", "xi", "rho", "sigma", "tau", "phi", "varphi", "chi", "psi", "omega", "Gamma", "Delta", "Theta",
    "Lambda",
    "Sigma", "Phi", "Psi", "Omega", "hbar", "ell"))
_FUNCTIONS: dict[str, Callable[[float], float]] = {
    "sqrt": math.sqrt,
    "sin": math.sin, "cos": math.cos, "tan": math.tan, "ln": math.log, "log": math.log, "arctan": math.atan}
_CLOSERS = {"(": ")", "{": "}", "[": "]"}
_PLUS_MINUS = re.compile(r"\\pm(?![a-z])")
_COMPLEX = 2  # a point at which i is a symbol as any other
_TRAILING = re.compile(r"([A-Za-z]+)\W*$")

Tokens = list[tuple[str, str]]


class _NotRead(Exception):
    """The text is outside the grammar, or has no real value at this point."""


def differ(gold: str, answer: str, margin: float = 1e-6) -> bool:
    """Whether two expressions certainly have different values; `margin` is relative."""
    pairs = [(value(gold, point), value(answer, point)) for point in range(2)]
    read = [(one, other) for one, other in pairs if one is not None and other is not None]
    if not read:
        return False
    unit = _TRAILING.search(tidy(answer))
    if unit and unit[1] not in ("pi", "e") and not set(unit[1]) <= set(re.findall(r"[A-Za-z]", tidy(gold))):
        return False
    apart = [abs(one - other) > margin * (1 + max(abs(one), abs(other))) for one, other in read]
    # log is the natural one at one point and that of 10 at the other: both readings must be apart
    return all(apart) and len(apart) == 2 if "log" in gold + answer else any(apart)


def readable(text: str, depth: int = 0) -> bool:
    """Whether a text is an expression of the grammar, or a tuple, set or list of such: then it is equal to itself."""
    if value(_PLUS_MINUS.sub("+", text), _COMPLEX) is not None:
        return True
    inner = text[1:-1] if whole_bracket(text) else text
    parts = split_top(inner, ",;")
    return depth < 2 and len(parts) > 1 and all(readable(part, depth + 1) for part in parts)


@functools.lru_cache(maxsize=4096)
def value(text: str, point: int) -> float | None:
    """The value of an expression where its symbols have the values of a point (0 or 1); None if it is not read."""
    text = tidy(text)
    if len(text) > LONGEST_EXPRESSION:
        return None
    try:
        tokens = _tokens(text)
        found, at = _sum(tokens, 0, point, 0)
    except (_NotRead, ArithmeticError, ValueError, TypeError):
        return None
    return found if at == len(tokens) and math.isfinite(found) and abs(found) < 1e100 else None


def _tokens(text: str) -> Tokens:
    tokens: Tokens = []
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None or found.lastgroup is None:
            raise _NotRead
        said = found[found.lastgroup]
        tokens.append((found.lastgroup, said if said in _SYMBOLS else said.removeprefix("\\")))
        at = found.end()
    if not tokens or any(one[0] == other[0] == "number" for one, other in pairwise(tokens)):
        raise _NotRead
    return tokens


def _is(tokens: Tokens, at: int, *signs: str) -> bool:
    return at < len(tokens) and tokens[at][1] in signs


def _is_symbol(token: tuple[str, str]) -> bool:
    return token[0] == "letter" or token[1] in _SYMBOLS


def _sum(tokens: Tokens, at: int, point: int, depth: int) -> tuple[float, int]:
    if depth > _DEPTH:
        raise _NotRead
    total, at = _product(tokens, at, point, depth)
    while _is(tokens, at, "+", "-"):
        right, after = _product(tokens, at + 1, point, depth)
        total = total + right if tokens[at][1] == "+" else total - right
        at = after
    return total, at


def _product(tokens: Tokens, at: int, point: int, depth: int) -> tuple[float, int]:
    sign = 1.0
    while _is(tokens, at, "+", "-"):
        sign = -sign if tokens[at][1] == "-" else sign
        at += 1
    total, at = _power(tokens, at, point, depth)
    divided = False
    while at < len(tokens) and not _is(tokens, at, "+", "-", ")", "}", "]"):
        operator = tokens[at][1] if _is(tokens, at, "*", "/", "cdot", "times") else ""
        if not operator and (divided or tokens[at][0] == "number" or _is(tokens, at, "[", "^", "_")
                             or (_is(tokens, at, "frac") and tokens[at - 1][0] == "number")
                             or (_is(tokens, at, "(") and _is_symbol(tokens[at - 1]))):
            raise _NotRead  # 1/2x, 2½ or f(x): more than one reading
        right, at = _power(tokens, at + bool(operator), point, depth)
        divided = operator == "/"
        total = total / right if divided else total * right
    return sign * total, at


def _power(tokens: Tokens, at: int, point: int, depth: int) -> tuple[float, int]:
    base, at = _atom(tokens, at, point, depth)
    if _is(tokens, at, "^"):
        sign = -1.0 if _is(tokens, at + 1, "-") else 1.0
        exponent, at = _atom(tokens, at + 1 + (sign < 0), point, depth)
        if _is(tokens, at, "^") or (base < 0 and exponent != int(exponent)) or abs(exponent) > 400:
            raise _NotRead
        base = math.pow(base, sign * exponent)
    return base, at


def _atom(tokens: Tokens, at: int, point: int, depth: int) -> tuple[float, int]:
    if at >= len(tokens):
        raise _NotRead
    kind, text = tokens[at]
    if kind == "number":
        return float(text), at + 1
    if text in ("(", "{"):
        return _bracket(tokens, at, point, depth)
    if text == "pi":
        return math.pi, at + 1
    if text == "frac":
        top, at = _bracket(tokens, at + 1, point, depth, "{")
        bottom, at = _bracket(tokens, at, point, depth, "{")
        return top / bottom, at
    if text == "sqrt" and _is(tokens, at + 1, "["):
        order, at = _bracket(tokens, at + 1, point, depth, "[")
        inner, at = _bracket(tokens, at, point, depth, "{")
        if inner < 0 or order <= 0:
            raise _NotRead
        return math.pow(inner, 1 / order), at
    if text in _FUNCTIONS and _is(tokens, at + 1, "(", "{"):
        inner, at = _bracket(tokens, at + 1, point, depth)
        return (math.log10 if text == "log" and point == 1 else _FUNCTIONS[text])(inner), at
    if _is_symbol((kind, text)):
        return _symbol(tokens, at, point)
    raise _NotRead


def _bracket(tokens: Tokens, at: int, point: int, depth: int, opener: str = "") -> tuple[float, int]:
    if at >= len(tokens) or tokens[at][1] not in ((opener,) if opener else ("(", "{")):
        raise _NotRead
    inner, after = _sum(tokens, at + 1, point, depth + 1)
    if not _is(tokens, after, _CLOSERS[tokens[at][1]]):
        raise _NotRead
    return inner, after + 1


def _symbol(tokens: Tokens, at: int, point: int) -> tuple[float, int]:
    """A positive value for a symbol, the same wherever it stands; e is the number, i is not real."""
    name, at = tokens[at][1], at + 1
    if _is(tokens, at, "_"):
        if _is(tokens, at + 1, "{"):
            end = next((index for index in range(at + 2, len(tokens)) if tokens[index][1] == "}"), len(tokens))
            name, at = name + "_" + "".join(text for _, text in tokens[at + 2:end]), end + 1
        elif at + 1 < len(tokens):
            name, at = name + "_" + tokens[at + 1][1], at + 2
    if name == "i" and point != _COMPLEX:
        raise _NotRead
    return (math.e if name == "e" else 0.3 + zlib.crc32(f"{name}/{point}".encode()) % 9973 / 4001), at
