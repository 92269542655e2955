"""The side of the tests: run them in a namespace where the program under test is a set of stand-ins.

Frames in begin with one letter: `p` the plan (first), `r` a message from the program, `d` the program is gone (its
reason as JSON `[code, text]`). Frames out: `c` a message for the program, `t` news for the host: `["start", k]`,
`["result", k, code, text]` (code "" for passed, "skipped" for a test that skips itself), `["invalid", text]` where the
tests cannot be run, or need what cannot be done across two processes and no other test fails, `["done"]`.

The plan: `kind` is `asserts` (statements, each a test), `check` (a function of that name gets the entry point) or
`unittest` (files with test functions and classes). Names are looked up in what the tests define themselves, then in
what the program defines, but no name of the program hides a builtin or a module of the standard library unless that
name is what is tested: else a program could bring its own `abs` or `math.isclose` and be asked about the expected
value.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import importlib
import json
import os
import sys
import types
import unittest
from collections.abc import Callable, Iterator
from typing import Any

from factory.verifiers.sandbox.guest.functions import Wire
from factory.verifiers.sandbox.guest.peers import Message, Nonsense, Peer, Remote, Unsupported
from factory.verifiers.sandbox.guest.values import pack


class ProgramGone(BaseException):
    """The program under test ended; `code` and `text` say why."""

    def __init__(self, code: str, text: str):
        super().__init__(code, text)
        self.code, self.text = code, text


class Runner:
    """Runs one plan. `names` is what the program defines, as stand-ins and values."""

    def __init__(self, source: int, sink: int):
        self.wire = Wire(source, sink)
        self.plan = json.loads(self.wire.read()[1:])
        self.stems = {_stem(name): source for name, source in self.plan.get("files", {}).items()}
        self.peer = Peer(self.to_program, self.from_program, strict=("tests", *self.stems))
        self.names: dict[str, Any] = {}
        self.number = 0

    def to_program(self, message: Message) -> None:
        body = pack(message)[4:]
        self.wire.write((len(body) + 1).to_bytes(4, "little") + b"c" + body)

    def from_program(self) -> Message:
        while True:
            frame = self.wire.read()
            try:
                data = json.loads(frame[1:])
                what = data[0]
            except (ValueError, LookupError, TypeError, RecursionError) as error:
                raise Nonsense(error) from None
            if frame[:1] == b"d":
                self.peer.forget()
                raise ProgramGone(what, data[1])
            if what != "ready":
                return list(data)

    def news(self, *news: Any) -> None:
        body = json.dumps(news).encode()
        self.wire.write((len(body) + 1).to_bytes(4, "little") + b"t" + body)

    def run(self) -> None:
        """Everything; never returns."""
        first = self.wire.read()
        unsure = ""
        failed = False
        try:
            unfit(self.texts())
            self.defined(first)
            tests = {"asserts": self.asserts, "check": self.check, "unittest": self.unittest}[self.plan["kind"]]()
        except ProgramGone as gone:
            self.news("start", 0)
            self.news("result", 0, gone.code, gone.text)
            self.news("done")
            os._exit(0)
        except BaseException as error:
            far = getattr(error, "_far", None) or (_say(error) if _lacks(error) else None)
            self.news(*(("setup", far) if far else ("invalid", _say(error))))
            os._exit(0)
        self.news("count", len(tests))
        for number, test in enumerate(tests):
            self.news("start", number)
            try:
                code, text = self.outcome(test)
            except Unsupported as error:
                code = "skipped"
                unsure = text = str(error)
            failed = failed or code not in ("", "skipped")
            self.news("result", number, code, text)
        self.news(*(("invalid", unsure) if unsure and not failed else ("done",)))
        os._exit(0)

    def texts(self) -> list[str]:
        """All that the tests say."""
        plan = self.plan
        return [*plan.get("tests", ()), *self.stems.values(), *(plan.get(name) or "" for name in ("setup", "test"))]

    def defined(self, first: bytes) -> None:
        """Take what the program says that it defines; large values only where the tests speak of them."""
        try:
            found = [(name, data) for name, data in json.loads(first[1:])[1] if type(name) is str]
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise Nonsense(error) from None
        words = _spoken(self.texts())
        for name, data in found:
            # `__builtins__` and its like would decide what the names of the tests mean.
            if not name.startswith("__") and (value := self._named(name, data, words)) is not None:
                self.names[name] = value

    def outcome(self, test: Callable[[], object]) -> tuple[str, str]:
        try:
            test()
        except ProgramGone as gone:
            return gone.code, gone.text
        except AssertionError as error:
            far = getattr(error, "_far", None)
            return ("runtime_error", far) if far else ("wrong_answer", f"the assertion fails: {error}"[:300])
        except Unsupported:
            raise
        except BaseException as error:
            if isinstance(error, unittest.SkipTest):  # the tests' own: an exception of the program has another class
                return "skipped", str(error)[:300]
            far = getattr(error, "_far", None)
            code = "memory_limit" if isinstance(error, MemoryError) else "runtime_error"
            return code, str(far or _say(error))[:300]
        return "", ""

    def _named(self, name: str, data: Any, words: set[str]) -> Any:
        try:
            if type(data) is dict and "module" in data:
                return _module(str(data["module"]))
            if type(data) is dict and "later" in data:
                return self.peer.ask("value", data["later"]) if name in words else None
            return self.peer.value(data)
        except Exception:
            return None

    # ---- the three shapes ----

    def namespace(self, name: str = "tests") -> dict[str, Any]:
        module = types.ModuleType(name)
        sys.modules[name] = module
        module.__dict__["__builtins__"] = builtins
        return module.__dict__

    def visible(self, sources: list[str]) -> dict[str, Any]:
        """The program's names that tests may refer to (module docstring)."""
        words = _words(sources)
        hidden = {name for name in self.names if hasattr(builtins, name) or name in sys.stdlib_module_names}
        entry = self.plan.get("entry_point")
        tested = {name for name in words if isinstance(self.names.get(name), Remote)}
        if entry is None and tested <= hidden:
            hidden -= tested
        hidden.discard(entry)
        return {name: value for name, value in self.names.items() if name not in hidden}

    def asserts(self) -> list[Callable[[], object]]:
        space, sources = self.namespace(), self.plan["tests"]
        codes = [compile(source, f"test {number}", "exec", dont_inherit=True)
                 for number, source in enumerate(sources)]
        setup = compile(self.plan.get("setup") or "", "setup", "exec", dont_inherit=True)
        space.update(given := self.visible([*sources, self.plan.get("setup") or ""]))
        exec(setup, space)
        own = {name for name, value in space.items() if value is not given.get(name)} - {self.plan.get("entry_point")}
        space.update({name: value for name, value in self.visible(sources).items()
                      if isinstance(value, Remote) and name not in own})
        for name in _words([*sources]):
            if name not in space and name in sys.stdlib_module_names:
                space[name] = _module(name)
        return [lambda code=code: exec(code, space) for code in codes]  # type: ignore[misc]

    def check(self) -> list[Callable[[], object]]:
        space, entry = self.namespace(), self.plan["entry_point"]
        source = self.plan["test"]
        space.update(self.visible([source]))
        for text in (self.plan.get("prompt") or "", self.plan.get("setup") or ""):
            try:
                exec(compile(text, "prompt", "exec", dont_inherit=True), space)
            except (SyntaxError, ValueError):
                continue  # a stub that is no program by itself has nothing to offer
        if entry in self.names:
            space[entry] = self.names[entry]
        exec(compile(source, "test", "exec", dont_inherit=True), space)
        check = space.get("check")
        if check is None:
            raise ValueError("the test defines no function named check")
        return [lambda: check(self.entry(entry))]

    def entry(self, name: str) -> Any:
        if name not in self.names:
            raise NameError(f"the program defines no {name}")
        return self.names[name]

    def unittest(self) -> list[Callable[[], object]]:
        from factory.verifiers.sandbox.guest import collecting

        codes = {name: compile(source, f"{name}.py", "exec", dont_inherit=True) for name, source in self.stems.items()}
        program = types.ModuleType("solution")
        program.__dict__.update(self.names)
        finder = collecting.Finder(program, codes, self.plan.get("module"), collecting.bound(
            self.stems, self.plan.get("module")))
        sys.meta_path.insert(0, finder)
        sys.modules["pytest"] = collecting.pytest_module()
        modules = [importlib.import_module(name) for name in self.stems]
        return collecting.collect(modules)


def _module(name: str) -> Any:
    if name.partition(".")[0] not in sys.stdlib_module_names:
        return None
    return importlib.import_module(name)


def _stem(name: str) -> str:
    return name.removesuffix(".py").replace("/", ".")


def _words(sources: list[str]) -> set[str]:
    return {node.id for node in _nodes(sources) if isinstance(node, ast.Name)}


def _nodes(sources: list[str]) -> Iterator[ast.AST]:
    for source in sources:
        with contextlib.suppress(SyntaxError, ValueError):  # compiling says what is wrong, where it matters
            yield from ast.walk(ast.parse(source))


def _spoken(sources: list[str]) -> set[str]:
    """Names in any place where tests may mean something of the program."""
    found = set()
    for node in _nodes(sources):
        for text in (getattr(node, "id", None), getattr(node, "attr", None), getattr(node, "name", None),
                     getattr(node, "value", None) if isinstance(node, ast.Constant) else None):
            if isinstance(text, str):
                found.add(text)
    return found


_REDIRECTS = ("redirect_stdout", "redirect_stderr")


def unfit(sources: list[str]) -> None:
    """Refuse tests that need the program in their own process, or its coroutines.

    Raises:
        Unsupported: it says what they need.
    """
    patches: set[str] = set()
    for node in _nodes(sources):
        if isinstance(node, ast.ImportFrom) and (node.module or "").endswith("mock"):
            patches |= {alias.asname or alias.name for alias in node.names if alias.name == "patch"}
        if isinstance(node, (ast.AsyncFunctionDef, ast.Await)) or _is(node, "asyncio", "run", "get_event_loop"):
            raise Unsupported("the tests are asynchronous")
        if _is(node, "contextlib", *_REDIRECTS) or (isinstance(node, ast.Name) and node.id in _REDIRECTS):
            raise Unsupported("the tests read what the program writes, which is in another process")
        if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load) and _is(
                node, "sys", "stdin", "stdout", "stderr"):
            raise Unsupported("the tests replace the program's streams, which are in another process")
        if (isinstance(node, ast.Name) and node.id in patches) or _is(node, "mock", "patch"):
            raise Unsupported("the tests patch what the program uses, which is in another process")


def _is(node: ast.AST, owner: str, *names: str) -> bool:
    return isinstance(node, ast.Attribute) and node.attr in names and owner in (
        getattr(node.value, "id", None), getattr(node.value, "attr", None))


def _lacks(error: BaseException) -> bool:
    """Whether the tests ask for a name that the program does not define."""
    if isinstance(error, ImportError) and not isinstance(error, ModuleNotFoundError):
        return (error.name or "").partition(".")[0] not in sys.stdlib_module_names
    return isinstance(error, NameError)


def _say(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:300]
    except BaseException:
        return type(error).__name__


def serve(source: int, sink: int) -> None:
    """Never returns."""
    Runner(source, sink).run()
