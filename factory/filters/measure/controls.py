"""Control tokens of chat models that have no business in a text, and the compiled search for them.

Two shapes are matched whatever stands inside, since models add new ones all the time: `<|name|>` (ChatML's
`<|im_start|>`, Llama 3's `<|eot_id|>`, gpt-oss's `<|channel|>`) and `<｜name｜>` (DeepSeek's `<｜User｜>`), with a name
of 3 to 40 letters, digits, `_` and `▁`. FIXED are those of other shapes; where they are written down:

    [INST] [/INST] <<SYS>> <</SYS>> <s> </s> <unk>       transformers, models/llama/tokenization_llama.py
    [AVAILABLE_TOOLS] … [TOOL_CALLS] [/SYSTEM_PROMPT]    mistral-common, tokens/tokenizers/base.py (SpecialTokens)
    <bos> <eos> <pad>, <start_of_turn> <end_of_turn>     transformers, models/gemma/tokenization_gemma.py; trl,
                                                         chat_templates/gemma_training.jinja
    [gMASK] <sop>, <eop>                                 trl, chat_templates/glm4moe.jinja; transformers, glm_image
    <BOS_TOKEN>                                          transformers, models/cohere/tokenization_cohere.py

Some have another reading, and the likelier one counts: `<s>` is HTML's strike-through and takes the next `</s>` with
it, unless it begins the text; the openers `[SYSTEM_PROMPT]` and `[THINK]` are left out, being placeholders and lists
too. A token between two equal quotation marks or backticks is talked about. OTHER_TAGS are tags that some models think
in; they are counted apart, for text that names a tag is no leak.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from factory.text.jit import inlined, kernel

from .spans import at_byte, holds

FIXED = ("<s>", "</s>", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "<unk>", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]",
         "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[/SYSTEM_PROMPT]", "[/THINK]", "<start_of_turn>",
         "<end_of_turn>", "<bos>", "<eos>", "<pad>", "[gMASK]", "<sop>", "<eop>", "<BOS_TOKEN>")
OTHER_TAGS = ("<thinking>", "</thinking>", "<thought>", "</thought>", "<reasoning>", "</reasoning>", "<reflection>",
              "</reflection>", "<scratchpad>", "</scratchpad>", "<tool_call>", "</tool_call>")
OWN_TAGS = ("<think>", "</think>", "<answer>", "</answer>")
NAMES = ("think_opens", "think_closes", "answer_opens", "answer_closes", "other_tags", "control_tokens")
_LEAST, _MOST = 3, 40


def _pack(words: tuple[str, ...]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    coded = [word.encode() for word in words]
    return np.frombuffer(b"".join(coded), np.uint8), np.cumsum([0, *map(len, coded)])


PATTERNS, BOUNDS = _pack((*OWN_TAGS, *OTHER_TAGS, *FIXED))
OWN, OTHER = len(OWN_TAGS), len(OWN_TAGS) + len(OTHER_TAGS)


@inlined
def _named_end(data: Any, at: int, stop: int, bars: int) -> Any:
    """Past `name|>` (one byte a bar) or `name｜>` (three bytes) if it stands at `at`; -1 if not."""
    chars = 0
    while at < stop and chars <= _MOST:
        byte = data[at]
        if 0x61 <= (byte | 0x20) <= 0x7A or 0x30 <= byte <= 0x39 or byte == 0x5F:
            at += 1
        elif byte == 0xE2 and at + 2 < stop and data[at + 1] == 0x96 and data[at + 2] == 0x81:
            at += 3  # ▁
        else:
            break
        chars += 1
    if chars < _LEAST or chars > _MOST or at + bars >= stop or data[at + bars] != 0x3E:
        return -1
    if bars == 1:
        return at + 2 if data[at] == 0x7C else -1
    return at + 4 if data[at] == 0xEF and data[at + 1] == 0xBD and data[at + 2] == 0x9C else -1


@inlined
def _mark_at(data: Any, at: int, stop: int, patterns: Any, bounds: Any) -> Any:
    """(index into NAMES, end, word) of the tag or token that begins at `at`, `word` being its number among the patterns
    or -1; (-1, -1, -1) if none does."""
    if data[at] == 0x3C and at + 3 < stop:
        end = -1
        if data[at + 1] == 0x7C:
            end = _named_end(data, at + 2, stop, 1)
        elif data[at + 1] == 0xEF and data[at + 2] == 0xBD and data[at + 3] == 0x9C:
            end = _named_end(data, at + 4, stop, 3)
        if end >= 0:
            return 5, end, -1
    for word in range(len(bounds) - 1):
        first = bounds[word]
        if data[at] == patterns[first] and holds(data, at, stop, patterns[first:bounds[word + 1]]):
            return (word if word < OWN else 4 if word < OTHER else 5), at + bounds[word + 1] - first, word
    return -1, -1, -1


@inlined
def _is_quoted(data: Any, begin: int, at: int, end: int, stop: int) -> Any:
    """Whether data[at:end] stands between two equal quotation marks or backticks."""
    if at == begin or end == stop or data[at - 1] != data[end]:
        return False
    return data[end] == 0x22 or data[end] == 0x27 or data[end] == 0x60


@kernel
def mark_rows(data: Any, begins: Any, stops: Any, patterns: Any, bounds: Any, counts: Any, places: Any) -> None:
    """NAMES counted in each row; `places` gets the span of the first of each."""
    for row in range(len(begins)):
        counts[row, :] = 0
        places[row, :, :] = -1
        at, stop, struck = begins[row], stops[row], False
        while 0 <= at < stop:
            if at_byte(data, at) != 0x3C and at_byte(data, at) != 0x5B:  # < [
                at += 1
                continue
            name, end, word = _mark_at(data, at, stop, patterns, bounds)
            if name < 0:
                at += 1
                continue
            opens = word == OTHER and at > begins[row]
            counted = not opens and not (word == OTHER + 1 and struck)
            if word == OTHER or word == OTHER + 1:
                struck = opens
            if name == 5 and _is_quoted(data, begins[row], at, end, stop):
                counted = False
            if counted:
                if counts[row, name] == 0:
                    places[row, name, 0], places[row, name, 1] = at, end
                counts[row, name] += 1
            at = end
