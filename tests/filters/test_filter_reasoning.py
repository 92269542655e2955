"""filter.reasoning expands into ordinary steps."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from factory.filters.reasoning import ReasoningParams, reasoning


def test_steps_take_the_input_the_settings_and_their_params() -> None:
    decl = {"op": "filter.reasoning", "from": "samples", "runtime": {"batch": 8}, "name": "mine"}
    params = ReasoningParams.model_validate(
        {"text": "reply", "length": {"max_chars": 9}, "code_blocks": {"text": "raw"}})
    steps, result = reasoning("clean", decl, params)
    assert result == list(steps) == [f"clean.{part}" for part in ("language", "length", "paragraphs", "code_blocks",
                                                                  "repetition")]
    assert steps["clean.length"] == {"op": "filter.length", "from": "samples", "runtime": {"batch": 8},
                                     "params": {"text": "reply", "max_chars": 9}}
    assert steps["clean.code_blocks"]["params"] == {"text": "raw"}


def test_structure_is_a_step_where_it_is_named() -> None:
    params = ReasoningParams.model_validate({"structure": {"need_thinking": True}})
    steps, result = reasoning("clean", {"op": "filter.reasoning", "from": "samples"}, params)
    assert result[-1] == "clean.structure"
    assert steps["clean.structure"]["params"] == {"text": "response", "need_thinking": True}


def test_wrong_params_of_a_part_are_refused_at_once() -> None:
    with pytest.raises(ValidationError, match="max_characters"):
        ReasoningParams.model_validate({"length": {"max_characters": 9}})
