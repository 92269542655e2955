"""Tests that need no process of their own: one call of the program with literals, compared with a literal.

Most published tests are `assert f(1, [2]) == 3`. Such a test is data: the call is sent to the program, and what comes
back is compared here, as encoded data and never as an object of the program. `judge` decides only what plain data can
decide exactly as Python would; anything else (sets in another order, nan, a Decimal beside an int) is left to the
sandbox of the tests, where Python itself compares.
"""

from __future__ import annotations

import ast
import builtins
import json
import sys
from dataclasses import dataclass
from typing import Any

from factory.verifiers.sandbox.guest.values import Unplain, canonical, encode

LONGEST = 50_000
_NUMBERS = frozenset({"int", "float", "complex", "Fraction", "Decimal"})


@dataclass(frozen=True, slots=True)
class Quick:
    """One call and what is wanted of its result. `rule` is `==`, `!=`, `is`, `true`, `false`, `loose` (`==` with
    tuples read as lists) or `wrapped` (also where the value wanted is in a list of one). `args`, `kwargs` and `want`
    are encoded (`guest/values.py`)."""

    name: str
    args: list[Any]
    kwargs: dict[str, Any]
    rule: str
    want: Any = None


def quick_assert(source: str) -> Quick | None:
    """An assert statement as a quick test; None where it is more than that."""
    if len(source) > LONGEST:
        return None
    try:
        body = ast.parse(source).body
        if len(body) != 1 or not isinstance(body[0], ast.Assert):
            return None
        found = _test(body[0].test)
    except (SyntaxError, ValueError, RecursionError, MemoryError, TypeError):
        return None
    if found is None or hasattr(builtins, found.name) or found.name in sys.stdlib_module_names:
        return None
    return found


def quick_check(source: str, entry_point: str) -> list[Quick] | None:
    """A check function whose body is nothing but quick asserts on its argument."""
    if len(source) > LONGEST:
        return None
    try:
        body = ast.parse(source).body
        checks = [node for node in body if isinstance(node, ast.FunctionDef)]
        if len(checks) != 1 or checks[0].name != "check" or not all(_harmless(node) for node in body):
            return None
        arguments = checks[0].args
        if len(arguments.args) != 1 or checks[0].decorator_list:
            return None
        found = [_test(node.test) for node in checks[0].body if isinstance(node, ast.Assert) and not _always(node)]
        plain = all(_harmless(node) for node in checks[0].body if not isinstance(node, ast.Assert))
    except (SyntaxError, ValueError, RecursionError, MemoryError, TypeError):
        return None
    name = arguments.args[0].arg
    if not found or not plain:
        return None
    if any(quick is None or quick.name != name for quick in found):
        return None
    return [Quick(entry_point, quick.args, quick.kwargs, quick.rule, quick.want) for quick in found if quick]


def split_check(source: str, entry_point: str) -> list[str]:
    """The asserts of a check function that `quick_check` reads, as statements of their own."""
    check = next(node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef))
    found = [node for node in check.body if isinstance(node, ast.Assert) and not _always(node)]
    for name in (name for node in found for name in ast.walk(node.test) if isinstance(name, ast.Name)):
        if name.id == check.args.args[0].arg:
            name.id = entry_point
    return [ast.unparse(ast.Assert(test=node.test)) for node in found]


def quick_call(name: str, args: list[Any], want: Any, wrapped: bool = False) -> Quick | None:
    """A call with JSON values (tests of APPS or LiveCodeBench): tuples that come back count as lists."""
    try:
        return Quick(name, [encode(arg) for arg in args], {}, "wrapped" if wrapped else "loose", encode(want))
    except Unplain:
        return None


def _harmless(node: ast.stmt) -> bool:
    if isinstance(node, (ast.FunctionDef, ast.Pass)):
        return True
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    if isinstance(node, ast.Assign) and all(isinstance(to, ast.Name) for to in node.targets):
        ast.literal_eval(node.value)
        return True
    return isinstance(node, (ast.Import, ast.ImportFrom))


def _always(node: ast.Assert) -> bool:
    return isinstance(node.test, ast.Constant) and bool(node.test.value)


def _test(node: ast.expr) -> Quick | None:
    if isinstance(node, ast.Call):
        return _call(node, "true")
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not) and isinstance(node.operand, ast.Call):
        return _call(node.operand, "false")
    if not isinstance(node, ast.Compare) or len(node.ops) != 1:
        return None
    rule = {ast.Eq: "==", ast.NotEq: "!=", ast.Is: "is"}.get(type(node.ops[0]))
    left, right = node.left, node.comparators[0]
    if rule is not None and rule != "is" and not isinstance(left, ast.Call):
        left, right = right, left
    if rule is None or not isinstance(left, ast.Call):
        return None
    want = ast.literal_eval(right)
    if rule == "is" and want is not None and not isinstance(want, bool):
        return None
    return _call(left, rule, encode(want))


def _call(node: ast.Call, rule: str, want: Any = None) -> Quick | None:
    if not isinstance(node.func, ast.Name) or any(keyword.arg is None for keyword in node.keywords):
        return None
    args = [encode(ast.literal_eval(arg)) for arg in node.args]
    kwargs = {str(keyword.arg): encode(ast.literal_eval(keyword.value)) for keyword in node.keywords}
    return Quick(node.func.id, args, kwargs, rule, want)


def judge(quick: Quick, got: Any) -> bool | None:
    """Whether encoded data is what the test wants; None where that takes more than data."""
    if quick.rule == "is":
        return got is quick.want if type(got) is bool or got is None or type(got) is not dict else None
    if quick.rule in ("true", "false"):
        truth = _truth(got)
        return None if truth is None else truth is (quick.rule == "true")
    want = quick.want
    if quick.rule in ("loose", "wrapped"):
        got, want = _as_lists(got), _as_lists(want)
        if quick.rule == "wrapped":
            either = (same(got, want), same(got, want[0]))
            return True if True in either else None if None in either else False
    found = same(got, want)
    return found if found is None or quick.rule != "!=" else not found


def _as_lists(data: Any) -> Any:
    if type(data) is list:
        return [_as_lists(item) for item in data]
    if type(data) is dict and "tuple" in data:
        return _as_lists(data["tuple"])
    return data


def _truth(data: Any) -> bool | None:
    if type(data) is not dict:
        return bool(data)
    tag, inside = next(iter(data.items()), ("", None))
    return bool(inside) if tag in ("tuple", "set", "frozenset", "dict", "bytes") else None


def same(left: Any, right: Any) -> bool | None:
    """Whether two encoded values are equal as Python values; None where the data alone cannot say."""
    if type(left) is not dict and type(right) is not dict:
        if type(left) is list or type(right) is list:
            return type(left) is type(right) and _all_same(left, right)
        return bool(left == right)
    one, other = _tag(left), _tag(right)
    if one == other == "tuple" and type(left["tuple"]) is list and type(right["tuple"]) is list:
        return _all_same(left["tuple"], right["tuple"])
    texts = json.dumps(canonical(left)), json.dumps(canonical(right))
    if texts[0] == texts[1]:
        return None if '"nan"' in texts[0] or '"ref"' in texts[0] else True
    plain = {"scalar", "list", "tuple", "set", "dict", "bytes"}
    return False if one != other and {one, other} <= plain | {"tuple"} and not {one, other} & _NUMBERS else None


def _all_same(left: list[Any], right: list[Any]) -> bool | None:
    if len(left) != len(right):
        return False
    unsure = False
    for one, other in zip(left, right, strict=True):
        found = same(one, other)
        if found is False:
            return False
        unsure = unsure or found is None
    return None if unsure else True


def _tag(data: Any) -> str:
    if type(data) is list:
        return "list"
    return next(iter(data), "") if type(data) is dict else "scalar"
