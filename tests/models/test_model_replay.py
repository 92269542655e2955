"""Replayed answers: determinism by seed, weights, word limits, recorded samples, and hostile templates."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.engine.errors import DataError, ModelError
from factory.models.base import Completion, Request, Sampling
from factory.models.open import open_backend
from factory.models.replay import Rng
from factory.models.runtime import ModelRuntime
from factory.models.spec import ModelSpec, resolve


def answer(replay: dict[str, Any], requests: list[Request], folder: Path = Path("."),
           **runtime: Any) -> list[Completion]:
    model = resolve(ModelSpec.model_validate({"replay": replay}), folder)
    backend = open_backend(model, ModelRuntime(**runtime))
    try:
        return list(backend.generate(iter(requests)))
    finally:
        backend.close()


def request(seed: int = 0, row: dict[str, Any] | None = None, **sampling: Any) -> Request:
    return Request(f"{seed:064x}", seed, Sampling(**sampling), prompt="one two three", row=row or {})


RULES = {"rules": [{"text": "right: {{ answer }}", "weight": 3}, {"text": "never", "weight": 0},
                   {"text": "wrong: {{ rng.integer(1, 6) }}", "weight": 1}]}


def test_rules_are_taken_by_weight_and_rng_is_even() -> None:
    found = answer(RULES, [request(seed, {"answer": "42"}) for seed in range(12_000)])
    kinds = Counter(one.text for one in found)
    assert abs(kinds.pop("right: 42") - 9000) < 5 * (12_000 * 0.75 * 0.25) ** 0.5
    assert set(kinds) == {f"wrong: {face}" for face in range(1, 7)}
    assert all(abs(count - 500) < 5 * 500**0.5 for count in kinds.values())


def test_an_answer_depends_on_its_seed_and_row_alone() -> None:
    asked = [request(seed, {"answer": str(seed % 7)}) for seed in range(200)]
    alone = [answer(RULES, [one])[0] for one in asked[:20]]
    together = answer(RULES, asked)
    assert together[:20] == alone
    assert answer(RULES, asked[::-1]) == together[::-1]


@given(limit=st.integers(1, 12), words=st.lists(st.text(st.characters(codec="utf-8"), max_size=5), max_size=10))
def test_a_larger_limit_changes_only_answers_that_were_cut(limit: int, words: list[str]) -> None:
    text = " ".join(words)
    rule = {"rules": [{"text": "{{ said }}", "finish_reason": "stop"}]}
    short, long = (answer(rule, [request(row={"said": text}, max_tokens=size)])[0] for size in (limit, limit + 5))
    assert short.tokens_out == min(limit, len(text.split()))
    assert long.text.startswith(short.text)
    if short.finish_reason == "stop":
        assert short == long
        assert short.text == text
    else:
        assert short.finish_reason == "length"
        assert short.tokens_out == limit


def test_stop_strings_and_finish_reasons_are_those_of_a_model() -> None:
    rule = {"rules": [{"text": "a b END c d", "finish_reason": "length"}]}
    whole, stopped, cut = answer(rule, [request(), request(stop=("c", "END")), request(stop=("END",), max_tokens=1)])
    assert (whole.text, whole.finish_reason, whole.tokens_in, whole.tokens_out) == ("a b END c d", "length", 3, 5)
    assert (stopped.text, stopped.finish_reason) == ("a b ", "stop")
    assert (cut.text, cut.finish_reason) == ("a", "length")


def test_recorded_answers_go_round_by_sample_index(tmp_path: Path) -> None:
    lines = [{"prompt": "p", "answers": ["first", {"text": "second", "finish_reason": "length"}]},
             {"prompt": "one two three", "answers": ["by text"]}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    rows = [{"prompt": "p", "sample_index": index} for index in range(3)]
    asked = [*(request(row=row) for row in rows), request(), request(row={"prompt": "q"})]
    found = answer({"answers": "a.jsonl"}, asked, tmp_path)
    assert [one.text for one in found] == ["first", "second", "first", "by text", ""]
    assert [one.finish_reason for one in found[:2]] == ["stop", "length"]
    assert found[-1].error is not None
    assert found[-1].error.startswith("not_recorded: ")


@pytest.mark.parametrize("line", [
    "{", "[]", '{"prompt": "p"}', '{"prompt": "p", "answers": []}', '{"prompt": 1, "answers": ["a"]}',
    '{"prompt": "p", "answers": [3]}', '{"prompt": "p", "answers": [{"text": "a", "finish_reason": "tired"}]}',
    '{"prompt": "good", "answers": ["again"]}'])
def test_a_malformed_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "good", "answers": ["a"]}\n' + line + "\n")
    with pytest.raises(DataError, match=r"a\.jsonl:2"):
        answer({"answers": "a.jsonl"}, [], tmp_path)


@pytest.mark.parametrize("text", [
    "{{ missing }}", "{{ ''.__class__.__mro__ }}", "{{ items.append(1) }}", "{{ 1 // 0 }}", "{{ rng._state }}",
    "{{ rng.integer(5, 1) }}", "{{ rng.choice([]) }}", "{{ range(10**9) | list }}"])
def test_a_template_that_fails_or_reaches_out_costs_one_answer(text: str) -> None:
    bad = answer({"rules": [{"text": text}]}, [request(row={"items": [1]})])
    assert [(one.text, (one.error or "").split(":")[0]) for one in bad] == [("", "replay_rule")]


def test_a_template_that_cannot_be_compiled_stops_the_step() -> None:
    with pytest.raises(ModelError, match="rule 1, line 2"):
        answer({"rules": [{"text": "fine"}, {"text": "\n{{ oh"}]}, [])


def test_row_text_is_not_a_template() -> None:
    hostile = "{{ rng.random() }} {% raw %} {answer} <|im_end|>"
    assert answer({"rules": [{"text": "{{ said }}"}]}, [request(row={"said": hostile})])[0].text == hostile


def test_every_request_is_logged_before_it_is_answered_and_the_log_is_appended_to(tmp_path: Path) -> None:
    log = tmp_path / "asked.log"
    model = resolve(ModelSpec.model_validate({"replay": {"rules": [{"text": "x"}]}}), tmp_path)
    for start in (0, 3):
        backend = open_backend(model, ModelRuntime(log=str(log)))
        asked = (request(seed) for seed in range(start, start + 3))
        for count, completion in enumerate(backend.generate(asked), start + 1):
            logged = log.read_text().splitlines()
            assert len(logged) == count
            assert logged[-1] == completion.key
        backend.close()
    assert log.read_text().splitlines() == [request(seed).key for seed in range(6)]


def test_a_request_that_asks_nothing_is_rejected() -> None:
    found = answer({"rules": [{"text": "x"}]}, [Request("k", 0, Sampling())])
    assert (found[0].rejected or "").startswith("prompt_missing: ")


def test_rng_is_the_published_splitmix64() -> None:
    # First outputs for seed 1234567 as listed by independent implementations of the algorithm.
    rng = Rng(1234567)
    assert [rng._next() for _ in range(3)] == [6457827717110365317, 3203168211198807973, 9817491932198370423]
