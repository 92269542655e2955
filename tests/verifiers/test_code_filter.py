"""Tests from generated inputs: which are kept, what they want, and that the few that stay catch as much as all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.engine.errors import DataError
from factory.engine.op import OpContext, get_op
from factory.verifiers.code import check_code
from factory.verifiers.code_tests import filter as code_filter
from factory.verifiers.code_tests import inputs as code_inputs
from factory.verifiers.code_tests.cover import choose_cover
from factory.verifiers.code_tests.inputs import InputsParams, make_inputs, take_generators
from factory.verifiers.code_tests.phases import FilterParams, filter_tests
from factory.verifiers.sandbox import Limits, SandboxMissing, get_room

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "code"
SHORT = Limits(seconds=1.0, total=1.0)

SORTS = "n = int(input())\nprint(*sorted(map(int, input().split()))[:n])\n"
SORTS_SLOWLY = """n = int(input())
left = list(map(int, input().split()))
assert len(left) == n
out = []
while left:
    out.append(min(left))
    left.remove(out[-1])
print(*out)
"""
SORTS_IN_CPP = """#pragma GCC optimize("O2")
#include <algorithm>
#include <cstdio>
int main() {
    int n, a[1000];
    scanf("%d", &n);
    for (int i = 0; i < n; i++) scanf("%d", a + i);
    std::sort(a, a + n);
    for (int i = 0; i < n; i++) printf("%d ", a[i]);
}
"""
AS_TEXT = "input()\nprint(*sorted(input().split()))\n"
NO_REPEATS = "input()\nprint(*sorted(set(map(int, input().split()))))\n"
HAS_A_LIMIT = "n = int(input())\nassert n < 6\nprint(*sorted(map(int, input().split())))\n"
ECHOES = "input()\nprint(input())\n"


@pytest.fixture(scope="module", autouse=True)
def _sandbox() -> None:
    try:
        get_room()
    except SandboxMissing as error:
        pytest.skip(str(error))


def _filter(inputs: list[str | None], correct: list[str], incorrect: list[str], outputs: list[str | None] | None = None,
            **params: Any) -> Any:
    return filter_tests(inputs, correct, incorrect, FilterParams(time_limit=1.0, **params), outputs)


# ---- the cover ---------------------------------------------------------------------------------------------------

catching = st.lists(st.frozensets(st.integers(0, 8), max_size=5), max_size=12)


@given(catching, st.data())
def test_a_cover_catches_all_and_no_test_of_it_is_idle(catches: list[frozenset[int]], data: st.DataObject) -> None:
    costs = data.draw(st.lists(st.integers(0, 3), min_size=len(catches), max_size=len(catches)))
    chosen = choose_cover(catches, costs)
    assert set().union(*(catches[test] for test in chosen)) == set().union(*catches)
    assert chosen == sorted(set(chosen))
    assert len(chosen) <= len(set().union(*catches))
    assert chosen == choose_cover(catches, costs)


@given(catching, st.integers(0, 5), st.integers(1, 5))
def test_bounds_of_a_cover_hold(catches: list[frozenset[int]], at_least: int, at_most: int) -> None:
    costs = [1] * len(catches)
    chosen = choose_cover(catches, costs, at_least=at_least, at_most=at_most)
    needed = len(choose_cover(catches, costs))
    assert len(chosen) == min(len(catches), at_most, max(needed, at_least))


def test_the_cheaper_of_equal_tests_is_kept() -> None:
    assert choose_cover([{0}, {0, 1}, {0, 1}, {1}], [1, 9, 2, 1]) == [2]


# ---- inputs ------------------------------------------------------------------------------------------------------

ANSWER = """<think>```python
print("never run")
```</think>Two generators:

```python
import random
def build():
    return "".join(random.choice("ab") for _ in range(10))
print(build())
```
and, as one huge case,
```
print("a" * 1000)
```
```cpp
int main() {}
```
```python
print("unfinished"
"""


def test_every_complete_block_of_the_answer_is_a_generator() -> None:
    assert [len(text.splitlines()) for text in take_generators([ANSWER, "print(7)", None, "no program"])] == [4, 1, 1]


def test_inputs_depend_on_the_seed_and_the_run_alone() -> None:
    generators = take_generators([ANSWER])
    made = make_inputs(generators, runs=3, seed=5, limits=SHORT)
    assert made == make_inputs(generators, runs=3, seed=5, limits=SHORT)
    assert len(made.inputs) == len(set(made.inputs)) == 4
    assert made.origins == (0, 0, 0, 1)
    assert [(drop.generator, drop.run, drop.reason_code) for drop in made.dropped] == [(1, 1, "duplicate"), (1, 2,
        "duplicate")]
    assert set(made.inputs[:3]).isdisjoint(make_inputs(generators, runs=3, seed=6, limits=SHORT).inputs[:3])


@pytest.mark.parametrize(("source", "code"), [
    ("raise ValueError('no idea')", "runtime_error"),
    ("import numpy", "runtime_error"),
    ("pass", "empty"),
    ("print('   ')", "empty"),
    ("print('x' * 5000)", "too_large"),
    ("while True: print('x' * 5000)", "too_large"),
    ("while True: pass", "time_limit"),
    ("import sys; sys.stdout.buffer.write(bytes([255, 254]))", "not_text"),
    ("this is no program", "runtime_error"),
    ("from __future__ import annotations\nimport os\nos._exit(3)", "runtime_error"),
])
def test_a_generator_that_gives_no_input_says_why(source: str, code: str) -> None:
    made = make_inputs([source, "from __future__ import annotations\nprint(5)"], max_bytes=1000,
                       limits=Limits(seconds=0.5, total=0.5, output=1001))
    assert made.inputs == ("5\n",)
    assert [drop.reason_code for drop in made.dropped] == [code]


def test_no_more_inputs_than_asked_for_are_made() -> None:
    made = make_inputs(["import random\nprint(random.random())"], runs=5, at_most=2, limits=SHORT)
    assert len(made.inputs) == 2
    assert [drop.reason_code for drop in made.dropped] == ["over_limit"] * 3


# ---- both phases -------------------------------------------------------------------------------------------------

INPUTS: list[str | None] = ["3\n3 1 2\n", "2\n10 9\n", "4\n5 5 1 2\n", "3\n1 2\n", "2\nx y\n", None, "3\n3 1 2\n",
    "1\n4\n"]


def test_correct_programs_remove_what_is_no_test_and_few_tests_catch_all() -> None:
    found = _filter(INPUTS, [SORTS, SORTS_SLOWLY], [AS_TEXT, NO_REPEATS, ECHOES, SORTS])
    reasons = {drop.number: drop.reason_code for drop in found.dropped}
    assert {number: reasons[number] for number in (3, 4, 5, 6)} == {
        3: "correct_fails", 4: "correct_fails", 5: "no_text", 6: "duplicate"}
    assert set(found.inputs) == {INPUTS[1], INPUTS[2]}
    assert dict(zip(found.inputs, found.catch, strict=True)) == {INPUTS[1]: (0, 2), INPUTS[2]: (1, 2)}
    assert (found.caught, found.uncaught, found.correct) == ((0, 1, 2), (3,), 2)
    assert reasons[0] == reasons[7] == "redundant"


def test_programs_that_disagree_make_no_test_unless_most_agree() -> None:
    inputs: list[str | None] = ["3\n3 1 2\n", "2\n10 9\n"]
    unanimous = _filter(inputs, [SORTS, SORTS_SLOWLY, AS_TEXT], [ECHOES])
    assert [drop.reason_code for drop in unanimous.dropped] == ["correct_disagree"]
    assert unanimous.inputs == (inputs[0],)
    majority = _filter(inputs, [AS_TEXT, SORTS, SORTS_SLOWLY], [ECHOES, AS_TEXT], agreement="majority")
    assert majority.inputs == (inputs[1],)
    assert majority.outputs[0].split() == ["9", "10"]


def test_an_official_output_must_be_met() -> None:
    inputs: list[str | None] = ["3\n3 1 2\n", "2\n10 9\n", "2\n1 2\n"]
    found = _filter(inputs, [SORTS], [ECHOES], outputs=["1 2 3", "10 9", None], min_correct=1, at_least=9)
    assert found.inputs == (inputs[0], inputs[2])
    assert [(drop.number, drop.reason_code) for drop in found.dropped] == [(1, "correct_fails")]


def test_programs_that_tell_nothing_are_set_aside() -> None:
    found = _filter(["3\n3 1 2\n", "7\n7 6 5 4 3 2 1\n"], [SORTS, "def (:", SORTS_SLOWLY, "raise OSError", "",
        HAS_A_LIMIT],
                    [ECHOES, "print(", "```python\nunfinished"])
    assert [(drop.which, drop.number, drop.reason_code) for drop in found.programs_dropped] == [
        ("correct", 1, "compile_error"), ("correct", 4, "no_code"), ("incorrect", 1, "compile_error"),
        ("incorrect", 2, "no_code"), ("correct", 3, "always_fails")]
    assert [(drop.number, drop.reason_code) for drop in found.dropped] == [(1, "correct_fails")]
    assert found.caught == (0,)


def test_too_few_correct_programs_decide_nothing() -> None:
    found = _filter(["1\n1\n"], [SORTS, "def (:"], [ECHOES])
    assert (found.inputs, found.dropped, found.correct) == ((), (), 1)


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")
def test_programs_may_be_cpp_and_fenced() -> None:
    found = _filter(["3\n3 1 2\n", "2\n10 9\n"], [SORTS_IN_CPP, f"Here:\n```python\n{SORTS}```\n"],
                    [f"```cpp\n{SORTS_IN_CPP.replace('std::sort(a, a + n);', '')}```", "#include <x>\nint main() {"])
    assert (found.correct, found.caught) == (2, (0,))
    assert [drop.reason_code for drop in found.programs_dropped] == ["compile_error"]


# ---- the ops -----------------------------------------------------------------------------------------------------


def test_the_ops_lead_from_a_response_to_tests_that_verify_code_reads() -> None:
    generator = ("```python\nimport random\nn = random.randint(2, 9)\nprint(n)\n"
                 "print(*(random.randint(-9, 99) for _ in range(n)))\n```\n```python\nprint('1')\n```")
    batch = pl.DataFrame({"generators": [[generator], ["nothing"], [None]], "row_id": [1, 2, 3]})
    made = code_inputs.tests_inputs(batch, InputsParams(runs=4), OpContext(seed=3))
    assert made.height == 3
    assert made["_rejected"].to_list()[1:] == ["no_generator: the responses hold no complete Python code block"] * 2
    assert made.drop("_rejected", "_failed").schema == dict(get_op("tests.inputs").out(InputsParams()))
    assert len(made["inputs"][0]) == 5
    rows = made.head(1).with_columns(correct=pl.lit([SORTS, SORTS_SLOWLY]), incorrect=pl.lit([ECHOES, NO_REPEATS,
        AS_TEXT]))
    context = OpContext()
    kept = code_filter.tests_filter(rows, FilterParams(time_limit=1.0), context)
    assert kept.drop("_rejected", "_failed").schema == dict(get_op("tests.filter").out(FilterParams()))
    tests = kept["tests"][0]
    assert kept["tests_total"][0] == len(json.loads(tests)["inputs"]) == context.counters["tests_kept"]
    assert check_code(SORTS, tests).label == "correct"
    wrong = [ECHOES, NO_REPEATS, AS_TEXT]
    assert all(check_code(wrong[number], tests).label == "incorrect" for number in kept["caught"][0].to_list())
    assert 0 in kept["caught"][0].to_list()


def test_a_row_that_gives_no_test_is_rejected_with_its_reason() -> None:
    rows = pl.DataFrame({"inputs": [["x\n"], [], ["1\n1\n"]], "correct": [[SORTS, SORTS_SLOWLY]] * 2 + [[SORTS]],
                         "incorrect": [[ECHOES]] * 3}, schema_overrides={"inputs": pl.List(pl.String)})
    kept = code_filter.tests_filter(rows, FilterParams(time_limit=1.0), OpContext())
    assert [text.split(":")[0] for text in kept["_rejected"].to_list()] == ["too_few_correct", "no_valid_test",
        "too_few_correct"]
    with pytest.raises(DataError, match="inputs"):
        code_filter.tests_filter(rows.with_columns(inputs=pl.lit(5)), FilterParams(), OpContext())


# ---- real programs -----------------------------------------------------------------------------------------------

_CALLS = """
import json as _json
def _plain(value):
    return sorted(map(repr, value)) if isinstance(value, (set, frozenset)) else list(value) if isinstance(
        value, (tuple, range)) else repr(value)
print(_json.dumps({name}(*_json.loads(input())), default=_plain))
"""


def _problems() -> list[tuple[list[str], list[str], list[str]]]:
    """(inputs, correct programs, wrong programs): MBPP's and EvalPlus' references, and what a 7B model got wrong."""
    files = [DATA / "MbppPlus-v0.1.0.jsonl", DATA / "mbpp.jsonl",
             DATA / "outputs" / "qwen2.5-coder_7b-base_evalplus_mbpp_generated.jsonl",
             DATA / "outputs" / "qwen2.5-coder_7b-base_evalplus_mbpp_generated_eval_results.json"]
    if missing := [path.name for path in files if not path.exists()]:
        pytest.skip(f"needs {missing[0]} beside the repository")
    plus, mbpp, made = ([json.loads(line) for line in path.read_text().splitlines()] for path in files[:3])
    graded = json.loads(files[3].read_text())["eval"]
    references = {f"Mbpp/{row['task_id']}": row["code"] for row in mbpp}
    answers = {row["task_id"]: row["completion"] for row in made}
    found = []
    for row in plus:
        task = row["task_id"]
        if graded[task][0]["base_status"] == "pass" and graded[task][0]["plus_status"] == "fail" and task in references:
            calls = _CALLS.format(name=row["entry_point"])
            programs = [text + calls for text in (row["canonical_solution"], references[task], answers[task])]
            inputs = [json.dumps(given) for given in [*row["base_input"], *row["plus_input"]][-8:]]
            found.append((inputs, programs[:2], programs[2:]))
    return found


def test_a_change_to_any_module_of_the_filter_is_noticed() -> None:
    modules = [path.stem for path in Path(code_filter.__file__).parent.glob("*.py") if path.stem != "__init__"]
    assert {*modules} - {"filter"} <= {name.rpartition(".")[2] for name in get_op("tests.filter").code}


@pytest.mark.parametrize("share", [pytest.param(20, id="sample"), pytest.param(1, id="all",
    marks=pytest.mark.exhaustive)])
def test_few_real_tests_catch_what_all_of_them_catch(share: int) -> None:
    problems = _problems()[::share]
    assert problems
    for inputs, correct, incorrect in problems:
        everything = _filter([*inputs], correct, incorrect, min_correct=1, at_least=len(inputs))
        few = _filter([*inputs], correct, incorrect, min_correct=1)
        assert few.caught == everything.caught
        assert len(few.inputs) <= 1
        for source, wanted in [(correct[0], "correct"), *((incorrect[number], "incorrect") for number in few.caught)]:
            if few.inputs:
                tests = {"type": "stdio", "inputs": few.inputs, "outputs": few.outputs}
                verdict = check_code(source, tests, limits=SHORT)
                assert verdict.label == wanted
