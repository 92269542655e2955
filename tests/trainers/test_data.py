"""What a trainer feeds on: prompts exactly as they will be asked, and labels that keep thinking and end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from factory.engine.op import PlanContext
from factory.engine.prompts import parse, read_template

transformers = pytest.importorskip("transformers")
datasets = pytest.importorskip("datasets")

from trainers.data import Prompts, check_labels, grpo_examples, sft_examples  # noqa: E402

NANO = Path(__file__).parents[2] / "recipes" / "nano"
CHATML = ("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
          "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
OPENED = CHATML.replace("<|im_start|>assistant\n{% endif %}", "<|im_start|>assistant\n<think>\n{% endif %}")
QUESTION = [{"role": "user", "content": "What is 2 + 3 * 4?"}]


@pytest.fixture
def tokenizer() -> Any:
    return transformers.AutoTokenizer.from_pretrained(NANO / "tokenizer")


@pytest.mark.parametrize(("template", "prefill", "wanted"), [
    (CHATML, "", "<|im_start|>user\nWhat is 2 + 3 * 4?<|im_end|>\n<|im_start|>assistant\n"),
    (CHATML, "<think>\n", "<|im_start|>user\nWhat is 2 + 3 * 4?<|im_end|>\n<|im_start|>assistant\n<think>\n"),
    (OPENED, "<think>\n", "<|im_start|>user\nWhat is 2 + 3 * 4?<|im_end|>\n<|im_start|>assistant\n<think>\n"),
])
def test_a_prefill_follows_the_opening_of_the_answer(tokenizer: Any, template: str, prefill: str, wanted: str) -> None:
    tokenizer.chat_template = template
    rows = [{"prompt": QUESTION, "prefill": prefill, "row_id": 1}]
    (ids,) = Prompts(rows, tokenizer).encode(grpo_examples(rows)["prompt"])
    assert tokenizer.decode(ids) == wanted


def test_a_plain_prompt_is_tokenised_as_it_stands(tokenizer: Any) -> None:
    text = parse(read_template("r1_zero", PlanContext(Path()).base_dir)).prompt or ""
    rows = [{"prompt": text, "prefill": " <think>", "row_id": 1}]
    (ids,) = Prompts(rows, tokenizer).encode([text])
    assert tokenizer.decode(ids) == text + " <think>"


def test_the_response_is_one_completion_in_either_form() -> None:
    found = sft_examples([{"prompt": "a", "response": "b"}, {"prompt": QUESTION, "response": "c"}])
    assert found["completion"] == ["b", [{"role": "assistant", "content": "c"}]]


def labelled(tokenizer: Any, *texts: str) -> Any:
    return datasets.Dataset.from_dict({"labels": [[-100, -100, *tokenizer(text)["input_ids"]] for text in texts]})


def test_whole_responses_that_end_pass(tokenizer: Any) -> None:
    response = " <think> 3 * 4 = 12. </think> <answer> 12 </answer>"
    check_labels(labelled(tokenizer, f"{response}<|end|>"), tokenizer, [tokenizer.eos_token_id], {response.strip()})


def test_a_template_that_cuts_the_thinking_out_is_found(tokenizer: Any) -> None:
    with pytest.raises(ValueError, match="no response reads"):
        check_labels(labelled(tokenizer, "<answer> 12 </answer><|end|>"), tokenizer, [tokenizer.eos_token_id],
                     {"<think> 3 * 4 = 12. </think> <answer> 12 </answer>"})


def test_a_turn_that_ends_no_generation_is_found(tokenizer: Any) -> None:
    with pytest.raises(ValueError, match="ends no generation"):
        check_labels(labelled(tokenizer, "<answer> 12 </answer>"), tokenizer, [tokenizer.eos_token_id],
                     {"<answer> 12 </answer>"})
