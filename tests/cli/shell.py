"""The command line as its users have it: a process, with what it prints and how it ends."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.cli import main

RECIPES = Path(__file__).parents[2] / "recipes"

ODD = """\
recipe: odd
vars: {least: 0, to: out}
models:
  recorded: {replay: {answers: answers.jsonl}}
steps:
  problems:
    op: source.files
    params: {paths: [problems.jsonl], columns: {prompt: question, answer: answer}, nullable: [prompt]}
  samples: {op: generate.sample, from: problems, model: recorded, params: {n: 2}, runtime: {max_failed: 1}}
  correct: {op: verify.math, from: samples}
  chosen: {op: select.rejection, from: samples, where: [correct]}
  out: {op: publish.folder, from: chosen, params: {to: "${to}", min_rows: "${least}"}}
"""
"""Two answers to the first problem, one right and one that tries to clear the screen; none recorded for the second; no
prompt in the third."""


@dataclass(frozen=True)
class Said:
    """What a command printed."""

    stdout: str
    stderr: str


@dataclass
class Shell:
    """Runs `factory …` in a folder; nothing it prints into a pipe may be more than plain text."""

    folder: Path

    def process(self, *words: object, code: int = 0) -> Said:
        """Run it as a process."""
        done = subprocess.run([sys.executable, "-m", "factory.cli", *map(str, words)], cwd=self.folder, timeout=120,
                              capture_output=True, text=True, stdin=subprocess.DEVNULL)
        return _checked(words, Said(done.stdout, done.stderr), done.returncode, code)

    def __call__(self, *words: object, code: int = 0) -> Said:
        """Run it by its entry point in this process: a hundred starts would cost minutes."""
        said, complained = io.StringIO(), io.StringIO()
        ended = 0
        with (contextlib.chdir(self.folder), contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained)):
            try:
                main([str(word) for word in words])
            except SystemExit as stop:
                ended = int(stop.code or 0)
        return _checked(words, Said(said.getvalue(), complained.getvalue()), ended, code)

    def json(self, *words: object, code: int = 0) -> Any:
        return json.loads(self(*words, "--json", code=code).stdout)

    def error(self, *words: object, code: int = 2) -> str:
        """What a command that cannot be done says: one block on standard error, nothing on standard output."""
        said = self(*words, code=code)
        assert said.stdout == "", words
        assert len([line for line in said.stderr.splitlines() if line.lower().startswith("error: ")]) == 1, said.stderr
        return said.stderr

    def entries(self) -> list[str]:
        return sorted(path.name for path in self.folder.rglob("*"))


def _checked(words: tuple[object, ...], said: Said, ended: int, code: int) -> Said:
    assert ended == code, (words, ended, said)
    for text in (said.stdout, said.stderr):
        assert not {"\x1b", "\r"} & set(text), words
        assert "Traceback" not in text, text
    return said


def write_odd(folder: Path) -> None:
    """The recipe `odd` and its files."""
    (folder / "odd.yaml").write_text(ODD)
    problems = [{"question": "1+1?", "answer": "2"}, {"question": "2+2?", "answer": "4"},
                {"question": None, "answer": "5"}]
    answers = {"prompt": "1+1?", "answers": ["<answer>2</answer>", "<answer>3\x1b[2J\r</answer>"]}
    (folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in problems))
    (folder / "answers.jsonl").write_text(json.dumps(answers) + "\n")
