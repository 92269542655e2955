"""What a part opens with: a refusal, the prompt's own words, talk of a system prompt; and whether it ends open."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from factory.text.jit import kernel
from factory.text.tables import load_tables

from .parts import Ints, Spans
from .spans import find, skip_space, trim_space

HEAD, PROMPT_KEY, PROMPT_WITHIN = 400, 32, 300
_NOT = r"(?:can(?:no|['’])t|can not|won['’]t|will not|must decline|" \
       r"(?:am|['’]m) (?:not able|unable|not going|not comfortable)|" \
       r"(?:do not|don['’]t) feel comfortable|(?:have to|must) (?:decline|refuse))"
_DO = r"(?: to)? ?(?:be able to )?(?:help|assist|comply|fulfil|provid|creat|support|engag|discuss|participat|writ|" \
      r"generat|do that|do this|share|offer|continue|accommodate|answer th|answer your|respond to (?:that|this|your))"
REFUSAL = (
    r"(?is)^[\W_]*(?:"
    rf"(?:i(?:['’]m| am) (?:really |very |so )?sorry|sorry|i apologi[sz]e|apologies|unfortunately)[,.;:!]?(?: but)?"
    rf"(?: as an ai[\w ]{{0,20}},?)? i ?{_NOT}(?:{_DO}|ing?\b)|"
    rf"i ?{_NOT}{_DO}|i (?:must|have to|need to) (?:respectfully |politely )?(?:decline|refuse)\b|"
    rf"as an ai(?: language)?(?: model| assistant)?,? i ?(?:{_NOT}|do not|don['’]t)|"
    r"(?:非常|很|十分|真的)?(?:抱歉|对不起|不好意思)[,，。！!]?[^。\n]{0,24}?(?:不能|无法|不便|没办法|没有办法|不可以)"
    r"[^。\n]{0,8}?(?:提供|协助|帮助|帮你|帮您|回答|满足|完成|继续|讨论|参与|生成|支持)|"
    r"我(?:不能|无法|不可以)(?:为您|为你|向您|向你)?(?:提供|协助|帮助|回答|满足|继续|讨论|参与|生成|支持)(?:这|该|您|你|此|任何)|"
    r"作为(?:一个|一名|一款)?(?:ai|人工智能|语言模型|大语言模型)[^。\n]{0,30}?(?:不能|无法|不便|不会)"
    r")")
"""A refusal at the very start of an answer, English or Chinese."""
SYSTEM = (
    r"(?i)\b(?:my|the|your|this|above) system (?:prompt|message|instruction)|\bsystem prompt\b|\byou are chatgpt\b|"
    r"\byou are (?:a|an) (?:helpful|harmless|ai|large language)[\w ,]{0,40}(?:assistant|model)\b|"
    r"\ba conversation between user and assistant\b|系统提示词?|"
    r"你是(?:一个|一名)?(?:有用的|乐于助人的)?(?:ai|人工智能)助手")
"""Words of a system prompt."""
_OPEN_ENDS = np.frombuffer(b",;:([{=+*/\\&<", np.uint8)


@kernel
def _copy_heads(data: Any, begins: Any, stops: Any, classes: Any, most: int, text: Any, ends: Any, firsts: Any) -> None:
    size = 0
    for row in range(len(begins)):
        firsts[row] = -1
        if begins[row] >= 0:
            at = skip_space(data, begins[row], stops[row], classes)
            stop = min(at + most, stops[row])
            while stop < stops[row] and (data[stop] & 0xC0) == 0x80:
                stop -= 1
            firsts[row] = at
            for place in range(at, stop):
                text[size] = data[place]
                size += 1
        ends[row + 1] = size


def take_heads(spans: Spans, most: int = HEAD) -> tuple[pl.Series, Ints]:
    """The first `most` bytes (whole characters, white space before them skipped) of each row's text, "" where it has
    none, and their byte places (-1)."""
    rows = len(spans.starts)
    text, ends, firsts = np.empty(rows * most, np.uint8), np.zeros(rows + 1, np.int64), np.empty(rows, np.int64)
    _copy_heads(spans.data, spans.starts, spans.ends, load_tables().classes, most, text, ends, firsts)
    heads = pa.LargeStringArray.from_buffers(rows, pa.py_buffer(ends), pa.py_buffer(text[:ends[-1]]))
    return pl.Series("head", heads), firsts


def find_opening(spans: Spans, pattern: str) -> Ints:
    """The byte place (in the spans' data) where `pattern` matches first in the head of each row; -1 where nowhere."""
    heads, firsts = take_heads(spans)
    found = heads.str.find(pattern).cast(pl.Int64).fill_null(-1).to_numpy()
    return np.where(found >= 0, found + firsts, -1)


@kernel
def copied_rows(data: Any, begins: Any, stops: Any, prompts: Any, offsets: Any, classes: Any, out: Any) -> None:
    """(bytes, place) of the prompt's beginning in each text's beginning; (0, -1) where it is not there."""
    for row in range(len(begins)):
        out[row, 0], out[row, 1] = 0, -1
        first = skip_space(prompts, offsets[row], offsets[row + 1], classes)
        last = trim_space(prompts, first, offsets[row + 1], classes)
        if begins[row] < 0 or first == last:
            continue
        key = prompts[first:min(last, first + PROMPT_KEY)]
        place = find(data, begins[row], min(stops[row], begins[row] + PROMPT_WITHIN + len(key)), key)
        if place < 0:
            continue
        size = np.int64(len(key))
        while place + size < stops[row] and first + size < last and data[place + size] == prompts[first + size]:
            size += 1
        while size > 0 and first + size < last and (prompts[first + size] & 0xC0) == 0x80:
            size -= 1  # whole characters
        out[row, 0], out[row, 1] = size, place


@kernel
def ends_open(data: Any, begins: Any, stops: Any, classes: Any, signs: Any) -> Any:
    """Whether the last sign of each text is one that no text ends with (a comma, an opening bracket, an operator)."""
    opened = np.zeros(len(begins), np.bool_)
    for row in range(len(begins)):
        stop = trim_space(data, begins[row], stops[row], classes) if begins[row] >= 0 else 0
        if begins[row] >= 0 and stop > begins[row]:
            for sign in signs:
                opened[row] |= data[stop - 1] == sign
    return opened


def measure_open_ends(spans: Spans) -> npt.NDArray[np.bool_]:
    """Which rows' texts end with one of `,;:([{=+*/\\&<`: the writer was cut off."""
    classes = load_tables().classes
    return ends_open(spans.data, spans.starts, spans.ends, classes, _OPEN_ENDS)  # type: ignore[no-any-return]
