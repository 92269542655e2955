"""`factory preview` shows what a run would ask and get and say of it, and leaves no trace."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from typing import Any

import pytest
import tiny_loop
from shell import Shell, write_odd
from tiny_loop import recipe

ROWS = 10
JUDGES = ("correct", "form", "clean.length", "clean.repetition")


@pytest.fixture(scope="module")
def shown(house: Shell) -> list[dict[str, Any]]:
    before = house.entries()
    found: list[dict[str, Any]] = house.json("preview", "pico.yaml", "samples", "-n", ROWS, "--vars", "count=30")
    assert house.entries() == before
    return found


def stored(house: Shell, query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = house.json("sql", f"{query} ORDER BY row_id LIMIT {ROWS}")
    return found


@pytest.mark.parametrize("step", JUDGES)
def test_it_says_what_the_steps_that_judge_have_said(house: Shell, shown: list[dict[str, Any]], step: str) -> None:
    columns = ("passed", "label", "score", "reason_code", "reason")
    wanted = stored(house, f'SELECT * FROM "pico/{step}"')
    said = [next(found for found in item["verdicts"] if found["step"] == step) for item in shown]
    assert [[found[name] for name in columns] for found in said] == [[row[name] for name in columns] for row in wanted]
    assert [found["measured"] for found in said] == [{name: row[name] for name in said[0]["measured"]}
                                                     for row in wanted]


def test_it_says_which_rules_of_a_select_step_would_refuse(house: Shell, shown: list[dict[str, Any]]) -> None:
    ids = [row["row_id"] for row in stored(house, 'SELECT row_id FROM "pico/samples"')]
    refused = defaultdict(list)
    for row in house.json("sql", "SELECT row_id, reason_code FROM rejections WHERE step = 'reasoning' AND gate NOT IN "
                                 "('copies', 'twins', 'select.rejection')"):
        refused[row["row_id"]].append(row["reason_code"])
    choices = [item["choices"] for item in shown]
    assert [[choice["step"] for choice in found] for found in choices] == [["reasoning"]] * ROWS
    assert [sorted(reason["code"] for reason in found[0]["refused"]) for found in choices] == [
        sorted(refused[row_id]) for row_id in ids]
    assert {tuple(found[0]["open"]) for found in choices} == {("copies", "twins")}
    assert {bool(found[0]["refused"]) for found in choices} == {True, False}


def test_rows_that_get_no_answer_are_shown_as_well(shell: Shell) -> None:
    write_odd(shell.folder)
    shown = shell.json("preview", "odd.yaml", "samples", "-n", "6")
    assert [(item["refused"] or "").split(":")[0] for item in shown] == [
        "", "", "not_recorded", "not_recorded", "prompt_missing", "prompt_missing"]
    assert [len(item.get("verdicts", [])) for item in shown] == [1, 1, 0, 0, 0, 0]
    assert r"\x1b[2J" in shell("preview", "odd.yaml", "samples", "-n", "2").stdout
    assert ["answer" in item for item in shell.json("preview", "odd.yaml", "samples", "--no-ask")] == [False] * 3


def test_what_a_server_would_be_sent_has_no_key_in_it(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "very-secret")
    write_odd(shell.folder)
    text = (shell.folder / "odd.yaml").read_text().replace(
        "{replay: {answers: answers.jsonl}}",
        "{served: big, revision: a, runtime: {endpoint: 'http://127.0.0.1:9/v1', options: {min_p: 0.1}}}")
    (shell.folder / "far.yaml").write_text(text)
    before = shell.entries()
    (item,) = shell.json("preview", "far.yaml", "samples", "--no-ask", "-n", "1")
    assert item["url"] == "http://127.0.0.1:9/v1/chat/completions"
    assert item["body"]["model"] == "big"
    assert item["body"]["min_p"] == 0.1
    assert "1+1?" in item["body"]["messages"][-1]["content"]
    said = shell("preview", "far.yaml", "samples", "--no-ask", "-n", "1").stdout
    assert "very-secret" not in said + json.dumps(item)
    assert shell.entries() == before


def test_the_checkpoint_of_a_train_step_is_taken_from_the_warehouse(shell: Shell,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = pytest.importorskip("transformers", reason="the extra `train` is not installed")
    (shell.folder / "loop.yaml").write_text(json.dumps(recipe(shell.folder)))
    shutil.copy(tiny_loop.__file__, shell.folder)
    assert "--until base" in shell.error("preview", "loop.yaml", "written", code=1)
    shell.process("run", "loop.yaml", "--until", "base", "--executor", "inline", "--quiet")
    before = shell.entries()
    monkeypatch.delattr(transformers.AutoModelForCausalLM, "from_config")  # nothing is trained for a preview
    shown = shell.json("preview", "loop.yaml", "written", "-n", "2")
    assert shell.entries() == before
    shell("run", "loop.yaml", "--until", "written", "--executor", "inline", "--quiet")
    answers = shell.json("sql", 'SELECT response FROM "loop/written" ORDER BY row_id LIMIT 2')
    assert [item["answer"] for item in shown] == [row["response"] for row in answers]
    first = shown[0]
    assert first["model"] == "loop/base@1"
    assert first["tokens"] == first["tokens_in"]
    assert "What is 1 + 1?" in first["rendered"]
    assert [found["step"] for found in first["verdicts"]] == ["length"]
