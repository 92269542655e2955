"""The loop as the command line tells it: evaluations as one line, checkpoints side by side, lineage through them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest
import tiny_loop
from shell import Said, Shell
from tiny_loop import after, recipe

from factory.engine import progress
from factory.engine.told import Counter, describe, figures, fold, parts_of
from warehouse.records import StepReport

CHAIN = [("loop/dev@1", "loop.tune", ["loop/chosen@1", "loop/more@1"], "loop/base@1"),
         ("loop/base@1", "loop.tune", ["loop/sums@1"], "nano")]


def write(folder: Path) -> None:
    (folder / "loop.yaml").write_text(json.dumps(recipe(folder)))
    (folder / "after.yaml").write_text(json.dumps(after()))
    shutil.copy(tiny_loop.__file__, folder)


@pytest.fixture(scope="module")
def looped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Shell, Said]:
    """A folder in which the loop was run, then a recipe that goes on from it, and what the first run said."""
    pytest.importorskip("transformers", reason="the extra `train` is not installed")
    shell = Shell(tmp_path_factory.mktemp("loop"))
    write(shell.folder)
    said = shell.process("run", "loop.yaml", "--executor", "inline", "--trace")
    shell.process("run", "after.yaml", "--executor", "inline", "--quiet")
    return shell, said


def line(text: str, name: str) -> list[str]:
    return next(found.split() for found in text.splitlines() if found.split()[:1] == [name])


def test_a_run_tells_checkpoints_and_not_their_parts(looped: tuple[Shell, Said]) -> None:
    shell, said = looped
    assert "_check.greedy" not in said.stderr
    assert "_check.greedy" not in said.stdout.split("\nWhere")[0]
    assert [text.split()[0] for text in said.stderr.splitlines()] == [f"{number}/11" for number in range(1, 12)]
    table = said.stdout.split("\ncheckpoint ")[1].split("\n\n")[0].splitlines()[1:]
    evaluated = {row["checkpoint"]: row["value"] for row in shell.json(
        "sql", "SELECT checkpoint, value FROM evaluations WHERE metric = 'format'")}
    shown = [row.split() for row in table]
    assert [(row[0], row[1], row[5], row[6], " ".join(row[7:])) for row in shown] == [
        ("base", "loop.tune", f"{evaluated['loop/base@1']:.3f}", "1m05s", "sums (3)"),
        ("dev", "loop.tune", f"{evaluated['loop/dev@1']:.3f}", "1m05s", "chosen (6), more (1)")]
    assert line(said.stdout, "gate")[1] == "because"
    assert "passed: loads, renders" in said.stderr
    assert "of 7 kept" not in said.stderr
    assert "2 steps, loss 1.000 → 0.500" in said.stderr


def test_an_example_is_a_row_that_a_checkpoint_wrote(looped: tuple[Shell, Said]) -> None:
    _, said = looped
    example = said.stdout.split("\nWhere a row of loop/chosen@1")[1]
    assert "loop/written@1  by generate.sample with loop/base@1" in example
    assert "loop/base@1: loop.tune on loop/sums@1 (3 rows), from\nrandom weights (nano)" in example


def chain(trained: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(one["checkpoint"], one["op"], [found["ref"] for found in one["datasets"]], one["base"])
            for one in trained]


def test_a_trace_goes_on_through_the_checkpoint(looped: tuple[Shell, Said]) -> None:
    shell, _ = looped
    row = shell.json("sql", 'SELECT row_id FROM "after/written"')[0]["row_id"]
    hops = shell.json("trace", row)
    assert [hop["checkpoint"] for hop in hops] == ["loop/dev@1", None]
    assert [chain(hop["trained"]) for hop in hops] == [CHAIN, []]
    text = shell("trace", row).stdout
    assert "loop/dev@1: loop.tune on loop/chosen@1 (6 rows by loop/base@1), loop/more@1 (1 row), from\n" in text


def test_a_checkpoint_is_traced_by_its_name(looped: tuple[Shell, Said]) -> None:
    shell, _ = looped
    for name in ("loop/dev", "loop/dev@1"):
        assert chain(shell.json("trace", name)) == CHAIN
    assert shell.json("trace", "loop/dev")[0]["datasets"] == [
        {"ref": "loop/chosen@1", "rows": 6, "op": "select.rejection", "writers": ["loop/base@1"]},
        {"ref": "loop/more@1", "rows": 1, "op": "source.files", "writers": []}]
    assert [one["checkpoint"] for one in shell.json("trace", "after/tuned")] == [
        "after/tuned@1", "loop/dev@1", "loop/base@1"]
    text = shell("trace", "after/tuned").stdout
    assert text.index("after/tuned@1:") < text.index("loop/dev@1:") < text.index("loop/base@1:")
    assert "loss 1.000 → 0.500" in text
    for words, said in ((("trace", "loop/nope"), "loop/dev"), (("trace", "loop/dev@7"), "loop/dev@7"),
                        (("trace", "loop/chosen"), "row_id"), (("trace", "loop/dev", "--down"), "row_id")):
        assert said in shell.error(*words)


def test_plain_sql_lists_what_is_behind_a_checkpoint(looped: tuple[Shell, Said],
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    shell, _ = looped
    monkeypatch.chdir(shell.folder / "warehouse-data")
    plain = duckdb.connect()
    plain.execute(Path("catalog/views.sql").read_text())
    behind = {ref: (kind, rows, depth, roles) for ref, kind, _, rows, depth, roles in
              plain.sql("SELECT * FROM behind('after/tuned')").fetchall()}
    assert behind == {
        "after/written@1": ("rows", 1, 1, ["trained on"]), "after/more@1": ("rows", 1, 2, ["from"]),
        "loop/dev@1": ("checkpoint", None, 1, ["base", "model"]), "loop/chosen@1": ("selection", 6, 2, ["trained on"]),
        "loop/more@1": ("rows", 1, 2, ["trained on"]), "loop/base@1": ("checkpoint", None, 2, ["base", "model"]),
        "loop/length@1": ("scores", 6, 3, ["where"]), "loop/written@1": ("rows", 6, 3, ["from"]),
        "loop/sums@1": ("rows", 3, 3, ["from", "trained on"])}
    assert plain.sql("SELECT ref FROM behind('loop/base@1')").fetchall() == [("loop/sums@1",)]
    assert plain.sql("SELECT ref, op, dataset_refs, passed FROM checkpoints ORDER BY ref").fetchall() == [
        ("after/tuned@1", "loop.tune", ["after/written@1"], None), ("loop/base@1", "loop.tune", ["loop/sums@1"], None),
        ("loop/dev@1", "loop.tune", ["loop/chosen@1", "loop/more@1"], True)]
    assert plain.sql("SELECT DISTINCT step, checkpoint, dataset_ref FROM evaluations ORDER BY 1").fetchall() == [
        ("base_check", "loop/base@1", "loop/sums@1"), ("dev_check", "loop/dev@1", "loop/sums@1")]
    mean, = plain.sql("SELECT avg(greedy::INT) FROM \"loop/dev_check\"").fetchall()[0]
    assert plain.sql("SELECT value FROM evaluations WHERE step = 'dev_check' AND metric = 'accuracy'"
                     ).fetchall() == [(mean,)]


def test_show_and_ls_of_what_holds_no_rows(looped: tuple[Shell, Said]) -> None:
    shell, _ = looped
    for name, words in (("dev", "factory trace loop/dev@1"), ("dev_check", "3 rows (report)"),
                        ("gate", "passed: loads")):
        text = shell("show", f"loop/{name}").stdout
        assert words in text
        assert "slots" not in text
    listed = shell("ls", "loop/").stdout
    assert "evaluate.summary: accuracy" in listed
    assert "gate.checkpoint: passed" in listed
    assert shell.json("show", "loop/dev_check")["rows"] == 3


def test_many_steps_that_never_began_are_counted(shell: Shell) -> None:
    problems = {"op": "source.files", "params": {"paths": ["sums.jsonl"]}}
    steps = {"sums": problems, "asked": {"op": "generate.sample", "from": "sums", "model": "none"},
             **{f"length_{n}": {"op": "filter.length", "from": "asked"} for n in range(9)}}
    (shell.folder / "answers.jsonl").write_text("")
    models = {"none": {"replay": {"answers": "answers.jsonl"}}}
    whole = {**recipe(shell.folder), "recipe": "many", "plugins": [], "models": models, "steps": steps}
    (shell.folder / "many.json").write_text(json.dumps(whole))
    said = shell("run", "many.json", "--executor", "inline", code=1)
    assert "blocked: length_0, length_1, length_2, length_3, length_4, length_5, … and 3 more" in said.stdout
    assert [text.split()[1] for text in said.stderr.splitlines() if "/11 " in text] == ["sums", "asked"]
    assert "9 of 11 steps were not begun" in said.stderr


def report(step: str, status: str = "done", **fields: Any) -> StepReport:
    return StepReport(step=step, op="test.op", status=status, **fields)


def test_parts_of_a_report_are_one_step() -> None:
    kinds = {"a": "source", "x.greedy": "expand", "x.greedy.correct": "score", "x": "report", "y.part": "score",
             "y": "select", "xy": "score"}
    parts = parts_of(kinds)
    assert parts == {"x.greedy": "x", "x.greedy.correct": "x"}
    whole = report("x", kind="report", reused=True, seconds=1.0, facts={"metrics": {}})
    greedy = report("x.greedy", seconds=2.0)
    assert [(one.step, one.seconds, one.reused) for one in fold([report("a"), greedy, whole], parts)] == [
        ("a", 0.0, False), ("x", 3.0, False)]
    broken = [report("x.greedy", "failed", error="no"), report("x.greedy.correct", "blocked"), report("x", "blocked")]
    assert [one.step for one in fold(broken, parts)] == ["x.greedy", "x"]
    count = Counter(list(kinds), parts)
    told = [count.ended(one) for one in (report("a"), *broken)]
    assert [one.step if one else None for one in told] == ["a", "x.greedy", None, None]
    assert (count.total, count.number, count.never) == (5, 2, 1)


@pytest.mark.parametrize(("metrics", "said"), [
    ({"loss": 0.28162, "steps": 678.0, "rows": 7200.0, "rows_too_long": 0.0, "seconds": 14.2}, "678 steps, loss 0.282"),
    ({"steps": 60.0, "reward_first": 0.607, "reward_last": 0.8068, "seconds": 6.5}, "60 steps, reward 0.607 → 0.807"),
    ({"loss": float("nan"), "rows_too_long": 3.0}, "loss nan, rows_too_long 3"), ({"kl": 0.00002}, "kl 2e-05"),
    ({"accuracy": 1.0}, "accuracy 1.000"), ({"reward_first": 0.5}, "reward_first 0.500"), ({}, "")])
def test_figures(metrics: dict[str, float], said: str) -> None:
    assert figures(metrics) == said
    assert describe(report("t", kind="checkpoint", facts={"metrics": metrics})) == said


def test_a_training_says_how_far_it_is(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PLAIN_EVERY_SECONDS", 0.0)
    told = progress.make_progress(["a", "dev2"])
    told.step_ended(report("a"))
    told.step_started("dev2", "train.grpo", progress.Size(1, "shards", 1))
    told.event({"done": 38, "total": 60, "unit": "steps", "said": "reward 0.69"})
    told.event({"done": 40, "total": 60, "unit": "steps", "said": "reward 0.71"})
    first, second = [text for text in capsys.readouterr().err.splitlines() if text.startswith("2/2 dev2: ")]
    assert "38/60 steps" in first
    assert "40/60 steps" in second
    assert second.endswith("reward 0.71")  # two words tell no pace
