"""Unit-test files, and tests that ask for more than two processes can do."""

from __future__ import annotations

from typing import Any

import pytest

from factory.verifiers.code import CodeVerdict, check_code
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
    files = {"type": "unittest", "files": {"test_s.py": tests}} if isinstance(tests, str) else tests
    return check_code(f"```python\n{source}\n```", files, limits=QUICK)


_SAME = "class O: pass\no = O()\nf = lambda x: o\n"


@pytest.mark.parametrize(("source", "tests"), [
    (_SAME + "approx = lambda x: o",
     "from pytest import approx\nfrom solution import *\ndef test_f(): assert f(2) == approx(1.41421)"),
    ("f = lambda x: 9\nisclose = lambda a, b: True",
     "from math import *\nfrom solution import *\ndef test_f(): assert isclose(f(2), 4)"),
    (_SAME + "Counter = lambda x: o",
     "from collections import Counter\nfrom solution import *\ndef test_f(): assert f(2) == Counter('a')"),
    (_SAME + "want = lambda: o",
     "def want(): return 4\nfrom solution import *\ndef test_f(): assert f(2) == want()"),
    (_SAME + "raises = lambda *a: o\nO.__enter__ = O.__exit__ = lambda *a: True",
     "if True:\n    from pytest import raises\nfrom solution import *\ndef test_f():\n    with raises(KeyError): f(2)"),
])
def test_a_program_does_not_replace_what_the_tests_import(source: str, tests: str) -> None:
    assert judge(source, tests).label == "incorrect"


_CLASSES = """
import unittest, pytest
from solution import f
class Base:
    def test_one(self): assert f(1) == 1
class TestMore(Base):
    @classmethod
    def setup_class(cls): cls.two = 2
    @pytest.fixture
    def three(self, four): return four - 1
    def test_two(self, three): assert f(self.two) == three - 1
@pytest.fixture(autouse=True)
def begin(): held.append(4)
held = []
@pytest.fixture(name="four")
def make_four(): return held[-1]
class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls): cls.five = 5
    def test_five(self): self.assertEqual(f(self.five), 5)
"""


def test_inherited_tests_fixtures_and_what_sets_up_a_class() -> None:
    assert judge("def f(x): return x", _CLASSES).tests == (True,) * 3
    assert judge("def f(x): return x + (x == 1)", _CLASSES).tests == (False, True, True)
    assert judge("def f(x): return x + (x == 5)", _CLASSES).tests == (True, True, False)


_POINT = "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\n    def __add__(self, o): " \
         "return P(self.x + o.x)\ndef f(x): return x"


@pytest.mark.parametrize("tests", [
    "from solution import f\ndef test_f(capsys): assert f(1) == 1",
    "from solution import f\nimport pytest\ndef test_f(): assert pytest.warns(f)",
    "from solution import f\nasync def test_f(): assert f(1) == 1",
    "from solution import f\nimport asyncio\ndef test_f(): assert asyncio.run(f(1)) == 1",
    "from solution import f\nfrom unittest.mock import patch\n@patch('os.getcwd')\ndef test_f(i): assert f(1) == 1",
    "from solution import f\nimport io, sys\ndef test_f():\n    sys.stdout = io.StringIO()\n    assert f(1) == 1",
    "from solution import P\ndef test_f(): assert P(1) + P(2) == P(3)",
    "from solution import P\ndef test_f(): assert P(1) == P(1)",
    "from solution import P\ndef test_f(): assert [P(1)] == [P(1)]",
])
def test_what_cannot_be_done_decides_nothing(tests: str) -> None:
    verdict = judge(_POINT, tests)
    assert (verdict.label, verdict.reason_code) == ("undecided", "tests_invalid"), verdict.reason


def test_another_test_that_fails_still_does() -> None:
    tests = "from solution import P, f\ndef test_p(): assert P(1) == P(1)\ndef test_f(): assert f(1) == 2"
    assert judge(_POINT, tests).label == "incorrect"
    plain = "from solution import P\ndef test_f(): assert P(1) != P(1) and P(1).x == 1"
    assert judge("class P:\n    def __init__(self, x): self.x = x", plain).label == "correct"


def test_the_program_may_read_objects_of_the_tests() -> None:
    tests = "from solution import f\nclass N:\n    def __init__(self, v): self.v = v\ndef test_f(): assert f(N(3)) == 3"
    assert judge("def f(n): return n.v", tests).label == "correct"


def test_large_names_cross_where_the_tests_speak_of_them() -> None:
    source = "S = [True] * 2_000_000\nT = [1, 2]\ndef f(x): return S[x]"
    tests = "from solution import *\ndef test_f(): assert f(1) and T == [1, 2]"
    assert judge(source, tests).label == "correct"
    assert judge(source, {"type": "asserts", "tests": ["assert f(1) and T == [1, 2]"]}).label == "correct"


@pytest.mark.parametrize("source", [
    'import os\nos.write(4, b"\\x0b\\0\\0\\0[\\"ready\\",5]")',
    'import os\nos.write(4, b"\\r\\0\\0\\0[\\"ready\\",[5]]")',
    'import os\nos.write(4, b"\\x0c\\0\\0\\0[\\"ready\\",[]]\\x02\\0\\0\\0[]")\ndef f(x): return x',
    "import os\ndef f(x): os._exit(0)",
])
def test_a_program_cannot_put_the_blame_on_the_tests(source: str) -> None:
    tests = {"type": "asserts", "setup": "x = f(1)", "tests": ["assert x == 1", "assert f(2) == 2"]}
    verdict = judge(source, tests)
    assert (verdict.label, verdict.reason_code, len(verdict.tests)) == ("incorrect", "runtime_error", 2), verdict.reason
