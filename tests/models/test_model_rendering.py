"""Text of token ids: control tokens vanish, reasoning tags stay, stop strings are found however tokens cut them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from factory.models.rendering import Renderer, cut_at_stop


@pytest.fixture(scope="module")
def tokenizer(tiny: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny)


def test_reasoning_tags_survive_even_where_they_are_declared_special(tokenizer: Any) -> None:
    renderer = Renderer(tokenizer, "tiny")
    text = "<think>\n1 < 2\n</think>\n<answer>3</answer>"
    assert renderer.text(tokenizer(f"<|assistant|>{text}<|end|>")["input_ids"]) == text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(before=st.text(max_size=8), after=st.text(max_size=20))
def test_text_comes_back_as_it_was_written(tokenizer: Any, before: str, after: str) -> None:
    ids = [tokenizer(text)["input_ids"] for text in (before, after)]
    assert Renderer(tokenizer, "tiny").text(ids[1], ids[0]) == after


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=st.text("ab<é✓ ", max_size=60),
       stop=st.lists(st.text("ab<é✓", min_size=1, max_size=6), min_size=1, max_size=3))
def test_watching_the_tail_finds_what_searching_the_whole_finds(tokenizer: Any, text: str, stop: list[str]) -> None:
    renderer = Renderer(tokenizer, "tiny")
    ids = tokenizer(text)["input_ids"]
    ended = next((count for count in range(1, len(ids) + 1) if renderer.stopped(ids[:count], stop)), None)
    cut = cut_at_stop(text, stop)
    assert (ended is None) == (cut is None)
    if ended is not None:
        assert cut_at_stop(renderer.text(ids[:ended]), stop) == cut
