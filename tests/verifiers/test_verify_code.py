"""verify.code at its edge: what is taken from a response, what passes, what does not and why."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from factory.engine.op import OpContext, get_op
from factory.verifiers.code import CODE_OUT, CodeParams, CodeVerdict, check_code, verify_code
from factory.verifiers.sandbox import Limits, SandboxMissing
from factory.verifiers.sandbox.bwrap import compiler, find_bwrap

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "code"
QUICK = Limits(seconds=0.5, total=1.0)


@pytest.fixture(autouse=True)
def _bubblewrap() -> None:
    try:
        find_bwrap()
    except SandboxMissing as error:
        pytest.skip(str(error))


def judge(source: str, tests: Any, **settings: Any) -> CodeVerdict:
    tag = "cpp" if settings.get("language") == "cpp" else "python"
    return check_code(f"Here it is.\n```{tag}\n{source}\n```", tests, **{"limits": QUICK, **settings})


def asserts(*tests: str, setup: str = "") -> dict[str, Any]:
    return {"type": "asserts", "tests": list(tests), "setup": setup}


def check(body: str, prompt: str = "", entry_point: str = "f") -> dict[str, Any]:
    return {"type": "check", "test": f"def check(candidate):\n    {body}", "entry_point": entry_point, "prompt": prompt}


@pytest.mark.parametrize(("source", "test"), [
    ("def f(x): return x * 2", "assert f(2) == 4"),
    ("def f(x): return (x, [x])", "assert f(2) == (2, [2])"),
    ("def f(x): return {x, 1}", "assert f(2) == {1, 2}"),
    ("def f(x): return {'b': 1, 'a': x}", "assert f(2) == {'a': 2, 'b': 1}"),
    ("def f(x): return x / 2", "assert f(2) == 1"),
    ("def f(x): return True", "assert f(2)"),
    ("def f(x): return 1", "assert f(2) == True"),
    ("def f(x): return float('nan')", "assert f(2) != f(2)"),
    ("def f(x): return float('inf')", "assert f(2) == float('inf')"),
    ("def f(x): return 7 ** 9000", "assert f(2) == 7 ** 9000"),
    ("def f(x): return None", "assert f(2) is None"),
    ("def f(x): return (i for i in range(x))", "assert list(f(3)) == [0, 1, 2]"),
    ("import itertools\ndef f(): return itertools.count()", "assert next(f()) == 0"),
    ("from collections import Counter\ndef f(x): return Counter(x)", "assert f('aab') == {'a': 2, 'b': 1}"),
    ("from collections import namedtuple\nP = namedtuple('P', 'x y')\ndef f(): return P(1, 2)",
     "assert f() == (1, 2) and f().y == 2"),
    ("from fractions import Fraction\ndef f(): return Fraction(1, 2)", "assert f() == 0.5"),
    ("from decimal import Decimal\ndef f(): return Decimal('0.5')", "assert f() == 0.5"),
    ("import datetime\ndef f(): return datetime.date(2020, 1, 2)", "import datetime\nassert f() == "
     "datetime.date(2020, 1, 2)"),
    ("def f(l): l.append(3); l[0][0] = 9", "a = [1]\nb = [a]\nf(b)\nassert b == [[9], 3] and a == [9]"),
    ("def f(d): d['k'] = 1", "d = {}\nf(d)\nassert d == {'k': 1}"),
    ("def f(g, x): return g(g(x))", "assert f(lambda x: x + 3, 1) == 7"),
    ("def f(g, x): return [g(y) for y in x]", "assert f(str, [1, 2]) == ['1', '2']"),
    ("def f(x, t): return [y for y in x if not isinstance(y, t)]", "assert f([1, 'a'], str) == [1]"),
    ("def f(n): return lambda x: x + n", "assert f(2)(3) == 5"),
    ("class C:\n    def __init__(self, v): self.v = v\n    def twice(self): return self.v * 2\n    def __len__(self): "
     "return 4", "c = C(2)\nassert c.twice() == 4 and len(c) == 4\nc.v = 5\nassert c.twice() == 10"),
    ("class N:\n    def __init__(s, v): s.v, s.next = v, None\n"
     "def f(n): return n.v + (f(n.next) if n.next else 0)",
     "a = N(1)\na.next = N(2)\nassert f(a) == 3"),
    ("class E(ValueError): pass\ndef f(): raise E('no', 3)",
     "try:\n    f()\nexcept E as e:\n    assert e.args == ('no', 3)\nelse:\n    assert False"),
    ("def f(): return {}['k']", "try:\n    f()\nexcept KeyError as e:\n    assert e.args == ('k',)\nelse: 1/0"),
    ("import re\ndef f(s): return re.match('(a+)', s)", "assert f('aab').group(1) == 'aa'\nassert not f('b')"),
    ("import enum\nclass K(enum.Enum):\n    A = 1\ndef f(): return K.A", "assert f() is K.A and f() == K.A"),
    ("import math\ndef f(x): return math.sqrt(x)", "assert math.isclose(f(2), 1.4142, rel_tol=1e-3)"),
    ("def f(): return {1: 'a'}.keys()", "assert f() == {1} and list(f()) == [1]"),
    ("def f(): return b'ab'", "assert f() == b'ab'"),
    ("def sum(a, b): return a + b", "assert sum(1, 2) == 3"),
    ("def f(): return type('L', (list,), {'__eq__': lambda s, o: False})([1])", "assert f() == [1]"),
])
def test_right_programs_pass(source: str, test: str) -> None:
    verdict = judge(source, asserts(test))
    assert verdict.reason_code == "passed", verdict.reason


_LIE = "__eq__ = lambda s, o: True\n    __ne__ = lambda s, o: False\n    __hash__ = object.__hash__\n    "


@pytest.mark.parametrize(("source", "test", "code"), [
    ("def f(x): return x", "assert f(2) == 4", "wrong_answer"),
    ("def f(x): return [x]", "assert f(2) == (2,)", "wrong_answer"),
    ("def f(x): return (2,)", "assert f(2) == [2]", "wrong_answer"),
    ("def f(x): return '4'", "assert f(2) == 4", "wrong_answer"),
    ("def f(x): pass", "assert f(2)", "wrong_answer"),
    ("def f(x): return 1 / 0", "assert f(2) == 4", "runtime_error"),
    ("def g(x): return 4", "assert f(2) == 4", "runtime_error"),
    ("def f(x): return 4\n  x", "assert f(2) == 4", "compile_error"),
    ("1 / 0", "assert f(2) == 4", "runtime_error"),
    ("def f(x):\n    while True: pass", "assert f(2) == 4", "time_limit"),
    ("def f(x): return [0] * 10**9", "assert f(2) == 4", "memory_limit"),
    ("def f(x): return 'x' * (9 << 20)", "assert f(2) == 4", "output_limit"),
    ("def f(x): return f(x)", "assert f(2) == 4", "runtime_error"),
    ("import os\nos._exit(0)", "assert f(2) == 4", "runtime_error"),
    ("import os\ndef f(x): os._exit(0)", "assert f(2) == 4", "runtime_error"),
    ("def f(x): raise SystemExit(0)", "assert f(2) == 4", "runtime_error"),
    (f"class A:\n    {_LIE}\ndef f(x): return A()", "assert f(2) == 4", "wrong_answer"),
    (f"class A(int):\n    {_LIE}\ndef f(x): return A(3)", "assert f(2) == 4", "wrong_answer"),
    (f"class A:\n    {_LIE}__sub__ = __rsub__ = lambda s, o: 0\n    __abs__ = lambda s: 0\n    __float__ = lambda s: "
     "4.0\ndef f(x): return A()", "assert abs(f(2) - 4) < 0.1", "runtime_error"),
    ("class A:\n    __contains__ = lambda s, o: True\ndef f(x): return A()", "assert 4 in f(2)", "runtime_error"),
    ("def abs(x): return 0\ndef f(x): return 9", "assert abs(f(2) - 4) < 0.1", "wrong_answer"),
    ("class math:\n    isclose = staticmethod(lambda a, b: True)\ndef f(x): return 9",
     "assert math.isclose(f(2), 4.0)", "wrong_answer"),
    ("def f(x): raise StopIteration", "assert all(map(f, [1, 2]))", "runtime_error"),
    ("def f(x): raise AssertionError", "assert f(2) == 4", "runtime_error"),
    ("def f(cb):\n    return cb.__globals__", "assert f(lambda: 0) == 4", "runtime_error"),
    ("import unittest.mock\ndef f(x): return unittest.mock.ANY", "assert f(2) == 4", "wrong_answer"),
    ("import builtins\nbuiltins.AssertionError = KeyError\ndef f(x): return 9", "assert f(2) == 4", "wrong_answer"),
])
def test_wrong_programs_fail_for_the_right_reason(source: str, test: str, code: str) -> None:
    for tests in (asserts(test), asserts(test, setup="pass")):  # here, and with the tests in a sandbox
        verdict = judge(source, tests)
        assert (verdict.label, verdict.reason_code) == ("incorrect", code), verdict.reason
        assert verdict.score == 0.0


def test_what_each_test_said() -> None:
    verdict = judge("def f(x):\n    if x == 2:\n        raise SystemExit\n    return x", asserts(
        "assert f(1) == 1", "assert f(2) == 2", "assert f(3) == 3", "assert f(4) == 5"))
    assert verdict.tests == (True, False, True, False)
    assert (verdict.score, verdict.reason_code) == (0.5, "runtime_error")
    verdict = judge("import os\ndef f(x):\n    if x == 2: os._exit(1)\n    return x", asserts(
        "assert f(1) == 1", "assert f(2) == 2", "assert f(3) == 3"))
    assert verdict.tests == (True, False, True)


def test_state_of_a_program_lasts_over_its_tests() -> None:
    assert judge("n = 0\ndef f():\n    global n\n    n += 1\n    return n",
                 asserts("assert f() == 1", "assert f() == 2")).label == "correct"


def test_check_functions_see_the_prompt_and_not_the_programs_helpers() -> None:
    prompt = "import math\ndef poly(xs, x):\n    return sum(c * x ** i for i, c in enumerate(xs))\n\n" \
             "def f(xs):\n    '''A root.'''\n"
    body = "for xs in ([-2, 1], [-6, 2]):\n        assert math.fabs(poly(xs, candidate(xs))) < 1e-4"
    assert check_code("    return -xs[0] / xs[1]\n", check(body, prompt)).label == "correct"
    assert judge("def f(xs):\n    return -xs[0] / xs[1]", check(body, prompt)).label == "correct"
    assert judge("def poly(xs, x): return 0\ndef f(xs): return 17", check(body, prompt)).label == "incorrect"


def test_calls_with_json_values() -> None:
    tests = {"fn_name": "add", "inputs": [[1, 2], [3, 4]], "outputs": [[3], [7]]}
    assert judge("class Solution:\n    def add(self, a, b): return a + b", tests).label == "correct"
    assert judge("def add(a, b): return a * b", tests).label == "incorrect"
    pairs = {"fn_name": "two", "inputs": [[1]], "outputs": [[1, 2]]}
    assert judge("def two(a): return (a, 2)", pairs).label == "correct"


def test_programs_with_inputs_and_outputs() -> None:
    tests = [{"input": "3\n1 2 3\n", "output": "6"}, {"input": "1\n5\n", "output": "5\n"}]
    good = "input()\nprint(sum(map(int, input().split())))"
    assert judge(good, tests).tests == (True, True)
    assert judge("print(6)", tests).tests == (True, False)
    assert judge("print('6 ')\nprint()", tests[:1]).label == "correct"
    assert judge("print(1/3)", [{"input": "", "output": "0.333333"}]).label == "correct"
    assert judge("print(7)", [{"input": "", "output": "7.0000001"}]).label == "correct"
    assert judge("print(7.0)", [{"input": "", "output": "7"}]).label == "incorrect"
    assert judge("print(1", tests).reason_code == "compile_error"
    checker = "import sys\na = [open(p).read().split() for p in sys.argv[1:]]\n" \
              "print(int(sum(map(int, a[2])) == int(a[0][0])))"
    split = {"type": "stdio", "inputs": ["9\n"], "outputs": ["4 5"], "checker": checker}
    assert judge("print(2, 7)", split).label == "correct"
    assert judge("print(2, 8)", split).label == "incorrect"
    assert judge("print('x')", split).label == "incorrect"


@pytest.mark.skipif(compiler() is None, reason="there is no g++ here")
def test_cpp() -> None:
    tests = [{"input": "3 4", "output": "7"}]
    code = "#include <iostream>\nint main() { long a, b; std::cin >> a >> b; std::cout << %s; }"
    assert judge(code % "a + b", tests, language="cpp").label == "correct"
    assert judge(code % "a - b", tests, language="cpp").reason_code == "wrong_answer"
    assert judge(code % "a / (b - 4)", tests, language="cpp").reason_code == "runtime_error"
    assert judge(code % "c", tests, language="cpp").reason_code == "compile_error"
    assert check_code(code % "a + b", tests, language="auto").label == "correct"
    assert judge(code % "a", asserts("assert f() == 1"), language="cpp").reason_code == "tests_invalid"


UNIT = """
import unittest
import pytest
from solution import add, Stack

class AddTest(unittest.TestCase):
    def setUp(self):
        self.stack = Stack()
    def test_add(self):
        self.assertEqual(add(1, 2), 3)
        with self.assertRaises(TypeError):
            add(1, None)
    def test_stack(self):
        self.stack.push(4)
        self.assertEqual(self.stack.items, [4])

@pytest.fixture
def four():
    yield 4

@pytest.mark.parametrize("a, b", [(1, 5), (2, 6)])
def test_four(four, a, b):
    assert add(four, a) == b
    with pytest.raises(TypeError, match="unsupported"):
        add(1, None)
"""


def test_unit_test_files() -> None:
    good = "def add(a, b): return a + b\nclass Stack:\n    def __init__(self): self.items = []\n" \
           "    def push(self, x): self.items.append(x)"
    assert judge(good, UNIT).tests == (True,) * 4
    assert judge(good.replace("a + b", "a - b"), UNIT).tests == (False, True, False, False)
    assert judge("def add(a, b): return a + b", UNIT).reason_code == "runtime_error"
    assert judge(good, {"type": "unittest", "files": {"test_x.py": UNIT.replace("solution", "numpy")}}
                 ).reason_code == "tests_invalid"


@pytest.mark.parametrize("tests", [
    None, "", "[]", "{}", "not tests at all", "[1, 2]", '{"type": "asserts", "tests": ["assert f(("]}',
    '{"inputs": ["1"], "outputs": []}', "x = 1", '{"type": "check", "test": "x = 1", "entry_point": "f"}',
    '{"type": "unittest", "files": {"test_a.py": "import solution"}}', "[" * 100_000,
    '{"type": "asserts", "setup": "1/0", "tests": ["assert f(1) == 1"]}',
    '{"type": "asserts", "setup": "while True: pass", "tests": ["assert f(1) == 1"]}',
])
def test_tests_that_cannot_be_run_decide_nothing(tests: str | None) -> None:
    verdict = judge("def f(x): return x", tests)
    assert (verdict.label, verdict.reason_code) == ("undecided", "tests_invalid")


@pytest.mark.parametrize(("response", "label"), [
    ("<think>```python\ndef f(x): return 0\n```</think>```python\ndef f(x): return x\n```", "correct"),
    ("```python\ndef f(x): return 0\n```\nBetter:\n```py\ndef f(x): return x\n```", "correct"),
    ("```python\ndef f(x): return x\n```\nIt prints\n```\n1\n```", "correct"),
    ("```python\ndef f(x): return x\n```\n```python\ndef f(x): return", "correct"),
    ("~~~python\ndef f(x): return x\n~~~", "correct"),
    ("````python\ndef f(x):\n    '''\n    ```\n    '''\n    return x\n````", "correct"),
    ("```\ndef f(x): return x\n```", "correct"),
    ("def f(x): return x", "correct"),
    ("```python\ndef f(x): return x", "incorrect"),
    ("<think>```python\ndef f(x): return x\n```", "incorrect"),
    ("```bash\ndef f(x): return x\n```", "incorrect"),
    ("the function returns x", "incorrect"),
    ("42", "incorrect"), ("", "incorrect"), (None, "incorrect"),
])
def test_where_the_program_is(response: str | None, label: str) -> None:
    assert check_code(response, asserts("assert f(1) == 1")).label == label


def test_the_op_and_its_trials() -> None:
    params, spec = CodeParams(response="said", tests="checks"), get_op("verify.code")
    assert spec.trials is not None
    trials = spec.trials(params)
    table = verify_code(pl.DataFrame([trial.row for trial in trials]), params, OpContext())
    assert table["label"].to_list() == [trial.label for trial in trials]
    assert all(table.schema[name] == kind for name, kind in CODE_OUT.items())
    wrong = table.row(1, named=True)
    assert (wrong["tests_passed"], wrong["tests_total"], wrong["tests_bits"]) == (1, 2, [True, False])
    assert (wrong["passed"], wrong["score"]) == (False, 0.5)


def test_tests_may_be_lists_and_structs() -> None:
    said = "```python\ndef f(x): return x\n```"
    for held in ([["assert f(1) == 1"], ["assert f(1) == 2"]],
                 [{"test_list": ["assert f(1) == 1"], "inputs": None, "outputs": None},
                  {"test_list": None, "inputs": ["1"], "outputs": ["1"]}]):
        batch = pl.DataFrame({"response": [said, said], "tests": held})
        assert verify_code(batch, CodeParams(), OpContext())["label"].to_list() == ["correct", "incorrect"]


@pytest.mark.skipif(not DATA.exists(), reason="needs shared/data/code beside the repository")
@pytest.mark.parametrize("step", [pytest.param(20, id="sample"),
                                  pytest.param(1, id="all", marks=pytest.mark.exhaustive)])
def test_published_solutions_pass(step: int) -> None:
    with gzip.open(DATA / "HumanEval.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [(row["canonical_solution"], row) for row in map(json.loads, lines)]
    mbpp = (json.loads(line) for line in (DATA / "mbpp.jsonl").read_text("utf-8").splitlines())
    rows += [(f"```python\n{row['code']}\n```", row) for row in mbpp]
    generous = Limits(seconds=30, total=60)
    failed = [row["task_id"] for response, row in rows[::step] if check_code(
        response, row, limits=generous).label != "correct"]
    assert failed == []
