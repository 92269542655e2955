"""Unit-test files: finding their tests, and enough of pytest's names for files that use it.

`unittest.TestCase` classes, functions and methods named `test…`; of pytest: `raises`, `approx`, `fail`, `skip`,
`mark.parametrize`, `mark.skip`, `mark.skipif` (other marks change nothing), and fixtures by name, also those that
yield. An import of a module that neither the standard library nor the files have means the program under test.
"""

from __future__ import annotations

import builtins
import functools
import importlib.abc
import importlib.util
import inspect
import itertools
import math
import re
import sys
import types
import unittest
from collections.abc import Callable, Iterator
from typing import Any

_FOREIGN = frozenset({"numpy", "np", "pandas", "scipy", "torch", "sklearn", "matplotlib", "requests", "django", "flask",
                      "hypothesis", "parameterized", "sympy", "networkx", "tensorflow", "yaml", "PIL", "bs4", "attr"})


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports the test files by name, and the program under any other name that is not known."""

    def __init__(self, program: types.ModuleType, codes: dict[str, types.CodeType], module: str | None):
        self.program, self.codes, self.module = program, codes, module

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        known = name in self.codes or name == self.module or (
            self.module is None and name.partition(".")[0] not in sys.stdlib_module_names | _FOREIGN)
        package = any(found.startswith(f"{name}.") for found in self.codes)
        return importlib.util.spec_from_loader(name, self, is_package=package) if known or package else None

    def create_module(self, spec: Any) -> types.ModuleType | None:
        return None

    def exec_module(self, module: types.ModuleType) -> None:
        code = self.codes.get(module.__name__)
        if code is not None:
            exec(code, module.__dict__)
        elif not hasattr(module, "__path__"):
            names = {name: value for name, value in vars(self.program).items() if not name.startswith("__")}
            module.__dict__.update(names, __all__=[name for name in names if not hasattr(builtins, name)
                                                   and name not in sys.stdlib_module_names])


def collect(modules: list[types.ModuleType]) -> list[Callable[[], object]]:
    """The tests of all modules as functions without arguments."""
    found: list[Callable[[], object]] = []
    for module in modules:
        fixtures = {name: value for name, value in vars(module).items() if getattr(value, "_fixture", False)}
        for name, value in list(vars(module).items()):
            if isinstance(value, type) and issubclass(value, unittest.TestCase):
                found += [_case(test) for test in unittest.defaultTestLoader.loadTestsFromTestCase(value)]
            elif isinstance(value, type) and name.startswith("Test") and value.__module__ == module.__name__:
                for method in (method for method in vars(value) if method.startswith("test")):
                    found += _calls(functools.partial(_method, value, method), getattr(value, method), fixtures)
            elif inspect.isfunction(value) and name.startswith("test"):
                found += _calls(functools.partial(_same, value), value, fixtures)
    return found


def _case(test: Any) -> Callable[[], object]:
    def run() -> None:
        result = unittest.TestResult()
        result.failfast = True
        kept: list[BaseException] = []
        for name in ("addError", "addFailure", "addSubTest"):
            setattr(result, name, functools.partial(_keep, kept))
        test.run(result)
        if kept:
            raise kept[0]
        if result.skipped:
            raise unittest.SkipTest(result.skipped[0][1])

    return run


def _keep(kept: list[BaseException], *about: Any) -> None:
    error = about[-1]
    if error is not None and error[1] is not None:
        kept.append(error[1])


def _same(function: Any) -> Any:
    return function


def _method(kind: type, name: str) -> Any:
    return getattr(_set_up(kind, name), name)


def _set_up(kind: type, method: str) -> Any:
    test = kind()
    for name in ("setup_method", "setup"):
        if hasattr(test, name):
            getattr(test, name)(*([getattr(test, method)] if name == "setup_method" and inspect.signature(
                getattr(test, name)).parameters else []))
    return test


def _calls(get: Callable[[], Any], function: Any, fixtures: dict[str, Any]) -> list[Callable[[], object]]:
    if getattr(function, "_skipped", False):
        return []
    cases: list[dict[str, Any]] = [{}]
    for names, rows in getattr(function, "_rows", []):
        columns = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
        given = [dict(zip(columns, row if len(columns) > 1 else [row], strict=False)) for row in rows]
        cases = [{**left, **right} for left, right in itertools.product(cases, given)]
    wanted = [name for name in inspect.signature(function).parameters if name != "self"]
    return [functools.partial(_run, get, wanted, case, fixtures) for case in cases]


def _run(get: Callable[[], Any], wanted: list[str], case: dict[str, Any], fixtures: dict[str, Any]) -> None:
    open_ones: list[Iterator[Any]] = []
    try:
        get()(**{name: case[name] if name in case else _fixture(name, fixtures, open_ones) for name in wanted})
    finally:
        for left in reversed(open_ones):
            next(left, None)


def _fixture(name: str, fixtures: dict[str, Any], open_ones: list[Iterator[Any]]) -> Any:
    function = fixtures[name]
    inner = {name: _fixture(name, fixtures, open_ones) for name in inspect.signature(function).parameters}
    value = function(**inner)
    if inspect.isgenerator(value):
        open_ones.append(value)
        return next(value)
    return value


class _Raises:
    def __init__(self, expected: Any, match: str | None = None):
        self.expected, self.match, self.value = expected, match, None

    def __enter__(self) -> _Raises:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        if kind is None:
            raise AssertionError(f"{self.expected} was not raised")
        if not issubclass(kind, self.expected):
            return False
        self.value = error
        if self.match is not None and not re.search(self.match, str(error)):
            raise AssertionError(f"{error} does not match {self.match}")
        return True


class _Approx:
    def __init__(self, expected: Any, rel: float = 1e-6, abs: float = 1e-12):
        self.expected, self.rel, self.abs = expected, rel, abs

    def __eq__(self, other: Any) -> bool:
        return self._near(self.expected, other)

    __hash__ = None  # type: ignore[assignment]

    def _near(self, left: Any, right: Any) -> bool:
        if isinstance(left, dict):
            return isinstance(right, dict) and left.keys() == right.keys() and all(
                self._near(left[key], right[key]) for key in left)
        if isinstance(left, (list, tuple)):
            return isinstance(right, (list, tuple)) and len(left) == len(right) and all(map(self._near, left, right))
        if isinstance(left, (int, float)) and isinstance(right, (int, float)):
            return math.isclose(left, right, rel_tol=self.rel, abs_tol=self.abs)
        return bool(left == right)


class _Mark:
    def __getattr__(self, name: str) -> Any:
        if name == "parametrize":
            return lambda names, rows, **_: _with("_rows", (names, [getattr(row, "_row", row) for row in rows]))
        if name in ("skip", "skipif"):
            return lambda *args, **_: args[0] if args and inspect.isfunction(args[0]) else _with(
                "_skipped", name == "skip" or bool(args and args[0] is True))
        return lambda *args, **_: args[0] if args and callable(args[0]) else (lambda thing: thing)


def _with(name: str, value: Any) -> Callable[[Any], Any]:
    def add(function: Any) -> Any:
        setattr(function, name, [*getattr(function, name, []), value] if name == "_rows" else value)
        return function

    return add


def pytest_module() -> types.ModuleType:
    """A module with the names of pytest that small test files use."""
    module = types.ModuleType("pytest")

    def raises(expected: Any, *call: Any, match: str | None = None, **kwargs: Any) -> Any:
        if not call:
            return _Raises(expected, match)
        with _Raises(expected, match) as caught:
            call[0](*call[1:], **kwargs)
        return caught

    def fail(reason: str = "", **_: Any) -> None:
        raise AssertionError(reason)

    def skip(reason: str = "", **_: Any) -> None:
        raise unittest.SkipTest(reason)

    def fixture(function: Any = None, **_: Any) -> Any:
        return _with("_fixture", True)(function) if function is not None else _with("_fixture", True)

    def main(*_args: Any, **_kwargs: Any) -> int:
        return 0

    def param(*values: Any, **_: Any) -> Any:
        return types.SimpleNamespace(_row=values if len(values) > 1 else values[0])

    module.__dict__.update(raises=raises, approx=_Approx, fail=fail, skip=skip, fixture=fixture, mark=_Mark(),
                           param=param, main=main)
    return module
