"""Bare code, long texts, and control tokens that mean something else."""

from __future__ import annotations

import measure_reference as ref
import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.filters.masking import find_fences
from factory.filters.measure import code, controls, parts, repetition, structure
from factory.filters.measure.barecode import CODE_LINE, LONGEST
from factory.text.buffers import text_buffers

START = st.sampled_from(["", "  ", "\t", "def f(x):", "class A:", "@property", "import os", "from a import b",
                         "for x in y:", "if x == 1:", "else:", "except E:", "return x + 1", "return;", "print(x)",
                         "x = a.b(c)", "a.b.c(d);",
                         "foo_bar = 1",
                         "FOO_BAR += 2", "Area_ABC = 3", "aa_bb = 1 = 2", "#include <a>", "SELECT a FROM b;", ">>> x",
                         "In [1]: x",
                         "function f() {", "int x;", "for (;;) {", "}", "} else {", "If x = 1:", "so (a) holds",
                         "Note: a.b (c)",
                         "async def f():", "while not x.y in z:", "\\frac", "```", "é = 1", "len(x)", "const a = b;"])
END = st.sampled_from(["", " ", "\r", ":", ";", "{", ")", " = 2", " # note", "\x1c", "x" * 400])
LINE = st.tuples(START, END).map("".join)


@given(st.lists(st.one_of(LINE, st.text(max_size=20)), max_size=12).map("\n".join))
@settings(max_examples=80, deadline=None)
def test_the_first_stage_loses_no_line_of_code(text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    found = code.measure_code(parts.split_rows(text_buffers(pl.Series([text]))).whole)
    wanted, at = [], 0
    blocks = [(one.start, one.end) for one in find_fences(text)] if text.isascii() else []
    for line in text.split("\n"):
        inside = any(start < at + len(line) + 1 and end > at for start, end in blocks)
        if not inside and len(line.encode()) <= LONGEST and "\\" not in line and CODE_LINE.match(line.rstrip()):
            wanted.append(line)
        at += len(line) + 1
    if text.isascii():
        data = text.encode()
        assert [data[start:end].decode() for _, start, end in found.lines.tolist()] == wanted


def test_texts_longer_than_the_first_work_arrays() -> None:
    some = np.random.default_rng(1)
    texts = [" ".join(some.choice(["ab", "a", "b", "ba", "\n", ".", "好"], 30_000).tolist()) for _ in range(2)]
    texts += ["a b", "x" * 9]
    found = repetition.measure_repetition(parts.split_rows(text_buffers(pl.Series(texts))).answer)
    for row, text in enumerate(texts):
        assert found.values[row, :13].tolist() == ref.gopher(text)


def test_a_long_loop_is_found_within_its_window() -> None:
    unit = "".join(map(chr, range(0x4E00, 0x4E00 + 3000)))  # 9,000 bytes, no character twice
    texts = pl.Series(["start " + unit * 5, unit * 40])
    found = repetition.measure_repetition(parts.split_rows(text_buffers(texts)).answer)
    assert found.column("tail_loop_chars").tolist() == [15_000, 131_072 // 3]
    assert found.column("tail_loop_times")[0] == 5


def test_tokens_with_another_reading_are_none() -> None:
    texts = ["so 4.</s></s>", "<s>one</s> two</s>", "was <s>old</s> new", "the token `</s>` ends it", "['</s>', 1]",
             "{\"answer\": \"4\"}</s>", "[SYSTEM_PROMPT] here", "x [/INST]", "```\nx\n```<|eot_id|>", '"<|im_end|>"',
             '4</s>"']
    split = parts.split_rows(text_buffers(pl.Series(texts)))
    marks = structure.measure_structure(split).marks[:, controls.NAMES.index("control_tokens")]
    assert marks.tolist() == [2, 3, 0, 0, 0, 1, 0, 1, 1, 0, 1]
