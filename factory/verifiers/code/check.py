"""From a response and its tests to a verdict."""

from __future__ import annotations

import ast
import re
from typing import Any

from factory.verifiers.code.extract import Code, defines, take_code
from factory.verifiers.code.functions import run_plan, run_quick
from factory.verifiers.code.quick import Quick, quick_assert, quick_call, quick_check, split_check
from factory.verifiers.code.results import CodeVerdict, Result, Starved, Undecided, conclude, storable
from factory.verifiers.code.shapes import Suite, TestsInvalid, read_tests
from factory.verifiers.code.stdio import run_stdio
from factory.verifiers.sandbox import Limits, SandboxFailed


def check_code(response: str | None, tests: Any, *, language: str = "python", limits: Limits | None = None,
               float_tolerance: float = 1e-6) -> CodeVerdict:
    """The verdict on one response.

    Args:
        response: what a model wrote; the program is taken from it (`extract.py`).
        tests: JSON text, source text or data of any shape in `shapes.py`.
        language: `python`, `cpp` or `auto`. C++ has input and output tests only.
        limits: what each sandbox may use.
        float_tolerance: for outputs of programs, absolute or relative.

    Raises:
        SandboxMissing: there is no bubblewrap here.
    """
    try:
        suite = read_tests(tests)
    except TestsInvalid as error:
        return CodeVerdict("undecided", "tests_invalid", storable(str(error)))
    code = take_code(response or "", language, suite.stub, suite.entry_point)
    if code is None:
        return CodeVerdict("incorrect", "no_code", "the response holds no complete program", None, 0.0)
    if code.language != "python" and suite.kind != "stdio":
        return CodeVerdict("undecided", "tests_invalid", f"{suite.kind} tests are for Python", code.text)
    for last in (False, True):
        try:
            return conclude(_run(code, suite, limits or Limits(), float_tolerance), code.text)
        except Undecided as why:
            return CodeVerdict("undecided", why.code, why.reason[:300], code.text)
        except Starved:
            return CodeVerdict("undecided", "timeout", "the machine was too busy to run the tests in time", code.text,
                               transient=True)
        except SandboxFailed as error:
            if last:
                return CodeVerdict("undecided", "sandbox_failed", str(error)[:300], code.text, transient=True)
    raise AssertionError("unreachable")


def _run(code: Code, suite: Suite, limits: Limits, tolerance: float) -> list[Result]:
    if suite.kind == "stdio":
        return run_stdio(code.text, code.language, suite, limits, tolerance)
    source = full_source(code.text, suite)
    quick = _quick(code.text, suite)
    if quick is not None:
        results = run_quick(source, quick, limits)
        if results is not None:
            return results
    plan = _plan(suite, quick)
    results = run_plan(source, plan, limits)
    # A program that cannot be loaded fails every test, whichever way they are run.
    return results * len(plan["tests"]) if len(results) == 1 and not results[0].passed and "tests" in plan else results


def full_source(text: str, suite: Suite) -> str:
    """The program to run: a completion is put after the stub that it continues; a whole program gets the stub's
    imports and other functions before its own, or the imports that sites of such problems (LeetCode) give."""
    if suite.kind == "calls":
        # Without the name that is tested: else a program that lacks it would be the library's own function.
        return _after(f"{_USUAL}globals().pop({(suite.entry_point or '')!r}, None)\n", text)
    if not suite.stub or suite.entry_point is None:
        return text
    if not defines(text, suite.entry_point):
        return suite.stub + text
    stub = f"{suite.stub}\n    pass\n"
    try:
        ast.parse(stub)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        stub = "".join(f"{line}\n" for line in _IMPORT.findall(suite.stub))
    return _after(f"{stub}\n", text)


def _after(before: str, text: str) -> str:
    """A program with statements before its own, but for its `__future__` imports, which must come first."""
    lines = text.split("\n")  # as the parser counts them
    try:
        ends = [node.end_lineno or 0 for node in ast.parse(text).body
                if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        ends = []
    first = max(ends, default=0)
    return "\n".join([*lines[:first], before, *lines[first:]])


def _quick(text: str, suite: Suite) -> list[Quick] | None:
    """The suite as plain data, where every test of it is."""
    if suite.kind == "calls":
        name = suite.entry_point or ""
        if not defines(text, name) and defines(text, "Solution"):
            name = f"Solution.{name}"
        found = [quick_call(name, args, want, suite.wrapped) for args, want in suite.calls]
    elif suite.kind == "asserts":
        if suite.setup.strip():
            return None
        found = [quick_assert(test) for test in suite.tests]
    elif suite.kind == "check":
        return quick_check(suite.test, suite.entry_point or "")
    else:
        return None
    return [quick for quick in found if quick] if all(found) else None


def _plan(suite: Suite, quick: list[Quick] | None) -> dict[str, Any]:
    """What the sandbox of the tests is told."""
    if suite.kind == "unittest":
        return {"kind": "unittest", "files": suite.files, "module": suite.module}
    if suite.kind == "check" and quick is not None:
        return {"kind": "asserts", "tests": split_check(suite.test, suite.entry_point or ""), "setup": "",
                "entry_point": suite.entry_point}
    if suite.kind == "check":
        return {"kind": "check", "test": suite.test, "entry_point": suite.entry_point, "prompt": suite.prompt,
                "setup": suite.setup}
    if suite.kind == "calls":
        owner, _, name = (quick[0].name if quick else suite.entry_point or "").rpartition(".")
        call = f"{owner}().{name}" if owner else name
        tests = [f"assert _loose({call}(*{args!r}), {want!r}, {suite.wrapped})" for args, want in suite.calls]
        return {"kind": "asserts", "tests": tests, "setup": _LOOSE, "entry_point": owner or name}
    return {"kind": "asserts", "tests": suite.tests, "setup": suite.setup, "entry_point": suite.entry_point}


_LOOSE = """
def _lists(value):
    return [_lists(item) for item in value] if isinstance(value, (list, tuple)) else value
def _loose(got, want, wrapped):
    got, want = _lists(got), _lists(want)
    return got == want or (wrapped and got == want[0])
"""

_IMPORT = re.compile(r"^(?:import|from)\s.*$", re.MULTILINE)

# The last line gives back what the others hide, as `pow`.
_USUAL = """import bisect, collections, copy, datetime, functools, heapq
import itertools, math, operator, random, re, string, sys
from typing import *
from collections import *
from itertools import *
from functools import *
from math import *
from heapq import *
from bisect import *
from builtins import *
"""
