"""The shapes of tests, read from what data sets call them.

Ours is a JSON object with a `type`:

    {"type": "asserts", "tests": ["assert f(1) == 2", …], "setup": "", "entry_point": null}
    {"type": "check", "test": "def check(candidate): …", "entry_point": "f", "prompt": "def f(x): …"}
    {"type": "calls", "entry_point": "f", "inputs": [[args], …], "outputs": [value, …]}
    {"type": "stdio", "inputs": ["…"], "outputs": ["…"], "checker": null}
    {"type": "unittest", "files": {"test_f.py": "…"}, "module": null}

Also read: HumanEval's `test` + `entry_point` (+ `prompt`); MBPP's `test_list` + `test_setup_code` (or `test_imports`);
APPS and TACO's `{"inputs", "outputs"}`, with `fn_name` as calls; `[{"input", "output"}, …]` of LiveCodeBench and
codeforces (`testtype: functional` needs `fn_name` or `func_name` beside it, in `metadata` too), also in two parts,
`public_test_cases` and `private_test_cases`; code_contests' `public_tests` / `private_tests` / `generated_tests` of
`{"input": […], "output": […]}`; a list of assert statements; and source text of any of these (asserts, a `check`
function, a unit-test file). In source text each statement at the top that holds an assert is a test, and what stands
before it, since the last test, is part of it.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


class TestsInvalid(ValueError):
    """The tests cannot be read; the message says why."""

    __test__ = False


@dataclass(frozen=True, slots=True)
class Suite:
    """Tests in one form. `kind` says which fields hold: `asserts` (tests, setup, entry_point), `check` (test,
    entry_point, prompt, setup), `calls` (entry_point, calls, wrapped: each output is in a list of one), `stdio`
    (inputs, outputs, checker), `unittest` (files, module)."""

    kind: str
    tests: tuple[str, ...] = ()
    setup: str = ""
    entry_point: str | None = None
    test: str = ""
    prompt: str = ""
    calls: tuple[tuple[list[Any], Any], ...] = ()
    wrapped: bool = False
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    checker: str | None = None
    files: dict[str, str] = field(default_factory=dict)
    module: str | None = None

    @property
    def stub(self) -> str:
        """What a bare completion continues."""
        return self.prompt if self.kind == "check" else ""


def read_tests(value: Any) -> Suite:
    """Tests of any shape above, as JSON text, source text or data.

    Raises:
        TestsInvalid: they have none of these shapes, or hold no test.
    """
    if isinstance(value, str):
        text = value
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return _source(text)
    try:
        suite = _listed(value, {}) if isinstance(value, list) else _object(value)
    except TestsInvalid:
        raise
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, RecursionError) as error:
        raise TestsInvalid(f"tests of an unknown shape ({type(error).__name__}: {error})") from None
    texts = (suite.setup, suite.test, suite.prompt, *suite.tests, *suite.inputs, *suite.outputs, *suite.files.values())
    names = (suite.entry_point, suite.checker, suite.module)
    if not all(isinstance(text, str) for text in (*texts, *(name for name in names if name is not None))):
        raise TestsInvalid("tests, names and programs are texts")
    if not (suite.tests or suite.test or suite.calls or suite.inputs or suite.files):
        raise TestsInvalid("there is no test")
    return suite


def _object(value: Any) -> Suite:
    if not isinstance(value, dict):
        raise TestsInvalid(f"tests must be a JSON object, a list or source text, not {type(value).__name__}")
    kind = value.get("type")
    if kind == "unittest":
        return Suite("unittest", files={str(name): str(text) for name, text in value["files"].items()},
                     module=value.get("module"))
    if kind == "check" or (kind is None and isinstance(value.get("test"), str) and value.get("entry_point")):
        return Suite("check", test=value["test"], entry_point=value["entry_point"], prompt=value.get("prompt") or "",
                     setup=value.get("setup") or "")
    if "test_list" in value:
        imports = value.get("test_imports") or []
        setup = value.get("test_setup_code") or ("\n".join(imports) if isinstance(imports, list) else imports)
        return _asserts(value["test_list"], setup, value.get("entry_point"))
    if kind == "asserts":
        return _asserts(value["tests"], value.get("setup") or "", value.get("entry_point"))
    if "inputs" in value and "outputs" in value:
        return _paired(value["inputs"], value["outputs"], value)
    parts = [value[name] for name in ("public_tests", "private_tests", "generated_tests") if value.get(name)]
    if parts and all(isinstance(part, dict) for part in parts):
        return _paired([text for part in parts for text in part["input"]],
                       [text for part in parts for text in part["output"]], value)
    for name in ("tests", "test_cases"):
        found = value.get(name)
        found = json.loads(found) if isinstance(found, str) and found.lstrip()[:1] in ("[", "{") else found
        if isinstance(found, list):
            return _listed(found, value)
        if isinstance(found, dict):
            return _object({**value, **found, name: None})
    cases = [case for name in ("public_test_cases", "private_test_cases") for case in _cases(value.get(name), name)]
    if cases:
        return _listed(cases, value)
    raise TestsInvalid(f"tests of an unknown shape, with the keys {', '.join(sorted(map(str, value))[:8])}")


def _cases(found: Any, name: str) -> list[Any]:
    """One part of LiveCodeBench's tests. Its private part is packed; to run the rest alone would be to test less."""
    if found is None or found == "":
        return []
    if isinstance(found, str):
        try:
            found = json.loads(found)
        except ValueError:
            raise TestsInvalid(f"{name} is no JSON; where it is packed, store the text that "
                               "pickle.loads(zlib.decompress(base64.b64decode(TEXT))) gives") from None
    if isinstance(found, dict):
        given, wanted = (found.get(key) or found.get(f"{key}s") or [] for key in ("input", "output"))
        return [{"input": one, "output": other} for one, other in zip(given, wanted, strict=True)]
    if not isinstance(found, list):
        raise TestsInvalid(f"{name} must be a list of inputs and outputs")
    return found


def _asserts(tests: Any, setup: str, entry_point: str | None) -> Suite:
    tests = [tests] if isinstance(tests, str) else tests
    if not all(isinstance(test, str) for test in tests):
        raise TestsInvalid("asserts are a list of Python statements")
    return Suite("asserts", tests=tuple(tests), setup=setup, entry_point=entry_point)


def _listed(items: list[Any], about: dict[str, Any]) -> Suite:
    if all(isinstance(item, str) for item in items):
        return _asserts(items, about.get("setup") or about.get("test_setup_code") or "", about.get("entry_point"))
    functional = any(item.get("testtype") == "functional" for item in items)
    name = _function_name(about)
    if functional and not name:
        raise TestsInvalid("functional tests need the function's name in `fn_name`")
    inputs, outputs = ([item[key] for item in items] for key in ("input", "output"))
    if functional:
        return Suite("calls", entry_point=name, calls=tuple(
            ([json.loads(line) for line in given.splitlines() if line.strip()], json.loads(want))
            for given, want in zip(inputs, outputs, strict=True)))
    return _paired(inputs, outputs, about)


def _function_name(about: dict[str, Any]) -> str | None:
    inner = about.get("metadata")
    inner = json.loads(inner) if isinstance(inner, str) and inner.startswith("{") else inner
    for place in (about, inner if isinstance(inner, dict) else {}):
        for key in ("fn_name", "func_name", "entry_point"):
            if place.get(key):
                return str(place[key])
    return None


def _paired(inputs: list[Any], outputs: list[Any], about: dict[str, Any]) -> Suite:
    if len(inputs) != len(outputs):
        raise TestsInvalid(f"there are {len(inputs)} inputs and {len(outputs)} outputs")
    name = _function_name(about)
    if name:
        # APPS and TACO put every output in a list of its own; elsewhere [3] means a list.
        wrapped = ("fn_name" in about and "inputs" in about and about.get("type") is None
                   and all(isinstance(want, list) and len(want) == 1 for want in outputs))
        return Suite("calls", entry_point=name, wrapped=wrapped, calls=tuple(
            (given if isinstance(given, list) else [given], want) for given, want in zip(inputs, outputs, strict=True)))
    return Suite("stdio", inputs=tuple(map(_text, inputs)), outputs=tuple(map(_text, outputs)),
                 checker=about.get("checker") or about.get("generated_checker"))


def _text(value: Any) -> str:
    """Input or output as text; some sets keep it as a list of lines."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(line, (str, int, float)) for line in value):
        return "".join(f"{line}\n" if not str(line).endswith("\n") else str(line) for line in value)
    raise TestsInvalid("inputs and outputs are texts")


def _source(text: str) -> Suite:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise TestsInvalid(f"the tests are neither JSON nor Python ({type(error).__name__})") from None
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    classes = any(isinstance(node, ast.ClassDef) for node in tree.body)
    if "check" in functions:
        raise TestsInvalid("a check function needs the name of the function it checks: give an object with `test` and "
                           "`entry_point`")
    if classes or any(name.startswith("test") for name in functions):
        return Suite("unittest", files={"test_solution.py": text})
    helpers = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)
               and any(isinstance(inner, ast.Assert) for inner in ast.walk(node))}
    tests = [at for at, node in enumerate(tree.body) if any(
        isinstance(inner, ast.Assert) or (isinstance(inner, ast.Name) and inner.id in helpers)
        for inner in _within(node))]
    if not tests:
        raise TestsInvalid("the tests hold no assert statement")
    early = [at for at, node in enumerate(tree.body) if at < tests[0] or isinstance(node, (ast.Import, ast.ImportFrom))]
    texts = ["" if at in early else ast.unparse(node) for at, node in enumerate(tree.body)]
    starts = [0, *(at + 1 for at in tests)]
    return Suite("asserts", setup="\n".join(ast.unparse(tree.body[at]) for at in early), tests=tuple(
        "\n".join(text for text in texts[start:at + 1] if text) for start, at in zip(starts, tests, strict=False)))


def _within(node: ast.stmt) -> Iterator[ast.AST]:
    """What runs with a statement: a function's body runs where it is called."""
    return iter(()) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) else ast.walk(node)
