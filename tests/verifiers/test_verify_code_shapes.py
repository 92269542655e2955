"""What data sets mean by their tests: every part of them, in their order, with what their own harnesses give."""

from __future__ import annotations

import json
from typing import Any

import pytest

from factory.verifiers.code import CodeParams, CodeVerdict, check_code, trials
from factory.verifiers.sandbox import Limits, SandboxMissing
from factory.verifiers.sandbox.bwrap import find_bwrap

QUICK = Limits(seconds=1, total=2)


@pytest.fixture(autouse=True)
def _bubblewrap() -> None:
    try:
        find_bwrap()
    except SandboxMissing as error:
        pytest.skip(str(error))


def judge(source: str, tests: Any) -> CodeVerdict:
    return check_code(f"```python\n{source}\n```", tests, limits=QUICK)


def test_both_parts_of_public_and_private_tests() -> None:
    public, private = '[{"input": "1", "output": "1"}]', '[{"input": "2", "output": "2"}]'
    tests = {"public_test_cases": public, "private_test_cases": private}
    assert judge("print(input())", tests).tests == (True, True)
    assert judge("print(1)", tests).tests == (True, False)
    packed = judge("print(1)", {**tests, "private_test_cases": "eJxrYJmqxQABGj1="})
    assert (packed.reason_code, "zlib.decompress" in packed.reason) == ("tests_invalid", True)


def test_a_list_of_one_is_a_list_but_where_all_outputs_are_wrapped() -> None:
    functional = {"tests": [{"input": "3", "output": "[3]", "testtype": "functional"}], "fn_name": "f"}
    ours = {"type": "calls", "entry_point": "f", "inputs": [[3]], "outputs": [[3]]}
    mixed = {"fn_name": "f", "inputs": [[3], [4]], "outputs": [[3], 4]}
    for source in ("def f(x): return x", "def f(x): return {x} and x"):
        assert judge(source, functional).label == judge(source, ours).label == judge(source, mixed).label == "incorrect"
        assert judge(source, {"fn_name": "f", "inputs": [[3]], "outputs": [[3]]}).label == "correct"
    assert judge("def f(x): return [x]", functional).label == judge("def f(x): return [x]", ours).label == "correct"
    unsure = {"fn_name": "f", "inputs": [[3], [4]], "outputs": [[3.5], [4.5]]}
    half = "from fractions import Fraction\ndef f(x): return Fraction(2 * x + 1, 2)"
    assert judge(half, unsure).label == "correct"


@pytest.mark.parametrize(("checker", "said", "label"), [
    ("print(0.2)", "x", "incorrect"), ("print(1.0)", "x", "correct"), ("print(0)", "x", "incorrect"),
    ("1/0", "x", "undecided"), ("print(", "x", "undecided"), ("while True: pass", "x", "undecided"),
    ("import sys\nint(open(sys.argv[3]).read())\nprint(1)", "x", "incorrect"),  # it works on the output wanted
    ("import sys\nint(open(sys.argv[3]).read())\nprint(1)", "5", "correct"),
])
def test_what_a_checker_says(checker: str, said: str, label: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("factory.verifiers.code.stdio.CHECKER_SECONDS", 1.0)
    tests = {"type": "stdio", "inputs": ["1"], "outputs": ["4"], "checker": checker}
    verdict = judge(f"print({said!r})", tests)
    assert (verdict.label, verdict.reason_code == "tests_invalid") == (label, label == "undecided"), verdict.reason


def test_statements_between_asserts_keep_their_order() -> None:
    text = "x = [1]\nassert f(x) == 1\nx = [2]\nassert f(x) == 2\nfor a in [[3]]:\n    assert f(a) == 3"
    assert judge("def f(x): return x[0]", text).tests == (True, True, True)
    assert judge("def f(x): return min(x[0], 2)", text).tests == (True, True, False)
    helped = "def same(x):\n    assert f([x]) == x\nsame(1)\nsame(2)"
    assert judge("def f(x): return 1", helped).tests == (True, False)


def test_calls_have_the_imports_that_their_sites_give() -> None:
    tests = {"type": "calls", "entry_point": "f", "inputs": [[[1, 2]]], "outputs": [3]}
    source = "class Solution:\n    def f(self, a: List[int]) -> Optional[int]: return reduce(lambda x, y: x + y, a)"
    assert judge(source, tests).label == "correct"
    assert judge(f"from __future__ import annotations\n{source}", tests).label == "correct"
    own = {"type": "calls", "entry_point": "gcd", "inputs": [[4, 6]], "outputs": [2]}
    assert judge("x = 1", own).label == "incorrect"
    assert judge("def gcd(a, b): return pow(a + b, 1, 4)", own).label == "correct"


def test_a_whole_function_keeps_the_imports_of_its_stub() -> None:
    for head in ("def f(a: List[int]) -> int:\n", "class A:\n    def g(self):\n"):
        tests = {"test": "def check(c):\n    assert c([3]) == 3\n", "entry_point": "f",
                 "prompt": f"from typing import List\n{head}"}
        for first in ("", "from __future__ import annotations\n"):
            assert judge(f"{first}X = List\ndef f(a): return a[0]" if not first else f"{first}def f(a: List): "
                         "return a[0]", tests).label == "correct"


def test_how_many_tests_there_are_does_not_depend_on_the_program() -> None:
    check = {"type": "check", "entry_point": "f", "test":
             "def check(candidate):\n    assert candidate(1) == {1}\n    assert candidate(2) == {2}"}
    listed = {"type": "asserts", "tests": ["assert f(1) > 0", "assert f(2) > 0"]}
    floats = "def f(x): return {float(x)} if x == 1 else {0.5}"
    assert judge("def f(x): return {x}", check).tests == (True, True)
    assert judge(floats, check).tests == (True, False)
    assert judge("def f(x) return", check).tests == judge("def f(x) return", listed).tests == (False, False)
    assert judge("1/0", listed).tests == (False, False)


def test_trials_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(trials.__globals__, "compiler", lambda: None)
    found = trials(CodeParams(language="auto"))
    assert len(found) == len(trials(CodeParams()))
    assert not any("#include" in str(trial.row) for trial in found)
    with pytest.raises(SandboxMissing, match=r"g\+\+"):
        trials(CodeParams(language="cpp"))
    assert json.loads(str(found[0].row["tests"]))
