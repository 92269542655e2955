"""verify.gym: the task's own scorer decides, the answer is found fairly, and nothing a model writes is run as code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from factory.engine.op import SCORE_SCHEMA, OpContext, get_op
from factory.engine.trial import try_op
from factory.verifiers.gym import GymParams, check_gym, check_gym_many, take_gym_answer, verify_gym
from factory.verifiers.gym_trials import GYM_TRIALS

reasoning_gym = pytest.importorskip("reasoning_gym", reason="needs the extra `gym`")

TASKS = ["basic_arithmetic", "chain_sum", "leg_counting", "gcd", "fraction_simplification", "countdown", "word_sorting",
         "spell_backward", "number_sorting", "knights_knaves", "simple_equations", "letter_counting", "mini_sudoku",
         "polynomial_multiplication", "sentence_reordering"]


def _items(task: str, count: int = 3) -> list[dict[str, Any]]:
    data = reasoning_gym.create_dataset(task, size=count, seed=11)
    return [data[i] for i in range(count)]


@pytest.mark.parametrize("task", TASKS)
def test_every_task_accepts_its_own_answer_in_each_form(task: str) -> None:
    for item in _items(task):
        gold, entry = item["answer"], json.dumps(item)
        for response in (f"<think>hm</think><answer>{gold}</answer>", rf"So \boxed{{{gold}}}", f"First.\n\n{gold}"):
            verdict = check_gym(response, entry, task, seconds=60)
            assert (verdict.label, verdict.score) == ("correct", 1.0), (response, verdict)


@pytest.mark.parametrize("task", [task for task in TASKS if task != "countdown"])
def test_every_task_refuses_the_answer_to_another_item(task: str) -> None:
    first, *others = _items(task, 12)
    other = next(item for item in others if item["answer"] != first["answer"])
    verdict = check_gym(f"<answer>{other['answer']}</answer>", json.dumps(first), task, seconds=60)
    assert (verdict.label, verdict.reason_code) == ("incorrect", "below_threshold")


@pytest.mark.parametrize(("response", "gold", "taken"), [
    ("5 - 3 - 6 = -4.", "-4", "-4"),
    ("We have 6-4, so the result is **2**", "2", "2"),
    ("That makes $1,234.00 in all.", "7", "1234"),
    ("The answer is −7", "3", "-7"),
    ("<think>12</think>It is 3.50", "1", "3.5"),
    ("<answer>x = 5</answer> 6", "1", "5"),
    ("<answer>between 5 and 6</answer>", "1", "between 5 and 6"),
    (r"It is \frac{3}{4}.", "1/2", "3/4"),
    ("The word spelled backward is **ainomma**.", "olleh", "ainomma"),
    ("The answer is cat, of course", "dog", "cat"),
    ("The answer is 94*4 - 61 - 6.", "1 + 2", "94*4 - 61 - 6"),
    ("x**3 is\n2*x**3 + 1", "x + 1", "2*x**3 + 1"),
    ("Here:\n```\n1 2\n3 4\n```\nDone.", "5 6\n7 8", "1 2\n3 4"),
    ("Let me see.\n\n1 2\n3 4", "5 6\n7 8", "1 2\n3 4"),
    ("<think>5", "5", None),
    ("   ", "5", None),
    ("none at all", "5", None),
])
def test_the_answer_is_found_by_the_form_of_the_reference(response: str, gold: str, taken: str | None) -> None:
    assert take_gym_answer(response, gold) == taken


def test_the_scorers_value_is_kept_and_the_threshold_decides() -> None:
    item = _items("mini_sudoku", 1)[0]
    wrong = item["answer"][:-1] + str(int(item["answer"][-1]) % 4 + 1)
    batch = pl.DataFrame({"response": [f"<answer>{wrong}</answer>"], "entry": [json.dumps(item)],
                          "task": ["mini_sudoku"]})
    strict = verify_gym(batch, GymParams(deadline=60), OpContext())
    loose = verify_gym(batch, GymParams(deadline=60, threshold=0.5), OpContext())
    assert dict(strict.schema) == {**SCORE_SCHEMA, "extracted": pl.String()}
    assert strict["passed"].to_list() == [False]
    assert loose["passed"].to_list() == [True]
    assert 0.5 < strict["score"][0] == loose["score"][0] < 1.0


def test_an_unknown_task_and_a_bad_entry_are_undecided() -> None:
    entry = json.dumps(_items("gcd", 1)[0])
    verdict = check_gym("5", entry, "no_such_task", seconds=60)
    assert (verdict.label, verdict.reason_code) == ("undecided", "unknown_task")
    blank, number = (json.dumps({**_items("gcd", 1)[0], "answer": answer}) for answer in ("  ", 4))
    bad = ["", None, "[1]", "{}", "not JSON", blank, number]
    verdicts = check_gym_many([("4", each) for each in [*bad, entry]], "gcd", seconds=60)
    assert [(each.label, each.reason_code) for each in verdicts[:-1]] == [("undecided", "gold_unparseable")] * len(bad)
    assert verdicts[-1].label == "incorrect"  # its neighbours' entries do not move it


def test_a_reference_that_its_own_scorer_refuses_is_undecided() -> None:
    item = {**_items("countdown", 1)[0], "answer": "1 + 1"}
    for response in ("<answer>2 + 2</answer>", f"<answer>{_items('countdown', 1)[0]['answer']}</answer>", "", None):
        verdict = check_gym(response, json.dumps(item), "countdown", seconds=60)
        assert (verdict.label, verdict.reason_code) == ("undecided", "gold_refused")


def test_scorers_that_compare_tuples_survive_json() -> None:
    item = _items("arc_agi", 1)[0]
    assert check_gym(f"<answer>{item['answer']}</answer>", json.dumps(item), "arc_agi", seconds=60).label == "correct"


@pytest.mark.parametrize("task", ["countdown", "polynomial_multiplication", "string_insertion", "simple_integration"])
def test_answers_are_never_run_as_code(task: str, tmp_path: Path) -> None:
    entry, mark = json.dumps(_items(task, 1)[0]), tmp_path / "run"
    for attack in (f"open('{mark}', 'w')", f"[open][0]('{mark}', 'w')", f"__import__('os').mkdir('{mark}')",
                   f"S(\"open('{mark}', 'w')\")", f"(open)('{mark}', 'w')", f"exec(\"open('{mark}', 'w')\")",
                   f"[f'{{open(\"{mark}\", \"w\")}}']", f"(1).numerator + open('{mark}','w')",
                   f"\"open('{mark}', 'w')\"", f"\"open%c'{mark}', 'w')\" % 40", f"\"open\\x28'{mark}', 'w'\\x29\""):
        verdict = check_gym(f"<answer>{attack}</answer>", entry, task, seconds=60)
        assert verdict.label == "incorrect"
    assert not mark.exists()


def test_an_answer_that_never_ends_fails_its_own_row() -> None:
    item = _items("countdown", 1)[0]
    rows = {"response": ["<answer>9**9**9**9</answer>", f"<answer>{item['answer']}</answer>"],
            "entry": [json.dumps(item)] * 2, "task": ["countdown"] * 2}
    table = verify_gym(pl.DataFrame(rows), GymParams(deadline=2), OpContext())
    assert table["passed"].to_list()[1] is True
    assert table["passed"].to_list()[0] is not True


@pytest.mark.parametrize("threshold", [1.0, 0.5, 0.02])
def test_its_trials_pass_at_every_threshold(threshold: float) -> None:
    """The scores that are told of the wrong answers are those that the scorers give."""
    tried = try_op(get_op("verify.gym"), GymParams(threshold=threshold, deadline=60))
    assert (tried.accepted, tried.refused, tried.failed) == (tried.golds, tried.mutants, 0)
    for task, item, wrong, score in GYM_TRIALS:
        verdict = check_gym(f"<answer>{wrong}</answer>", json.dumps(item), seconds=60)
        assert verdict.score == pytest.approx(score), task


def test_a_batch_says_what_single_calls_say() -> None:
    items = [_items(task, 1)[0] for task in ("gcd", "countdown", "chain_sum")]
    responses = [f"<answer>{item['answer']}</answer>" for item in items] + ["<answer>1</answer>", None, "<think>"]
    pairs = list(zip(responses, (json.dumps(item) for item in (*items, *items)), strict=True))
    tasks = ["gcd", "countdown", "chain_sum"] * 2
    assert check_gym_many(pairs, tasks, seconds=60) == [
        check_gym(*pair, task, seconds=60) for pair, task in zip(pairs, tasks, strict=True)]
