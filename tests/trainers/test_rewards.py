"""What the R1 tutorials print, as the trainers compute it: the published template, the four answers to
"What is 2 + 3 * 4?", their totals, and a group's advantages."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.engine.prompts import fill, parse, read_template
from factory.training.settings import GrpoParams
from trainers.rewards import Rollouts, advantages, named_rewards, total

QUESTION = "What is 2 + 3 * 4?"
ROW = {"row_id": 1, "question": QUESTION, "answer": "14", "prefill": ""}
O1 = "<think> First I add: 2 + 3 = 5. Then I multiply: 5 * 4 = 20. </think> <answer> 20 </answer>"
O2 = "<think> First I multiply: 3 * 4 = 12. Then I add: 2 + 12 = 14. </think> <answer> 14 </answer>"
O3 = "The product comes first, so the result is: <answer> 14 </answer>"
O4 = "<think> purple monkey seventeen cake </think> <answer> dishwasher </answer>"


def params(**rewards: float) -> GrpoParams:
    return GrpoParams(rewards=rewards, steps=1, target="en")  # type: ignore[arg-type]


def test_the_template_of_r1_zero_is_the_published_one() -> None:
    published = (
        "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. The "
        "assistant first thinks about the reasoning process in the mind and then provides the user with the answer. "
        "The reasoning process and answer are enclosed within <think> </think> and <answer> </answer> tags, "
        "respectively, i.e., <think> reasoning process here </think> <answer> answer here </answer>. User: {prompt}. "
        "Assistant:")
    template = parse(read_template("r1_zero", Path()))
    assert template.prompt == published
    assert template.prefill == ""
    assert fill(published, {"prompt": QUESTION}).endswith("User: What is 2 + 3 * 4?. Assistant:")


def test_accuracy_and_format_of_the_four_answers() -> None:
    rewards = named_rewards(params(accuracy=1.0, format=0.1))
    assert [rewards["accuracy"](answer, ROW) for answer in (O1, O2, O3, O4)] == [0, 1, 1, 0]
    assert [0.1 * rewards["format"](answer, ROW) for answer in (O1, O2, O3, O4)] == [0.1, 0.1, 0, 0.1]
    totals = [total(answer, ROW, params(accuracy=1.0, format=0.1)) for answer in (O1, O2, O3, O4)]
    assert totals == pytest.approx([0.1, 1.1, 1.0, 0.1])


def test_totals_with_the_language_reward() -> None:
    wanted = params(accuracy=1.0, language=0.2)
    assert [total(answer, ROW, wanted) for answer in (O1, O2)] == pytest.approx([0.2, 1.2])
    chinese = "<think> 先算乘法: 3 * 4 = 12. 再算加法: 2 + 12 = 14. </think> <answer> 14 </answer>"
    assert total(chinese, ROW, wanted) == pytest.approx(1.0)
    half = "<think> I multiply 先算 3 * 4 = 12. </think> <answer> 14 </answer>"
    assert 1.0 < total(half, ROW, wanted) < 1.2


def test_advantages_of_a_group_before_and_after_scaling() -> None:
    group = [0.9, 0.5, 0.9, 0.5]
    assert advantages(group, scale=False) == pytest.approx([0.2, -0.2, 0.2, -0.2])
    spread = (4 * 0.04 / 3) ** 0.5
    assert advantages(group) == pytest.approx([sign * 0.2 / (spread + 1e-4) for sign in (1, -1, 1, -1)])
    assert advantages([0.7] * 5) == pytest.approx([0.0] * 5)


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=64))
def test_advantages_are_centred_and_keep_the_order_of_rewards(rewards: list[float]) -> None:
    for scale in (True, False):
        found = advantages(rewards, scale=scale)
        assert abs(sum(found)) < 1e-6 * max(1.0, *map(abs, found)) * len(found)
        order = sorted(range(len(rewards)), key=lambda index: rewards[index])
        assert all(found[low] <= found[high] + 1e-9 for low, high in itertools.pairwise(order))


def test_advantages_are_those_that_the_trainer_computes() -> None:
    """TRL's own arithmetic for one group, read from its source of truth: torch's mean and unbiased std."""
    torch = pytest.importorskip("torch")
    rewards = torch.tensor([0.1, 1.1, 1.0, 0.1])
    expected = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
    assert advantages(rewards.tolist()) == pytest.approx(expected.tolist(), abs=1e-5)


@pytest.mark.parametrize("answer", ["", "<think>", "</answer>", "\x00" * 50, "<answer>9**9**9</answer>",
                                    "<think> " * 900, "<answer> 14", "\\boxed{14}", "答案是14"])
def test_a_hostile_answer_costs_a_reward_and_nothing_else(answer: str) -> None:
    found = {name: reward(answer, ROW)
             for name, reward in named_rewards(params(accuracy=1.0, format=1.0, language=1.0)).items()}
    assert all(0.0 <= value <= 1.0 for value in found.values())
    assert found["format"] == 0.0


def test_an_answer_without_a_readable_reference_earns_nothing() -> None:
    assert named_rewards(params(accuracy=1.0))["accuracy"](O2, {**ROW, "answer": "  "}) == 0.0


def test_gym_problems_are_rewarded_by_their_own_scorer() -> None:
    gym = pytest.importorskip("reasoning_gym")
    import json

    item = gym.create_dataset("basic_arithmetic", size=1, seed=3)[0]
    row = {**ROW, "entry": json.dumps(item, default=str), "task": "basic_arithmetic"}
    reward = named_rewards(GrpoParams(rewards={"accuracy": 1.0}, verifier="gym", steps=1))["accuracy"]
    assert reward(f"<think> easy </think> <answer> {item['answer']} </answer>", row) == 1.0
    assert reward("<think> hard </think> <answer> -123456 </answer>", row) == 0.0


def test_every_rollout_is_kept_with_its_rewards(tmp_path: Path) -> None:
    class State:
        global_step = 4

    rollouts = Rollouts(params(accuracy=1.0, format=0.1), tmp_path)
    columns: dict[str, Any] = {name: [value] * 4 for name, value in ROW.items()}
    for function in rollouts.functions():
        function(prompts=[QUESTION] * 4, completions=[O1, O2, O3, O4], completion_ids=[[1] * 9] * 4,
                 trainer_state=State(), **columns)
    assert [row["reward"] for row in rollouts.rows] == pytest.approx([0.1, 1.1, 1.0, 0.1])
    assert [(row["accuracy"], row["format"]) for row in rollouts.rows] == [(0, 1), (1, 1), (1, 0), (0, 1)]
    assert {(row["step"], row["prompt_row_id"], row["tokens"]) for row in rollouts.rows} == {(5, 1, 9)}
    assert [row["response"] for row in rollouts.rows] == [O1, O2, O3, O4]
    rollouts.close()
    assert pl.read_parquet(tmp_path / "rollouts.parquet")["response"].to_list() == [O1, O2, O3, O4]


def test_an_answer_without_a_word_earns_nothing_for_its_language() -> None:
    assert named_rewards(params(language=1.0))["language"]("<think> 2 3 4 </think> <answer> 9 </answer>", ROW) == 0.0


def test_a_prefill_is_part_of_the_answer_that_is_judged(tmp_path: Path) -> None:
    class State:
        global_step = 0

    rollouts = Rollouts(params(format=1.0), tmp_path)
    (function,) = rollouts.functions()
    columns = {name: [value] for name, value in {**ROW, "prefill": "<think>"}.items()}
    values = function(prompts=[QUESTION], completions=[O2.removeprefix("<think>")], trainer_state=State(), **columns)
    assert values == [1.0]
