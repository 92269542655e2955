"""What crosses between two sandboxes arrives as it was, and is compared as Python would; hostile data is only data."""

from __future__ import annotations

import collections
import contextlib
import datetime
import decimal
import fractions
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.verifiers.code.quick import judge, quick_assert, quick_check, same
from factory.verifiers.code.shapes import Suite, TestsInvalid, read_tests
from factory.verifiers.code.stdio import same_output
from factory.verifiers.sandbox.guest.values import Unplain, canonical, decode, encode

_KEYS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=3),
                  st.binary(max_size=3), st.fractions(), st.decimals(allow_nan=False), st.dates(), st.timedeltas(),
                  st.complex_numbers(allow_nan=False), st.sampled_from([10**30, -(10**500), 1, 1.0, True, 0, -0.0]))


def _grow(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(inner, max_size=3), st.lists(inner, max_size=3).map(tuple), st.dictionaries(_KEYS, inner, max_size=3),
        st.sets(_KEYS, max_size=3), st.frozensets(_KEYS, max_size=3),
        st.lists(inner, max_size=3).map(collections.deque), st.lists(_KEYS, max_size=3).map(collections.Counter))


VALUES = st.recursive(_KEYS, _grow, max_leaves=8)


def _wire(value: Any) -> Any:
    return json.loads(json.dumps(encode(value), allow_nan=False))


@given(VALUES)
def test_a_value_arrives_as_it_was(value: Any) -> None:
    back = decode(_wire(value))
    assert type(back) is type(value)
    assert back == value


@given(VALUES, VALUES)
def test_data_is_compared_as_python_compares(left: Any, right: Any) -> None:
    one, other = _wire(left), _wire(right)
    assert same(one, other) in ((left == right), None)
    assert same(one, one) is not False
    if json.dumps(canonical(one)) == json.dumps(canonical(other)):
        assert left == right


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
                        ["tuple", "set", "dict", "int", "float", "ref", "bytes", "Decimal", "namedtuple", "class",
                         "range", "deque", "x"]), inner, max_size=2), max_leaves=8))
def test_any_json_is_a_value_or_refused(data: Any) -> None:
    with contextlib.suppress(Unplain):
        decode(data)
    quick = quick_assert("assert f() == [1, (2, {'a': 3})]")
    assert quick is not None
    with contextlib.suppress(TypeError, ValueError, AttributeError):  # a wrong answer, where it is called
        judge(quick, data)


class _Int(int):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = int.__hash__

    def __add__(self, other: int) -> int:
        raise RuntimeError


class _List(list):  # type: ignore[type-arg]
    def __iter__(self) -> Any:
        return iter([1, 2, 3])


def test_subclasses_cross_as_what_they_hold() -> None:
    assert encode(_Int(3)) == 3
    assert type(encode(_Int(3))) is int
    assert encode(_List([5])) == [5]
    point = collections.namedtuple("point", "x y")(1, 2)
    assert decode(_wire(point)).y == 2
    assert decode(_wire([int, ValueError])) == [int, ValueError]
    for odd in (object(), lambda: 0, iter([]), _List):
        with pytest.raises(Unplain):
            encode(odd)
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(Unplain):
        encode(loop)


def test_what_is_not_finite_crosses() -> None:
    assert math.isnan(decode(_wire(math.nan)))
    assert decode(_wire([math.inf, -math.inf])) == [math.inf, -math.inf]
    moment = datetime.datetime(2020, 1, 2, 3, 4, tzinfo=datetime.timezone.utc)  # noqa: UP017
    for value in (moment, datetime.time(1, 2), range(1, 9, 2), bytearray(b"x"), ..., fractions.Fraction(1, 3),
                  decimal.Decimal("1.10"), collections.OrderedDict(a=1), collections.deque([1], 3)):
        assert decode(_wire(value)) == value


@pytest.mark.parametrize(("source", "rule"), [
    ("assert f(1, [2], x={'a': (1,)}) == {3}", "=="), ("assert 3 == f()", "=="), ("assert f(1) != -1", "!="),
    ("assert f() is None", "is"), ("assert f()", "true"), ("assert not f(), 'why'", "false"),
    ("assert f(x) == 1", None), ("assert f(*[1]) == 1", None), ("assert f(1) == g(1)", None),
    ("assert f(1) > 1", None), ("assert len(1) == 1", None), ("assert math(1) == 1", None), ("assert f.g() == 1", None),
    ("assert f(1) == 1; x = 2", None), ("assert f(1) is 1", None), ("f(1)", None), ("assert f(", None),
    ("assert 0 < f(1) < 2", None), ("assert f(" + "(" * 5000, None), ("assert f() == " + "-" * 20000 + "1", None),
])
def test_which_asserts_are_plain_data(source: str, rule: str | None) -> None:
    found = quick_assert(source)
    assert (found.rule if found else None) == rule


def test_which_check_functions_are_plain_data() -> None:
    simple = quick_check("M = {'a': 1}\ndef check(c):\n    'doc'\n    assert c(1) == 2, 'm'\n    assert True\n", "f")
    assert simple is not None
    assert [(quick.name, quick.want) for quick in simple] == [("f", 2)]
    for body in ("for i in range(3): assert c(i)", "assert g(1) == 2", "c = f\n    assert c(1) == 2", "pass", "x()"):
        assert quick_check(f"def check(c):\n    {body}\n", "f") is None
    assert quick_check("x = open('a')\ndef check(c):\n    assert c(1)", "f") is None


@pytest.mark.parametrize(("tests", "kind", "count"), [
    ({"test_list": ["assert f(1)"], "test_setup_code": "", "test_imports": ["import math"]}, "asserts", 1),
    (["assert f(1)", "assert f(2)"], "asserts", 2),
    ("x = 1\nassert f(x)\nassert f(2)", "asserts", 2),
    ({"test": "def check(c): pass", "entry_point": "f", "prompt": "def f(): ..."}, "check", 1),
    ({"inputs": ["1\n", ["2", "3"]], "outputs": ["1", ["2"]]}, "stdio", 2),
    ({"inputs": [[1, 2]], "outputs": [3], "fn_name": "f"}, "calls", 1),
    ([{"input": "1", "output": "2", "testtype": "stdin"}], "stdio", 1),
    ({"tests": [{"input": "1\n[2]", "output": "3", "testtype": "functional"}], "metadata": '{"func_name": "f"}'},
     "calls", 1),
    ({"public_tests": {"input": ["1"], "output": ["2"]}, "private_tests": {"input": ["3"], "output": ["4"]}},
     "stdio", 2),
    ({"public_test_cases": '[{"input": "1", "output": "2"}]'}, "stdio", 1),
    ({"type": "unittest", "files": {"test_a.py": "def test_a(): pass"}}, "unittest", 1),
    ("import unittest\nclass T(unittest.TestCase):\n    pass", "unittest", 1),
])
def test_the_spellings_of_data_sets(tests: Any, kind: str, count: int) -> None:
    for value in (tests, tests if isinstance(tests, str) else json.dumps(tests)):
        suite = read_tests(value)
        held = suite.tests or suite.calls or suite.inputs or suite.files or (suite.test,)
        assert (suite.kind, len(held)) == (kind, count)


@settings(max_examples=50)
@given(st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)
                    | st.dictionaries(st.sampled_from(["type", "tests", "test", "entry_point", "inputs", "outputs",
                                                       "test_list", "files", "fn_name", "public_tests"]), inner,
                                      max_size=3), max_leaves=10))
def test_any_json_is_tests_or_refused(value: Any) -> None:
    with contextlib.suppress(TestsInvalid):
        assert isinstance(read_tests(value), Suite)


@pytest.mark.parametrize(("got", "wanted", "equal"), [
    ("1 2\n3", "1 2 3\n\n", True), ("", "\n", True), ("1.0", "1.0000001", True), ("1e0", "1.0", True),
    ("1", "2", False), ("1.0", "1", False), ("yes", "YES", False), ("1 2", "1", False), ("nan", "nan", True),
    ("inf", "1.0", False), ("1_0", "10.0", False), ("9" * 5000, "1.5", False), ("100000001", "100000000.0", True),
])
def test_outputs_are_compared_word_by_word(got: str, wanted: str, equal: bool) -> None:
    assert same_output(got, wanted, 1e-6) is equal
