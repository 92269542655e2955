"""filter.code_blocks: what is code and what is not."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from factory.engine.op import OpContext
from factory.filters.code_blocks import CodeBlocksParams, code_blocks

FENCED = "```python\nprint(1)\n```"
BARE = "def area(r):\n    import math\n    return math.pi * r\n\nprint(area(2))\n"


def score(response: str | None, **params: Any) -> dict[str, Any]:
    batch = pl.DataFrame({"response": [response]}, schema={"response": pl.String})
    return code_blocks(batch, CodeBlocksParams(**params), OpContext()).row(0, named=True)


def test_fence_in_the_thinking_is_rejected_with_its_offset() -> None:
    response = f"<think>Let me try.\n{FENCED}\nGood.</think>Four."
    row = score(response)
    assert (row["passed"], row["reason_code"]) == (False, "code_in_thinking")
    assert (row["fenced_thinking"], row["fenced_answer"]) == (1, 0)
    assert f"at {response.index('```')}" in row["reason"]
    assert score(response, allow_in_thinking=True)["passed"] is True


def test_fence_in_the_answer_passes_unless_forbidden() -> None:
    response = f"<think>Easy.</think>\n{FENCED}\n\n~~~\nx\n~~~"
    assert (score(response)["passed"], score(response)["fenced_answer"]) == (True, 2)
    row = score(response, allow_in_answer=False)
    assert (row["passed"], row["reason_code"]) == (False, "code_in_answer")


@pytest.mark.parametrize("response", [
    "```python\nprint(1)", "<think>Fine.</think>Here:\n```\nx = 1\n", "~~~\na\n```\n", "````\na\n```\n",
    f"<answer>{FENCED}\n```js</answer>",
])
def test_open_fences_are_unbalanced(response: str) -> None:
    row = score(response)
    assert (row["passed"], row["reason_code"], row["unbalanced"]) == (False, "unbalanced_fence", True)


@pytest.mark.parametrize("response", [
    FENCED, "1. Like so: ```python\nx\n```", "    ```\n    x\n    ```", "````md\n```\nx\n```\n````",
    "Write ```x``` inline.", "about ~~~ five", "> ```\n> x\n> ```", "no code",
])
def test_closed_fences_are_balanced(response: str) -> None:
    assert (score(response)["unbalanced"], score(response)["passed"]) == (False, True)


def test_bare_code_in_the_thinking_counts_lines() -> None:
    response = f"<think>I would write\n\n{BARE}\nand run it.</think>4"
    row = score(response)
    assert (row["passed"], row["reason_code"], row["bare_code_lines_thinking"]) == (False, "code_in_thinking", 4)
    assert f"at {response.index('def')}: def area(r):" in row["reason"]
    assert score(response, min_bare_lines=4)["passed"] is False
    assert score(response, min_bare_lines=5)["passed"] is True
    assert score(f"<think>Hm.</think>{BARE}")["bare_code_lines_thinking"] == 0


def test_code_in_a_fence_is_not_counted_twice() -> None:
    row = score(f"<think>\n```\n{BARE}```\n</think>4")
    assert (row["fenced_thinking"], row["bare_code_lines_thinking"]) == (1, 0)


@pytest.mark.parametrize("prose", [
    "P(A) = P(A|B) P(B) + P(A|C) P(C)", "f(x) = g(h(x)) + 1", "For each x in the set:", "If so: the answer is 4.",
    "x = 5", "k_1 = f(x_n, y_n)", "Return to the start.", r"v_{max} = \frac{a}{b}", "while we wait, think:",
    "Class A: 5", "- item",
])
def test_mathematics_and_prose_are_no_code(prose: str) -> None:
    row = score("<think>" + f"{prose}\n" * 5 + "</think>4")
    assert (row["bare_code_lines_thinking"], row["passed"]) == (0, True)


@pytest.mark.parametrize("line", [
    "def f(a, b=2) -> int:", "import numpy as np", "from math import pi", "for i in range(10):",
    "total_cost = 3 * unit_price", "np.array([1])", "x = np.array([1])", "int main() {", "#include <stdio.h>",
    "for (int i = 0; i < n; i++) {", "console.log(x);", "while n > 0:", "if x == 3:", "else:", "print('a')",
    ">>> 1 + 1", "SELECT a FROM b;",
])
def test_program_lines_are_code(line: str) -> None:
    assert score(f"<think>\n    {line}\n</think>")["bare_code_lines_thinking"] == 1


def test_null_is_undecided() -> None:
    assert score(None)["passed"] is None


@given(st.lists(st.one_of(st.text(), st.text("`~\n >ax", max_size=60))))
@settings(deadline=None)
def test_every_text_gets_a_verdict(texts: list[str]) -> None:
    batch = pl.DataFrame({"response": texts}, schema={"response": pl.String})
    out = code_blocks(batch, CodeBlocksParams(), OpContext())
    assert out.height == len(texts)
    assert out["passed"].null_count() == 0
    assert (out["passed"] == out["reason_code"].is_null()).all()


def test_a_domain_may_hold_code() -> None:
    batch = pl.DataFrame({"response": [f"<think>Try\n{FENCED}\n</think>4"] * 3, "domain": ["code", "math", None]})
    params = CodeBlocksParams.model_validate({"domain_column": "domain",
                                              "domains": {"code": {"allow_in_thinking": True}}})
    out = code_blocks(batch, params, OpContext())
    assert out["passed"].to_list() == [True, False, False]
    with pytest.raises(ValidationError, match="domain_column"):
        CodeBlocksParams.model_validate({"domains": {"code": {}}})


def test_bare_code_in_the_answer_is_measured_and_refused_on_request() -> None:
    response = f"é<think>Hm.</think>{BARE}"
    row = score(response)
    assert (row["passed"], row["bare_code_lines_answer"], row["bare_code_lines_thinking"]) == (True, 4, 0)
    assert response[row["bare_code_answer_at"]:row["bare_code_answer_end"]] == "def area(r):"
    assert 0.5 < row["code_share_answer"] < 1
    assert score(response, allow_in_answer=False)["reason_code"] == "code_in_answer"


def test_places_are_characters_of_the_response() -> None:
    response = f"<think>好é\n{FENCED}\n</think>\n```\nx"
    row = score(response, allow_in_thinking=True)
    assert response[row["fenced_thinking_at"]:].startswith("```python")
    assert response[row["unbalanced_at"]:] == "```\nx"
    assert (row["reason_code"], row["fenced_answer"]) == ("unbalanced_fence", 1)
