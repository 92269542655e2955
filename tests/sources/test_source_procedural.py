"""`source.procedural`: the same problems in every process, each split alone, and configs refused by name."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.engine.errors import DataError, MissingExtraError
from factory.engine.op import PlanContext, Record
from factory.sources.arithmetic import ArithmeticConfig, make_item
from factory.sources.procedural import SCHEMA, ProceduralParams, ProceduralSource

ONE_DIGIT = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}


def run(tasks: list[dict[str, Any]], shard_rows: int = 2048, limit: int | None = None,
        backwards: bool = False) -> tuple[Any, list[Record]]:
    params = ProceduralParams.model_validate({"tasks": tasks})
    plan = ProceduralSource(shard_rows).plan(params, PlanContext(Path.cwd(), limit=limit))
    assert dict(plan.schema) == SCHEMA
    splits = json.loads(json.dumps(plan.splits))
    order = splits[::-1] if backwards else splits
    parts = [list(ProceduralSource().read(split, params)) for split in order]
    return plan.identity, [record for part in (parts[::-1] if backwards else parts) for record in part]


def evaluate(node: ast.AST) -> int:
    """The value of an expression tree, by Python's own parser."""
    if isinstance(node, ast.BinOp):
        left, right = evaluate(node.left), evaluate(node.right)
        return {ast.Add: left + right, ast.Sub: left - right, ast.Mult: left * right}[type(node.op)]
    assert isinstance(node, ast.Constant)
    return int(node.value)


CONFIGS = st.builds(ArithmeticConfig, digits=st.integers(1, 18), terms=st.integers(2, 16),
                    operators=st.lists(st.sampled_from("+-*"), min_size=1, unique=True).map(tuple))


@given(config=CONFIGS, seed=st.integers(), data=st.data())
def test_sums_are_right_and_made_as_configured(config: ArithmeticConfig, seed: int, data: st.DataObject) -> None:
    item = make_item(config, seed, data.draw(st.integers(0, config.distinct - 1)))
    expression = item["metadata"]["expression"]
    assert item["question"] == f"What is {expression}?"
    assert int(item["answer"]) == evaluate(ast.parse(expression, mode="eval").body)
    parts = expression.split(" ")
    assert len(parts) == 2 * config.terms - 1
    assert all(0 <= int(number) < 10**config.digits for number in parts[::2])
    assert set(parts[1::2]) <= set(config.operators)


@settings(max_examples=15)
@given(seed=st.integers(), operators=st.sampled_from([("+",), ("+", "-"), ("+", "-", "*")]))
def test_a_seed_reaches_every_sum_once(seed: int, operators: tuple[Any, ...]) -> None:
    config = ArithmeticConfig(operators=operators)
    made = {make_item(config, seed, index)["question"] for index in range(config.distinct)}
    assert len(made) == config.distinct == 100 * len(operators)


def test_digits_of_long_sums_are_spread_evenly() -> None:
    config = ArithmeticConfig(digits=18, terms=16)
    numbers = [int(number) for index in range(50)
               for number in make_item(config, 1, index)["metadata"]["expression"].split(" ")[::2]]
    assert 0.4 < sum(numbers) / len(numbers) / 10**18 < 0.6


def test_arithmetic_records() -> None:
    identity, records = run([{"task": "arithmetic", "count": 5, "seed": 3, "config": {"form": "{expression} = ?"}}])
    assert identity["reasoning-gym"] is None
    assert [record.line for record in records] == [1, 2, 3, 4, 5]
    for record in records:
        assert record.values is not None
        entry = json.loads(record.values["entry"])
        assert record.values["verifier"] == "math"
        assert entry["question"] == record.values["prompt"] == f"{entry['metadata']['expression']} = ?"
        assert entry["answer"] == record.values["answer"]
    assert run([{"task": "arithmetic", "count": 5, "seed": 4}])[1][0].values != records[0].values


def test_a_task_without_a_seed_takes_the_steps() -> None:
    params = ProceduralParams.model_validate({"tasks": [{"task": "arithmetic", "count": 5}]})
    plan = ProceduralSource().plan(params, PlanContext(Path.cwd(), seed=4))
    identity, records = run([{"task": "arithmetic", "count": 5, "seed": 4}])
    assert plan.identity == identity
    assert list(ProceduralSource().read(plan.splits[0], params)) == records


@pytest.mark.parametrize(("config", "count", "needles"), [
    ({}, 301, ["301 problems are wanted", "only 300"]),
    ({"digit": 2}, 1, ["config.digit", "did you mean 'digits'"]),
    ({"operators": ["/"]}, 1, ["config.operators.0"]),
    ({"operators": []}, 1, ["config.operators"]),
    ({"operators": [["+"], ["*"]]}, 1, ["config.operators", "2 lists for 1 gaps"]),
    ({"operators": [["+"], []], "terms": 3}, 1, ["config.operators", "no operator"]),
    ({"digits": [1, 2, 3]}, 1, ["config.digits", "3 figures for 2 terms"]),
    ({"digits": [1, 0]}, 1, ["config.digits.1"]),
    ({"operators": ["+", "+"]}, 1, ["config.operators", "twice"]),
    ({"form": "What?"}, 1, ["config.form", "{expression}"]),
    ({"terms": 1}, 1, ["config.terms"]),
])
def test_wrong_arithmetic_configs(config: dict[str, Any], count: int, needles: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        run([{"task": "arithmetic", "count": count, "config": config}])
    for needle in ["task 'arithmetic'", *needles]:
        assert needle in str(caught.value)


def test_a_gym_task_without_the_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(MissingExtraError, match="gym"):
        run([{"task": "gsm_symbolic", "count": 1}])


class TestGym:
    """With reasoning-gym installed."""

    @pytest.fixture(autouse=True)
    def _library(self) -> None:
        pytest.importorskip("reasoning_gym")

    def test_each_split_is_made_alone_and_in_any_order(self) -> None:
        tasks = [{"task": "gsm_symbolic", "count": 25, "seed": 3},
                 {"task": "basic_arithmetic", "count": 10, "seed": 3, "config": ONE_DIGIT},
                 {"task": "arithmetic", "count": 9}]
        identity, whole = run(tasks)
        for backwards in (False, True):
            again, cut = run(tasks, shard_rows=4, backwards=backwards)
            assert cut == whole
            assert again == identity
        assert [record.line for record in whole] == [*range(1, 26), *range(1, 11), *range(1, 10)]
        limited, first = run(tasks, limit=28, shard_rows=4)
        assert first == whole[:28]
        assert limited == {**identity, "limit": 28}

    def test_other_processes_make_the_same(self) -> None:
        tasks = [{"task": "gsm_symbolic", "count": 60, "seed": 1},
                 {"task": "basic_arithmetic", "count": 60, "seed": 1, "config": ONE_DIGIT}]
        here = [record.values for record in run(tasks)[1]]
        code = ("import json, sys\nfrom pathlib import Path\nfrom factory.engine.op import PlanContext\n"
                "from factory.sources.procedural import *\n"
                "params = ProceduralParams.model_validate({'tasks': json.loads(sys.argv[1])})\n"
                "source = ProceduralSource()\n"
                "plan = source.plan(params, PlanContext(Path()))\n"
                "print(json.dumps([r.values for split in plan.splits for r in source.read(split, params)]))")
        done = subprocess.run([sys.executable, "-c", code, json.dumps(tasks)], capture_output=True, text=True,
                              check=True, env={**os.environ, "PYTHONHASHSEED": "77"}, cwd=Path(__file__).parents[2])
        assert json.loads(done.stdout) == here

    def test_the_library_scores_its_own_answers_from_the_entry(self) -> None:
        from reasoning_gym import get_score_answer_fn

        _, records = run([{"task": name, "count": 20} for name in ("gsm_symbolic", "basic_arithmetic", "countdown")])
        for record in records:
            assert record.values is not None, record.failed
            assert record.values["verifier"] == "gym"
            score = get_score_answer_fn(record.values["task"])
            assert score(record.values["answer"], json.loads(record.values["entry"])) == 1.0
            assert list(json.loads(record.values["entry"])) == ["answer", "metadata", "question"]

    @pytest.mark.parametrize(("task", "config", "needles"), [
        ("gsm_symbolik", {}, ["unknown task 'gsm_symbolik'", "did you mean 'gsm_symbolic'"]),
        ("aritmetic", {}, ["did you mean 'arithmetic'"]),
        ("basic_arithmetic", {"min_term": 1}, ["no config field 'min_term'", "did you mean 'min_terms'"]),
        ("basic_arithmetic", {"min_terms": 0}, ["basic_arithmetic", "min_terms must be positive"]),
        ("basic_arithmetic", {"min_terms": "x"}, ["basic_arithmetic", '"min_terms": "x"']),
        ("basic_arithmetic", {"size": 5}, ["config.size", "`count`"]),
        ("word_ladder", {}, ["word_ladder", "every process"]),
        ("composite", {}, ["composite", "tasks"]),
    ])
    def test_wrong_tasks_and_configs(self, task: str, config: dict[str, Any], needles: list[str]) -> None:
        with pytest.raises(DataError) as caught:
            run([{"task": task, "count": 2, "config": config}])
        for needle in needles:
            assert needle in str(caught.value)


def test_operators_and_digits_can_be_given_for_each_place() -> None:
    config = {"terms": 3, "digits": [1, 2, 1], "operators": [["+", "-"], ["*"]]}
    _, records = run([{"task": "arithmetic", "count": 400, "config": config}])
    expressions = [record.values["prompt"][8:-1].split() for record in records if record.values]
    assert {(left, right) for _, left, _, right, _ in expressions} == {("+", "*"), ("-", "*")}
    assert max(int(one) for one, *_ in expressions) == 9
    assert max(int(two) for _, _, two, _, _ in expressions) > 90


@pytest.mark.parametrize("task", ["arithmetic", "basic_arithmetic"])
def test_splits_of_one_seed_are_cut_from_the_same_items(task: str) -> None:
    if task != "arithmetic":
        pytest.importorskip("reasoning_gym")
    _, whole = run([{"task": task, "count": 60, "seed": 9}])
    _, first = run([{"task": task, "count": 40, "seed": 9}])
    _, rest = run([{"task": task, "count": 20, "start": 40, "seed": 9}])
    assert [record.values for record in [*first, *rest]] == [record.values for record in whole]
