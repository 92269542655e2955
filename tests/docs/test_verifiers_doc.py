"""docs/verifiers.md says what is true: its Python runs, its commands are commands."""

from __future__ import annotations

import re

from test_documents import blocks
from typer.main import get_command

from factory.cli import app


def test_its_python_runs() -> None:
    for block in blocks("docs/verifiers.md", "python"):
        exec(compile(block, "docs/verifiers.md", "exec"), {})


def test_its_commands_are_commands() -> None:
    known = get_command(app).commands  # type: ignore[attr-defined]
    text = "".join(blocks("docs/verifiers.md", ""))
    named = set(re.findall(r"^factory ([a-z-]+)", text, re.MULTILINE))
    assert {"apply", "doctor", "reverify", "verdicts"} <= named <= set(known)
