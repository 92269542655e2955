"""filter.reasoning expands into four ordinary steps."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from factory.filters.reasoning import ReasoningParams, reasoning


def test_four_steps_take_the_input_the_settings_and_their_params() -> None:
    decl = {"op": "filter.reasoning", "from": "samples", "runtime": {"batch": 8}, "name": "mine"}
    params = ReasoningParams.model_validate(
        {"text": "reply", "length": {"max_chars": 9}, "code_blocks": {"text": "raw"}})
    steps, result = reasoning("clean", decl, params)
    assert result == list(steps) == ["clean.language", "clean.length", "clean.code_blocks", "clean.repetition"]
    assert steps["clean.length"] == {"op": "filter.length", "from": "samples", "runtime": {"batch": 8},
                                     "params": {"text": "reply", "max_chars": 9}}
    assert steps["clean.code_blocks"]["params"] == {"text": "raw"}


def test_wrong_params_of_a_part_are_refused_at_once() -> None:
    with pytest.raises(ValidationError, match="max_characters"):
        ReasoningParams.model_validate({"length": {"max_characters": 9}})
