"""The compiled measurements equal their definitions on random Unicode text, for any cut into batches."""

from __future__ import annotations

import measure_reference as ref
import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from factory.engine.text import split_response
from factory.filters.masking import find_fences
from factory.filters.measure import code, controls, length, parts, repetition, repetition_rows, structure
from factory.filters.measure.tokens import BYTES
from factory.text.buffers import text_buffers

ODD = ["", "a", " ", "\n", "\n\n\n", "\x00", "\u200b", "👩‍👩‍👧", "שלום عالم", r"$$\frac{1}{2}$$", "。", "…", "...", "<",
       "</think>", "<think>", "<think></think>", "<think>a</think><think>b", "```", "ab " * 50,
       "你好" * 40, "\ud7ff\U0010ffff"]
PIECE = st.sampled_from(["a", "b", "ab", "the cat", ". ", "! ", "? ", "...", "。", "…", " ", "\n", "\n\n", "  \n", "\t",
                         "你", "好", "e\u0301", "👍", "\u200b", "\x00", "\xa0", "x = 1", "foo_bar = f(x)",
                         "return x", "}", "if x == 1:",
                         "```", "```python", "~~~", "> ", "<think>", "</think>", "<answer>", "</answer>", "<|im_end|>",
                         "[INST]", "</s>",
                         "कि", "\r\n", "İ", "\u3000", "_", "1", ",", "'", '"', "’", "\\("])
TEXT = st.one_of(st.lists(PIECE, max_size=60).map("".join),
                 st.text(st.characters(exclude_categories=["Cs"]), max_size=80))
TEXTS = st.lists(TEXT, min_size=1, max_size=6)
RUNS = settings(max_examples=60, deadline=None)


def spans(texts: list[str]) -> parts.Spans:
    buffers = text_buffers(pl.Series(texts, dtype=pl.String))
    return parts.Spans(buffers.data, buffers.offsets[:-1], buffers.offsets[1:])


@given(TEXTS)
@example(["1234567. 1234567.", "123456. 123456.", "你好你好你好吗。你好你好你好吗。", "ab ab cd cd ab ab cd cd",
          "a b a b c d c d"])
@RUNS
def test_repetition_is_its_definition(texts: list[str]) -> None:
    found = repetition.measure_repetition(spans(texts))
    for row, text in enumerate(texts):
        assert found.values[row, :13].tolist() == ref.gopher(text)
        assert found.values[row, 15:17].tolist() == list(ref.tail_loop(text) if text else (0, 0))
        assert found.values[row, 17] == (ref.lz_bytes(text.encode()) / len(text.encode()) if text else 0)
        pieces = [piece for piece in ref.sentences(text) if len(piece) >= 8]
        count, chars = ref.repeats(pieces)
        assert found.values[row, 13] == pytest.approx(count / max(len(pieces), 1))
        assert found.values[row, 14] == pytest.approx(chars / max(sum(map(len, pieces)), 1))


@given(TEXTS)
@RUNS
def test_given_words_are_counted_as_datatrove_does(texts: list[str]) -> None:
    words = [text.split() for text in texts]
    one = spans(texts)
    places = [ref.spans_of(ws, text) for ws, text in zip(words, texts, strict=True)]
    flat = np.array([(a + base, b + base) for base, row in zip(one.starts.tolist(), places, strict=True)
                     for a, b in row], np.int64).reshape(-1, 2)
    offsets = np.cumsum([0, *map(len, words)])
    values, evidence = np.zeros((len(texts), 18)), np.full((len(texts), 18, 2), -1)
    repetition_rows.measure_words(one.data, one.starts, one.ends, offsets, flat[:, 0].copy(), flat[:, 1].copy(), BYTES,
                                  values, evidence)
    for row, text in enumerate(texts):
        assert values[row, 4:13].tolist() == ref.gopher(text, words[row])[4:]


@given(TEXTS)
@RUNS
def test_length_and_layout_are_their_definitions(texts: list[str]) -> None:
    one = spans(texts)
    lengths, (layout, places) = length.measure_length(one), length.measure_layout(one, 20)
    for row, text in enumerate(texts):
        assert lengths[row].tolist() == [len(text.strip()), len(ref.words(text))]
        blocks = ref.paragraphs(text)
        longest = max((block for _, block in blocks), key=len, default="")
        walls = [block for lines, block in blocks if lines == 1 and len(block) > 20]
        lines = [line.strip() for line in text.split("\n")]
        assert layout[row].tolist() == [len(blocks), len(longest), len(ref.words(longest)), max(map(len, lines)),
                                        len(walls), sum(map(len, walls)), len(text.strip())]
        first, last = places[row, 0]
        assert longest == (one.data[first:last].tobytes().decode() if longest else "")


@given(TEXTS)
@example([" \n<think>a</think>b", "x<think>a</think>b", " <think>a", "b <answer>c", "a</think> <answer>b</answer> c",
          "x<think>a", "<think>a</think>b<think>c</think>d<answer>é</answer>", "</think><think>",
          "\u3000<think></think>"])
@RUNS
def test_parts_are_those_of_split_response(texts: list[str]) -> None:
    split = parts.split_rows(text_buffers(pl.Series(texts, dtype=pl.String)))
    for row, text in enumerate(texts):
        want = split_response(text)
        for part, wanted, at in ((split.thinking, want.thinking, want.thinking_at),
                                 (split.answer, want.answer, want.answer_at)):
            if wanted is None:
                assert part.starts[row] == -1
                continue
            assert part.data[part.starts[row]:part.ends[row]].tobytes().decode() == wanted
            place = np.full(len(texts), -1)
            place[row] = part.starts[row]
            if wanted:
                assert split.locate(place)[row] == at


@given(TEXTS)
@RUNS
def test_fences_are_those_of_masking(texts: list[str]) -> None:
    texts = [text.replace("👍", "") for text in texts if text.isascii()] or [""]
    one = spans(texts)
    found = code.measure_code(one)
    for row, text in enumerate(texts):
        mine = [(start - one.starts[row], end - one.starts[row], bool(closed))
                for where, start, end, _, _, closed in found.blocks.tolist() if where == row]
        assert mine == [tuple(fence) for fence in find_fences(text)]


@given(TEXTS, st.lists(st.integers(0, 99), max_size=3))
@RUNS
def test_any_cut_gives_the_same(texts: list[str], points: list[int]) -> None:
    def measure(some: list[str]) -> list[np.ndarray]:
        buffers = text_buffers(pl.Series(some, dtype=pl.String))
        split = parts.split_rows(buffers)
        shape = structure.measure_structure(split, buffers)
        found = code.measure_code(split.answer)
        return [repetition.measure_repetition(split.thinking).values, length.measure_length(split.answer),
                length.measure_layout(split.answer, 9)[0], shape.marks, shape.before_chars, shape.copied_chars,
                shape.open_end, split.locate(shape.refusal_at), split.locate(found.first_line), found.share]

    whole = measure(texts)
    cut = [measure(texts[a:b]) for a, b in ref.cuts(len(texts), points)]
    for index, column in enumerate(whole):
        assert np.array_equal(column, np.concatenate([one[index] for one in cut]))


def test_odd_and_huge_rows_survive() -> None:
    texts = [*ODD, "a" * 5_000_000, "ab\n" * 1_000_000, "`" * 1_000_000, "<" * 1_000_000, "x. " * 1_000_000,
             "}\n" * 300_000]
    buffers = text_buffers(pl.Series(texts, dtype=pl.String))
    split = parts.split_rows(buffers)
    structure.measure_structure(split, buffers)
    code.measure_code(split.answer)
    length.measure_layout(split.answer, 100)
    values = repetition.measure_repetition(split.answer).values
    assert np.isfinite(values).all()
    empty = text_buffers(pl.Series([], dtype=pl.String))
    assert parts.split_rows(empty).whole.longest == 0
    assert repetition.measure_repetition(parts.split_rows(empty).answer).values.shape == (0, 18)


def test_marks_and_openings() -> None:
    texts = ["<think>a</think>I’m sorry, but I can’t help with that.", "<think>a</think>抱歉，我无法满足您的请求。",
             "hello<|im_start|>user", "<｜begin▁of▁sentence｜>x", "[INST] a [/INST]", "E[<|x|>] and a |> b <| c",
             "pre<think>a</think>b",
             "Solve x + y = 3 for x and y, please, at once. Ok", "so we get,"]
    prompts = ["", "", "", "", "", "", "", " Solve x + y = 3 for x and y, please, at once.\n", ""]
    buffers = text_buffers(pl.Series(texts))
    shape = structure.measure_structure(parts.split_rows(buffers), text_buffers(pl.Series(prompts)))
    assert (shape.refusal_at >= 0).tolist() == [True, True] + [False] * 7
    assert shape.marks[:, controls.NAMES.index("control_tokens")].tolist() == [0, 0, 1, 1, 2, 0, 0, 0, 0]
    assert shape.before_chars.tolist() == [0, 0, 0, 0, 0, 0, 3, 0, 0]
    assert shape.copied_chars.tolist() == [0] * 7 + [len(prompts[7].strip()), 0]
    assert shape.open_end.tolist() == [False] * 8 + [True]
