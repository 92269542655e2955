"""The command line keeps its word: exit codes, one block per error, plain text in a pipe, JSON that parses; commands
that only look change nothing."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import polars as pl
import pytest
from shell import RECIPES, Shell, write_odd

from factory.cli import app

FIRST = 1 << 40  # the first row of the first dataset


def sample(house: Shell, where: str) -> int:
    found = house.json("sql", f'SELECT min(row_id) AS id FROM "pico/samples" WHERE row_id IN ({where})')
    return int(found[0]["id"])


def test_run_tells_the_funnel(shell: Shell) -> None:
    """A first run, its report, and a second one that finds everything there."""
    write_odd(shell.folder)
    done = shell.process("run", "odd.yaml", "--trace")
    assert [line.split()[0] for line in done.stderr.splitlines()] == ["1/5", "2/5", "3/5", "4/5", "5/5"]
    lines = done.stdout.splitlines()
    assert [" ".join(line.split()) for line in lines if line.startswith(("samples", "chosen"))] == [
        f"{' '.join(row)} {time} {why}" for row, time, why in (
            (("samples", "6", "2", "2", "2"), _time(lines, "samples"), "failed:not_recorded 2, prompt_missing 2"),
            (("chosen", "2", "1", "1", "0"), _time(lines, "chosen"), "correct.no_answer 1"))]
    assert "problems.jsonl:1" in done.stdout
    again = shell.json("run", "odd.yaml", "--executor", "inline")
    assert (again["status"], again["exit_code"], again["errors"]) == ("succeeded", 0, [])
    assert {step["step"]: step["reused"] for step in again["steps"]} == {
        "problems": True, "samples": True, "correct": True, "chosen": True, "out": False}


def _time(lines: list[str], step: str) -> str:
    return next(line for line in lines if line.startswith(step)).split()[5]


def test_gate_ends_with_3(shell: Shell) -> None:
    write_odd(shell.folder)
    done = shell.process("run", "odd.yaml", "--executor", "inline", "--vars", "least=2", "--quiet", code=3)
    assert done.stderr.count("error: ") == 1
    assert "at least 2 were wanted" in done.stderr
    assert not (shell.folder / "out").exists()
    assert shell.json("run", "odd.yaml", "--executor", "inline", "--vars", "least=2", code=3)["status"] == "stopped"


def test_failure_ends_with_1(shell: Shell) -> None:
    write_odd(shell.folder)
    done = shell("run", "odd.yaml", "--executor", "inline", "--set", "steps.samples.runtime.max_failed=0", code=1)
    assert "max_failed" in done.stderr
    assert "blocked: correct, chosen, out" in done.stdout
    report = shell.json("run", "odd.yaml", "--executor", "inline", "--set", "steps.samples.runtime.max_failed=0",
                        code=1)
    assert [step["status"] for step in report["steps"]] == ["done", "failed", "blocked", "blocked", "blocked"]


@pytest.mark.parametrize("executor", ["inline", "local"])
def test_disk_that_cannot_be_written(shell: Shell, executor: str) -> None:
    """A path below a regular file stops everybody, root too: one line, no traceback."""
    write_odd(shell.folder)
    (shell.folder / "file").write_text("")
    assert "file/house" in shell.error("run", "odd.yaml", "--warehouse", "file/house", code=1)
    done = shell("run", "odd.yaml", "--executor", executor, "--vars", "to=file/out", "--quiet", code=1)
    assert done.stderr.count("error: ") == 1
    assert str(shell.folder / "file") in done.stderr
    assert "file/out" in shell.error("publish", "odd/chosen", "--to", "dir:file/out", code=1)
    assert "file/x.parquet" in shell.error("sql", "SELECT 1", "--parquet", "file/x.parquet", code=1)
    assert shell("run", "odd.yaml", "--executor", executor, "--quiet").stderr == ""


def test_looking_creates_nothing(shell: Shell) -> None:
    shutil.copy(RECIPES / "pico.yaml", shell.folder)
    planned = shell.json("plan", "pico.yaml", "--vars", "count=4")
    assert {step["state"] for step in planned["steps"]} == {"run"}
    assert len({step["fingerprint"] for step in planned["steps"]}) == len(planned["steps"]) == 13
    assert "does not exist yet" in shell("plan", "pico.yaml").stdout
    assert shell.json("plan", "pico.yaml", "--explain", "samples")["state"] == "run"
    shown = shell.json("preview", "pico.yaml", "samples", "-n", "2")
    assert ["<think>" in item["prompt"] and item["answer"] != "" for item in shown] == [True, True]
    assert "User: What is" in shell("preview", "pico.yaml", "samples", "-n", "1").stdout
    shell("ls", code=2)
    assert shell.entries() == ["pico.yaml"]


def test_plan_says_what_changed(house: Shell) -> None:
    before = house.entries()
    same = house.json("plan", "pico.yaml", "--vars", "count=30")
    assert [step["state"] for step in same["steps"]] == ["reuse"] * 12 + ["run"]
    assert same["steps"][1]["ref"] == "pico/samples@1"
    changed = house.json("plan", "pico.yaml", "--vars", "count=30", "--set", "steps.samples.params.n=6",
                         "--explain", "samples")
    assert changed["changes"] == [["params.n", 4, 6]]
    assert "params.n: 4 → 6" in house(
        "plan", "pico.yaml", "--vars", "count=30", "--vars", "n=6", "--explain", "samples").stdout
    assert house.entries() == before


def test_preview_shows_the_answers_of_the_run(house: Shell) -> None:
    shown = house.json("preview", "pico.yaml", "samples", "-n", "3", "--vars", "count=30")
    stored = house.json("sql", 'SELECT response FROM "pico/samples" ORDER BY row_id LIMIT 3')
    assert [item["answer"] for item in shown] == [row["response"] for row in stored]


def test_sql_formats(house: Shell) -> None:
    query = 'SELECT row_id, prompt, license FROM "pico/reasoning", datasets WHERE ref = \'pico/reasoning@1\' ORDER BY 1'
    rows = house.json("sql", query)
    assert len(rows) == house.json("show", "pico/reasoning")["rows"] > 9
    house("sql", query, "--parquet", "q.parquet")
    assert pl.read_parquet(house.folder / "q.parquet").to_dicts() == rows
    table = pl.read_csv(house("sql", query, "--csv").stdout.encode())
    assert table["row_id"].to_list() == [row["row_id"] for row in rows]
    assert json.loads(table["license"][0]) == ["cc0-1.0"]
    assert len(house("sql", query).stdout.splitlines()) == len(rows) + 1
    assert house.json("sql", 'SELECT count(*) AS n FROM "pico/reasoning@1"') == [{"n": len(rows)}]
    assert house.json("sql", "SELECT '\"no@where\"' AS text") == [{"text": '"no@where"'}]


@pytest.mark.parametrize(("query", "words"), [
    ("DELETE FROM datasets", "read-only"), ("CREATE TABLE t AS SELECT 1", "read-only"),
    ("COPY (SELECT 1) TO 'x.csv'", "read-only"), ("ATTACH 'x.db'", "read-only"), ("SET threads=1", "read-only"),
    ("SELECT 1; SELECT 2", "one SQL statement"), ("", "one SQL statement"), ("SELEC 1", "SELEC"),
    ("SELECT * FROM read_text('/etc/hostname')", "/etc/hostname"), ("SELECT * FROM 'pico.yaml'", "pico.yaml"),
    ('SELECT * FROM "pico/reasonin"', "pico/reasoning"), ('SELECT * FROM "pico/reasoning@9"', "has versions [1]"),
    ('SELECT * FROM "pico/reasoning@best"', "no such tag"), ('SELECT * FROM "pico/reasonin@1"', "did you mean"),
    ("SELECT nope FROM datasets", "nope")])
def test_sql_refuses(house: Shell, query: str, words: str) -> None:
    before = house.entries()
    assert words in house.error("sql", query)
    assert house.entries() == before


def test_trace_up_and_down(house: Shell) -> None:
    row = sample(house, "SELECT row_id FROM \"pico/reasoning\"")
    up = house.json("trace", row)
    assert [(hop["depth"], hop["dataset"], hop["role"]) for hop in up] == [
        (0, "pico/samples@1", "prompt"), (1, "pico/problems@1", None)]
    assert up[0]["model"] == "rules"
    assert up[1]["origin"].startswith("arithmetic")
    down = house.json("trace", up[1]["row_id"], "--down")
    assert [hop["depth"] for hop in down] == [0, 1, 1, 1, 1]
    assert row in [hop["row_id"] for hop in down]
    text = house("trace", row).stdout
    assert text.index(str(row)) < text.index(str(up[1]["row_id"]))


def test_why_of_rows_that_stayed_and_went(house: Shell) -> None:
    kept = sample(house, 'SELECT row_id FROM "pico/reasoning"')
    assert [found["kind"] for found in house.json("why", kept)] == ["created", *["scored"] * 7, "kept"]
    gone = sample(house, "SELECT row_id FROM rejections WHERE \"primary\" AND reason_code = 'correct.wrong_answer'")
    found = house.json("why", gone)
    primary = [one["reason_code"] for one in found if one["kind"] == "rejected" and one["primary"]]
    assert primary == ["correct.wrong_answer"]
    assert next(one for one in found if one["step"] == "correct")["measured"]["verdict"] == "incorrect"
    copy = sample(house, "SELECT row_id FROM rejections WHERE \"primary\" AND reason_code = 'copies.duplicate'")
    twin = next(one for one in house.json("why", copy) if one["kind"] == "rejected")["kept_row_id"]
    assert f"(kept: {twin})" in house("why", copy).stdout
    assert "kept" in [one["kind"] for one in house.json("why", twin)]


def test_why_of_prompts_without_answers(house: Shell) -> None:
    """A slot that never became a row is found under its prompt, with what happened to it."""
    ids = [row["row_id"] for row in house.json("sql", 'SELECT row_id FROM "odd/problems" ORDER BY 1')]
    by_row = [[(one["kind"], one["reason_code"], one["measured"].get("slot")) for one in house.json("why", row)
               if one["kind"] != "created"] for row in ids]
    assert by_row == [[], [("failed", "not_recorded", 0), ("failed", "not_recorded", 1)],
                      [("rejected", "prompt_missing", 0), ("rejected", "prompt_missing", 1)]]
    assert "sample 1: not_recorded" in house("why", ids[1]).stdout


def test_text_of_a_model_cannot_steer_the_terminal(house: Shell) -> None:
    """`Shell` refuses control characters in all output; here the data holds them."""
    row = house.json("sql", "SELECT max(row_id) AS id FROM \"odd/samples\"")[0]["id"]
    for words in (("trace", row), ("show", "odd/samples"), ("sql", 'SELECT response FROM "odd/samples"'), ("why", row)):
        assert "\\x1b[2J" in house(*words).stdout or words[0] == "why"


def test_ls_and_show(house: Shell) -> None:
    listed = house.json("ls", "pico/c")
    assert [item["ref"] for item in listed] == [
        f"pico/{name}@1" for name in ("clean.code_blocks", "clean.language", "clean.length", "clean.paragraphs",
                                      "clean.repetition", "copies", "correct")]
    assert "pico/clean.language@1" in house("ls").stdout.split()
    shown = house.json("show", "pico/reasoning@1", "-n", "2")
    counts = shown["counts"]
    assert counts["owed"] == 120 == counts["kept"] + counts["rejected"] + counts["failed"]
    assert len(shown["rows_shown"]) == 2
    assert "prompt" in shown["rows_shown"][0]
    for item in house.json("ls"):
        assert item["ref"] in house("show", item["ref"], "-n", "1").stdout


@pytest.mark.parametrize(("words", "said"), [
    (("show", "pico/reasoning@9"), "has versions [1]"), (("show", "pico/reasonin"), "did you mean pico/reasoning"),
    (("show", "pico/reasoning@best"), "no such tag"), (("show", "a@1@2"), "name@3"),
    (("show", "pico/samples@²"), "no such"),
    (("show", ""), "name@3"), (("trace", 99), "no row 99"), (("why", 99), "no row 99"), (("why", 1 << 90), "no row"),
    (("why", FIRST + 9999), "pico/problems"), (("trace", "x"), "row_id"), (("ls", "--all", "--nope"), "--nope"),
    (("ls", "-w", "nowhere"), "nowhere is not a warehouse"),
    (("sql", "SELECT 1", "-w", "nowhere"), "not a warehouse"),
    (("publish", "pico/reasoning", "--to", "out"), "dir:PATH"), (("publish", "nope", "--to", "dir:out"), "no dataset"),
    (("plan", "pico.yaml", "--explain", "nope"), "there are problems, samples"),
    (("plan", "pico.yaml", "--set", "n"), "key=value"),
    (("plan", "pico.yaml", "--limit", "0"), "--limit"), (("run", "nope.yaml"), "no such recipe"),
    (("run", "."), "directory"),
    (("run", "pico.yaml", "--executor", "x"), "inline or local"), (("run", "pico.yaml", "--workers", "0"), "--workers"),
    (("preview", "pico.yaml", "correct"), "asks no model"), (("preview", "pico.yaml", "smaples"), "samples"),
    (("preview", "pico.yaml", "samples", "-n", "0"), "--rows"), (("apply", "verify.maths", "a", "b"), "verify.math"),
    (("ls", "nope", "--ops"), "nope"), (("frobnicate",), "frobnicate")])
def test_wrong_usage_ends_with_2(house: Shell, words: tuple[object, ...], said: str) -> None:
    assert said in house.error(*words)


def test_processes(house: Shell, tmp_path: Path) -> None:
    """What the tests above see inside one process holds for processes: every command once, well and badly."""
    row = house.json("trace", sample(house, 'SELECT row_id FROM "pico/reasoning"'))[0]["row_id"]
    for words in (("plan", "odd.yaml"), ("preview", "odd.yaml", "samples"), ("sql", "SELECT * FROM dataset_inputs"),
                  ("trace", row), ("why", row), ("ls",), ("show", "pico/reasoning")):
        assert json.loads(house.process(*words, "--json").stdout) == house.json(*words)
    assert json.loads(house.process("schema").stdout)["title"] == "Recipe"
    for words, code in ((("show", "nope"), 2), (("sql", "SELEC"), 2), (("ls", "--nope"), 2), (("trace", 99), 2)):
        said = house.process(*words, code=code)
        assert (said.stdout, "rror: " in said.stderr) == ("", True)


def test_publish(house: Shell, tmp_path: Path) -> None:
    receipt = house.json("publish", "pico/reasoning", "--to", f"dir:{tmp_path / 'out'}")
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    assert house.json("publish", "pico/reasoning@1", "--to", f"dir:{tmp_path / 'out'}") == receipt
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == files
    os.mkdir(tmp_path / "mine")
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    assert "not written by" in house.error("publish", "pico/reasoning", "--to", f"dir:{tmp_path / 'mine'}", code=1)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    assert "no rows of its own" in house.error("publish", "pico/correct", "--to", f"dir:{tmp_path / 'x'}", code=1)

    from datasets import load_dataset

    rows = load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert rows.num_rows == receipt["rows"] == house.json("show", "pico/reasoning")["rows"]
    assert rows[0]["messages"] == [{"role": "user", "content": rows[0]["prompt"]},
                                   {"role": "assistant", "content": rows[0]["response"]}]


def test_every_command_explains_itself(shell: Shell) -> None:
    names = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]
    assert len(names) == 23
    listing = shell("--help").stdout
    for name in names:
        assert f"  {name}" in listing
        text = shell(name, "--help").stdout
        assert f"Example: factory {name}" in text
        assert max(len(line) for line in text.splitlines()) <= 80
    assert shell("--version").stdout.startswith("factory ")
