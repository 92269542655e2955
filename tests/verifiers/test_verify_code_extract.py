"""Which of the blocks in an answer is the program, and that finding it takes no time."""

from __future__ import annotations

import time

import pytest

from factory.verifiers.code.extract import LONGEST_ANSWER, take_code

LIST = """1. The first idea is slow.
2. So this:

{margin}```python
{margin}def f(x):
{margin}    return x

{margin}print(f(1))
{margin}```

3. That is all.
"""


def text(answer: str, language: str = "python", entry_point: str | None = None) -> str | None:
    found = take_code(answer, language, "", entry_point)
    return None if found is None else found.text


@pytest.mark.parametrize("margin", ["", "   ", "    ", "\t", "      "])
def test_a_block_in_a_list(margin: str) -> None:
    assert text(LIST.format(margin=margin)) == "def f(x):\n    return x\n\nprint(f(1))\n"


def test_lines_before_the_margin_and_odd_line_ends_stay_whole() -> None:
    assert text("   ```python\n   x = 1\n y = 2\nz = '\u2028   \x0c   '\n   ```\n") == \
        "x = 1\ny = 2\nz = '\u2028   \x0c   '\n"


def test_a_fence_in_a_string_of_the_program_does_not_end_it() -> None:
    program = 'def f():\n    """\n    ```\n    f()\n    ```\n    """\n    return 1\n'
    assert text(f"```python\n{program}```\n") == program


def test_the_block_that_defines_what_is_wanted_goes_before_one_that_uses_it() -> None:
    answer = "```python\ndef f(x):\n    return x\n```\nUsage:\n```python\nprint(f(3))\n```\n"
    assert text(answer) == "print(f(3))\n"
    assert text(answer, entry_point="f") == "def f(x):\n    return x\n"
    assert text(answer, entry_point="g") == "print(f(3))\n"
    assert text(f"```python\ndef f(x): pass\n```\n{answer}", entry_point="f") == "def f(x):\n    return x\n"
    method = answer.replace("def f(x):\n", "class Solution:\n  def f(self, x):\n").replace("python", "")
    assert "class Solution" in str(text(method, entry_point="f"))


@pytest.mark.parametrize("line", ["```" + "a" * 200_000 + "`", "```" + " " * 200_000 + "`", " " * 200_000 + "```a`",
                                  "```{." + "a.-" * 60_000 + "`", "~~~" + "`" * 200_000])
def test_a_long_line_takes_no_time(line: str) -> None:
    began = time.process_time()
    assert text(f"{line}\n" * 3) is None
    assert time.process_time() - began < 1


def test_an_endless_answer_is_not_read() -> None:
    block = "```python\nprint(1)\n```\n"
    assert text(block) == "print(1)\n"
    assert text("word " * (LONGEST_ANSWER // 5) + f"\n{block}") is None
