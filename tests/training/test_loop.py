"""Dataset -> checkpoint -> dataset: real trainings through the engine, and what happens when one dies."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from loop_world import Loop

from warehouse import Warehouse

pytest.importorskip("trl")
pytestmark = pytest.mark.slow


def wait_until(holds: Callable[[], Any], what: str, seconds: float = 120) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = holds()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited in vain for {what}")


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Loop, dict[str, Any]]:
    """The whole loop, run once."""
    made = Loop(tmp_path_factory.mktemp("loop"))
    code, report = made.run()
    assert (code, report["errors"]) == (0, [])
    return made, report


def test_a_checkpoint_knows_its_data_and_its_base(loop: tuple[Loop, dict[str, Any]]) -> None:
    warehouse = Warehouse(loop[0].root)
    sft, grpo = warehouse.checkpoint("loop/sft"), warehouse.checkpoint("loop/grpo")
    assert (sft.base, sft.dataset_ref) == ("nano", "loop/corpus@1")
    assert (grpo.base, grpo.dataset_ref) == ("loop/sft@1", "loop/problems@1")
    assert "config.json" in sft.files
    assert "model.safetensors" in sft.files
    assert sft.files["model.safetensors"] != grpo.files["model.safetensors"]
    assert sft.metrics["rows"] == 48
    assert sft.metrics["rows_too_long"] == 0


def test_a_dataset_knows_the_checkpoint_that_wrote_it(loop: tuple[Loop, dict[str, Any]]) -> None:
    warehouse = Warehouse(loop[0].root)
    assert warehouse.manifest("loop/answers").facts["by_checkpoint"] == "loop/grpo@1"
    assert warehouse.manifest("loop/corpus").facts["by_checkpoint"] is None
    assert warehouse.manifest("loop/check").facts["checkpoint"] == "loop/grpo@1"
    assert warehouse.manifest("loop/before").facts["checkpoint"] == "loop/sft@1"


def test_curves_and_rollouts_are_kept(loop: tuple[Loop, dict[str, Any]]) -> None:
    warehouse = Warehouse(loop[0].root)
    curve = warehouse.dataset("loop/sft").table("curves").collect()
    assert curve["loss"].drop_nulls().len() > 0
    assert curve["step"].max() == 6  # 48 rows, batches of 16, two epochs
    rollouts = warehouse.dataset("loop/grpo").table("rollouts").collect()
    assert rollouts.height == 2 * 2 * 4
    assert rollouts.group_by("step", "prompt_row_id").len()["len"].to_list() == [4] * 4
    weighted = rollouts["accuracy"] + 0.5 * rollouts["format"] + 0.2 * rollouts["language"]
    assert (rollouts["reward"] - weighted).abs().max() < 1e-6
    problems = set(warehouse.dataset("loop/problems").scan().collect()["row_id"])
    assert set(rollouts["prompt_row_id"]) <= problems


def test_an_evaluation_counts_every_problem(loop: tuple[Loop, dict[str, Any]]) -> None:
    found = Warehouse(loop[0].root).manifest("loop/check")
    metrics = found.facts["metrics"]
    assert metrics["problems"] == 6
    assert all(0 <= metrics[name] <= 1 for name in ("accuracy", "sampled", "majority", "format", "sampled_format"))
    table = Warehouse(loop[0].root).dataset("loop/check").table("report").collect()
    assert table.height == 6
    assert table["greedy"].mean() == metrics["accuracy"]


def test_the_second_run_has_nothing_to_do(loop: tuple[Loop, dict[str, Any]]) -> None:
    code, report = loop[0].run()
    assert code == 0
    assert all(step["reused"] for step in report["steps"].values())


def test_the_same_data_in_another_warehouse_is_trained_in_the_same_order(loop: tuple[Loop, dict[str, Any]],
                                                                         tmp_path: Path) -> None:
    again = Loop(tmp_path)
    code, _ = again.run("--until", "sft", "--executor", "inline")
    assert code == 0
    first, second = (Warehouse(one.root).dataset("loop/sft").table("curves").collect() for one in (loop[0], again))
    assert first["loss"].drop_nulls().to_list()[0] == pytest.approx(second["loss"].drop_nulls().to_list()[0], rel=1e-3)


@pytest.mark.parametrize("executor", ["local", "inline"])
def test_a_trainer_that_is_killed_fails_the_run_and_leaves_no_checkpoint(tmp_path: Path, executor: str) -> None:
    world = Loop(tmp_path)
    driver = world.start("--until", "sft", "--executor", executor)
    (trainer,) = wait_until(lambda: world.trainers(driver), "a trainer")
    os.kill(trainer.pid, signal.SIGKILL)
    code, report = world.end(driver)
    assert (code, report["status"], report["steps"]["sft"]["status"]) == (1, "failed", "failed")
    assert "killed by signal 9" in report["errors"][0]
    assert not Warehouse(world.root).checkpoints()
    code, report = world.run("--until", "sft", "--executor", executor)
    assert code == 0
    assert report["steps"]["corpus"]["reused"]
    assert Warehouse(world.root).checkpoint("loop/sft").version == 1


def test_the_error_of_a_trainer_is_the_end_of_its_log(tmp_path: Path) -> None:
    world = Loop(tmp_path, sft={"op": "train.sft", "from": "corpus", "model": "nano", "params": {
        "max_length": 8, "optimizer": {"lr": 1e-3, "batch": 16}}})  # no row is that short
    code, report = world.run("--until", "sft")
    assert code == 1
    assert "The end of its log" in report["errors"][0]
    assert "Error" in report["errors"][0]
    assert not Warehouse(world.root).checkpoints()


def test_too_few_prompts_for_a_step_are_refused(tmp_path: Path) -> None:
    world = Loop(tmp_path, grpo={"op": "train.grpo", "from": "held_out", "model": "nano", "params": {
        "steps": 1, "prompts_per_step": 8, "group": 2, "max_tokens": 8}})
    code, report = world.run("--until", "grpo")
    assert code == 1
    assert "there are 6 prompts" in report["errors"][0]


def test_a_rehearsal_never_becomes_the_latest_checkpoint(tmp_path: Path) -> None:
    """Also GRPO with a reference model, from a model that has no name of its own."""
    world = Loop(tmp_path, grpo={"op": "train.grpo", "from": "problems", "model": "nano", "params": {
        "template": "r1", "steps": 1, "prompts_per_step": 2, "group": 2, "max_tokens": 8, "beta": 0.1}})
    assert world.run("--until", "grpo")[0] == 0
    assert world.run("--until", "grpo", "--limit", "2")[0] == 0
    warehouse = Warehouse(world.root)
    assert [(found.version, found.partial) for found in warehouse.checkpoints("loop/grpo")] == [(1, False), (2, True)]
    assert warehouse.checkpoint("loop/grpo").version == 1
    made_with = warehouse.manifest("loop/grpo@1").facts["made_with"]
    assert (made_with["device"], made_with["computes_in"]) == ("cpu", "float32")
    assert {"torch", "transformers", "trl"} <= set(made_with)


def test_a_driver_that_dies_takes_its_trainer_along(tmp_path: Path) -> None:
    world = Loop(tmp_path)
    driver = world.start("--until", "sft")
    (trainer,) = wait_until(lambda: world.trainers(driver), "a trainer")
    driver.kill()
    driver.communicate()
    wait_until(lambda: not trainer.is_running() or trainer.status() == "zombie", "the trainer's end")
    assert not Warehouse(world.root).checkpoints()
    assert world.run("--until", "sft")[0] == 0


def test_a_stopped_run_goes_on_from_before_the_training(tmp_path: Path) -> None:
    world = Loop(tmp_path)
    driver = world.start("--until", "sft")
    wait_until(lambda: world.trainers(driver), "a trainer")
    driver.send_signal(signal.SIGTERM)
    code, report = world.end(driver)
    assert (code, report["status"], report["errors"]) == (130, "interrupted", [])
    assert report["steps"]["sft"]["status"] == "skipped"
    assert not Warehouse(world.root).checkpoints()
    code, report = world.run("--until", "sft")
    assert code == 0
    assert not report["steps"]["sft"]["reused"]


def test_a_gate_that_is_not_met_stops_what_follows(loop: tuple[Loop, dict[str, Any]]) -> None:
    gate = {"op": "gate.checkpoint", "from": ["check", "before"], "model": "grpo", "params": {"least": 1.01}}
    loop[0].write(gate=gate, after={"op": "generate.sample", "from": "problems", "model": "grpo"})
    try:
        code, report = loop[0].run()
    finally:
        loop[0].write()
    assert (code, report["status"]) == (3, "stopped")
    assert report["steps"]["after"]["status"] == "skipped"
    assert "at least 1.01 was wanted" in report["errors"][0]
