"""Unit-test files: finding their tests, and enough of pytest's names for files that use it.

`unittest.TestCase` classes, functions and methods named `test…` (inherited ones too); what sets up a module, class or
method runs before each test; of pytest: `raises`, `approx`, `fail`, `skip`, `param`, `mark.parametrize`, `mark.skip`,
`mark.skipif`, `mark.xfail` (not run), `mark.usefixtures` (other marks change nothing), and fixtures of a file, a class
or `conftest`, also those that yield or are used by all. Any other name or fixture of pytest is `Unsupported`: the tests
then decide nothing. An import of a module that neither the standard library nor the files have means the program.
"""

from __future__ import annotations

import ast
import builtins
import functools
import importlib
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

from factory.verifiers.sandbox.guest.peers import Unsupported

_FOREIGN = frozenset({"numpy", "np", "pandas", "scipy", "torch", "sklearn", "matplotlib", "requests", "django", "flask",
                      "hypothesis", "parameterized", "sympy", "networkx", "tensorflow", "yaml", "PIL", "bs4", "attr"})


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports the test files by name, and the program under any other name that is not known."""

    def __init__(self, program: types.ModuleType, codes: dict[str, types.CodeType], module: str | None,
                 bound: frozenset[str]):
        self.program, self.codes, self.module, self.bound = program, codes, module, bound

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        known = name in self.codes or self.means_program(name)
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
            # `from solution import *` never replaces what the tests have from elsewhere: a program could bring its own
            # `approx`, and decide with it.
            module.__dict__.update(names, __all__=[
                name for name in names if not hasattr(builtins, name) and name not in sys.stdlib_module_names
                and name not in self.bound])

    def means_program(self, name: str) -> bool:
        """Whether the name of a module means the program."""
        return name not in self.codes and (name == self.module or (
            self.module is None and name.partition(".")[0] not in sys.stdlib_module_names | _FOREIGN | {"pytest"}))


def bound(sources: dict[str, str], module: str | None = None) -> frozenset[str]:
    """Names that test files define at their top or import from anything but the program."""
    finder = Finder(types.ModuleType("none"), dict.fromkeys(sources), module, frozenset())  # type: ignore[arg-type]
    found: set[str] = set()
    for source in sources.values():
        for node in _top(ast.parse(source).body):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                found.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
            elif isinstance(node, ast.Import):
                found |= {alias.asname or alias.name.partition(".")[0] for alias in node.names
                          if not finder.means_program(alias.name)}
            elif isinstance(node, ast.ImportFrom) and not node.level and not finder.means_program(node.module or ""):
                found |= {name for alias in node.names for name in _brought(node.module or "", alias, sources)}
    return frozenset(found)


_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp,
           ast.GeneratorExp)


def _top(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """All nodes that are not inside a function or class."""
    queue: list[ast.AST] = list(body)
    for node in queue:
        yield node
        if not isinstance(node, _SCOPES):
            queue += ast.iter_child_nodes(node)


def _brought(module: str, alias: ast.alias, sources: dict[str, str]) -> list[str]:
    if alias.name != "*":
        return [alias.asname or alias.name]
    if module in sources:
        return []  # its own names are bound already
    held = pytest_module() if module == "pytest" else importlib.import_module(module)
    return [name for name in getattr(held, "__all__", vars(held)) if not name.startswith("_")]


def collect(modules: list[types.ModuleType]) -> list[Callable[[], object]]:
    """The tests of all modules as functions without arguments.

    Raises:
        Unsupported: they need what there is not.
    """
    found: list[Callable[[], object]] = []
    shared = [module for module in modules if module.__name__.rpartition(".")[2] == "conftest"]
    for module in modules:
        fixtures = {name: value for held in (*shared, module) for name, value in _fixtures(held).items()}
        for name, value in list(vars(module).items()):
            if isinstance(value, type) and issubclass(value, unittest.TestCase):
                found += [_case(test) for test in unittest.defaultTestLoader.loadTestsFromTestCase(value)]
            elif isinstance(value, type) and name.startswith("Test") and value.__module__ == module.__name__:
                if not getattr(value, "_skipped", False) and getattr(value, "__test__", True):
                    methods = dict.fromkeys(method for kind in reversed(value.__mro__) for method in vars(kind))
                    for method in methods:
                        if method.startswith("test") and callable(getattr(value, method)):
                            found += _calls(_Test(module, value, method, fixtures))
            elif inspect.isfunction(value) and name.startswith("test"):
                found += _calls(_Test(module, None, name, fixtures))
    return found


def _fixtures(holder: Any) -> dict[str, Any]:
    return {getattr(value, "_named", None) or name: value for name in dir(holder)
            if inspect.isfunction(value := getattr(holder, name, None)) and hasattr(value, "_fixture")}


def _case(test: Any) -> Callable[[], object]:
    def run() -> None:
        result = unittest.TestResult()
        result.failfast = True
        kept: list[BaseException] = []
        for name in ("addError", "addFailure", "addSubTest"):
            setattr(result, name, functools.partial(_keep, kept))
        unittest.TestSuite([test]).run(result)  # with what sets up its module and class
        if kept:
            raise kept[0]
        if result.unexpectedSuccesses:
            raise AssertionError("a test that is expected to fail passed")
        if result.skipped:
            raise unittest.SkipTest(result.skipped[0][1])

    return run


def _keep(kept: list[BaseException], *about: Any) -> None:
    error = about[-1]
    if error is not None and error[1] is not None:
        kept.append(error[1])


class _Test:
    """A function of a module, or a method of `kind`, with the fixtures that it may ask for."""

    def __init__(self, module: types.ModuleType, kind: type | None, name: str, fixtures: dict[str, Any]):
        self.module, self.kind, self.name = module, kind, name
        self.function = function = getattr(kind or module, name)
        inner = _fixtures(kind) if kind is not None else {}
        self.fixtures = {**fixtures, **inner}
        self.methods = frozenset(inner)
        marked = [name for names in getattr(function, "_uses", []) for name in names]
        marked += [name for names in getattr(kind, "_uses", []) for name in names]
        self.always = [name for name, value in self.fixtures.items() if getattr(value, "_autouse", False)] + marked

    def run(self, wanted: list[str], case: dict[str, Any]) -> None:
        open_ones: list[Iterator[Any]] = []
        made: dict[str, Any] = {}
        for name in ("setup_module", "setUpModule", *(() if self.kind else ("setup_function",))):
            _set_up(vars(self.module).get(name), self.function if name == "setup_function" else self.module)
        holder = self.kind() if self.kind else None
        if self.kind:
            setup = inspect.getattr_static(self.kind, "setup_class", None)
            _set_up(getattr(self.kind, "setup_class", None) if isinstance(setup, classmethod) else setup, self.kind)
        try:
            for name in self.always:
                self.fixture(name, holder, made, open_ones)
            for name in ("setup_method", "setup"):
                _set_up(getattr(holder, name, None), self.function)
            given = {name: case[name] if name in case else self.fixture(name, holder, made, open_ones)
                     for name in wanted}
            (getattr(holder, self.name) if self.kind else self.function)(**given)
        finally:
            for left in reversed(open_ones):
                next(left, None)

    def fixture(self, name: str, holder: Any, made: dict[str, Any], open_ones: list[Iterator[Any]]) -> Any:
        if name in made:
            return made[name]
        function = self.fixtures[name]
        if name in self.methods:
            function = functools.partial(function, holder)
        inner = {wanted: self.fixture(wanted, holder, made, open_ones) for wanted in inspect.signature(
            function).parameters}
        value = function(**inner)
        if inspect.isgenerator(value):
            open_ones.append(value)
            value = next(value)
        made[name] = value
        return value

    def check(self, wanted: list[str], seen: frozenset[str] = frozenset()) -> None:
        """Refuse what there is no fixture for."""
        for name in wanted:
            if name not in self.fixtures or name in seen:
                raise Unsupported(f"the tests ask for the fixture {name!r}, which there is not")
            inner = [found for found in inspect.signature(self.fixtures[name]).parameters if found != "self"]
            self.check(inner, seen | {name})


def _set_up(function: Any, *about: Any) -> None:
    if callable(function):
        function(*about[:len(inspect.signature(function).parameters)])


def _calls(test: _Test) -> list[Callable[[], object]]:
    if getattr(test.function, "_skipped", False):
        return []
    cases: list[dict[str, Any]] = [{}]
    for names, rows in [*getattr(test.function, "_rows", []), *getattr(test.kind, "_rows", [])]:
        columns = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
        given = [dict(zip(columns, row if len(columns) > 1 else [row], strict=False)) for row in rows]
        cases = [{**left, **right} for left, right in itertools.product(cases, given)]
    plain = [parameter.name for parameter in inspect.signature(test.function).parameters.values()
             if parameter.default is parameter.empty]
    bound_later = test.kind is not None and not isinstance(
        inspect.getattr_static(test.kind, test.name, None), (staticmethod, classmethod))
    wanted = plain[1:] if bound_later else plain
    for case in cases:
        test.check([*test.always, *(name for name in wanted if name not in case)])
    return [functools.partial(test.run, wanted, case) for case in cases]


class _Raises:
    def __init__(self, expected: Any, match: str | None = None):
        self.expected, self.pattern, self.value, self.type = expected, match, None, None

    def __enter__(self) -> _Raises:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        if kind is None:
            raise AssertionError(f"{self.expected} was not raised")
        if not issubclass(kind, self.expected):
            return False
        self.value, self.type = error, kind
        if self.pattern is not None:
            self.match(self.pattern)
        return True

    def match(self, pattern: str) -> bool:
        if not re.search(pattern, str(self.value)):
            raise AssertionError(f"{self.value} does not match {pattern}")
        return True


class _Approx:
    def __init__(self, expected: Any, rel: float | None = None, abs: float | None = None, nan_ok: bool = False):
        self.expected, self.nan_ok = expected, nan_ok
        self.rel = (1e-6 if abs is None else 0.0) if rel is None else rel
        self.abs = 1e-12 if abs is None else abs

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
            if left != left or right != right:
                return self.nan_ok and left != left and right != right
            # Of the expected value, as pytest has it; `isclose` would take the larger of the two.
            return left == right or (math.isfinite(left) and abs(left - right) <= max(self.rel * abs(left), self.abs))
        return bool(left == right)


class _Mark:
    def __getattr__(self, name: str) -> Any:
        if name == "parametrize":
            return lambda names, rows, **_: _with("_rows", (names, [getattr(row, "_row", row) for row in rows]))
        if name == "usefixtures":
            return lambda *names: _with("_uses", names)
        if name in ("skip", "xfail"):
            return lambda *args, **_: _with("_skipped", True)(args[0]) if args and not isinstance(
                args[0], (str, bool)) else _with("_skipped", not args or args[0] is not False)
        if name == "skipif":
            return lambda *args, **_: _with("_skipped", bool(args and args[0] is True))
        return lambda *args, **_: args[0] if args and callable(args[0]) else (lambda thing: thing)


def _with(name: str, value: Any) -> Callable[[Any], Any]:
    def add(function: Any) -> Any:
        setattr(function, name, [*getattr(function, name, []), value] if name in ("_rows", "_uses") else value)
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

    def fixture(function: Any = None, autouse: bool = False, name: str | None = None, params: Any = None,
                **_: Any) -> Any:
        if params is not None:
            raise Unsupported("the tests have a fixture with params")
        if function is None:
            return functools.partial(fixture, autouse=autouse, name=name)
        return _with("_named", name)(_with("_autouse", autouse)(_with("_fixture", True)(function)))

    def missing(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise Unsupported(f"the tests use pytest.{name}, which there is not")

    def main(*_args: Any, **_kwargs: Any) -> int:
        return 0

    def param(*values: Any, **_: Any) -> Any:
        return types.SimpleNamespace(_row=values if len(values) > 1 else values[0])

    module.__dict__.update(raises=raises, approx=_Approx, fail=fail, skip=skip, fixture=fixture, mark=_Mark(),
                           param=param, main=main, __getattr__=missing)
    return module
