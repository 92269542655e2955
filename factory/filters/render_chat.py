"""One conversation through one tokenizer and its chat template, and what became of the row's own texts there.

The *prefix* is the conversation before its last answer, with the template's opening of an answer; the *whole* is all of
it, as a trainer would see it. Control tokens are those that the tokenizer declares special, reasoning tags aside
(`factory.models.rendering` reads them the same way). A tokenizer finds control tokens by their spelling, so a text that
spells one is cut by it wherever the text is not protected.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl

from factory.engine.errors import ModelError
from factory.engine.text import ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE, THINK_OPEN, split_response

Message = Mapping[str, str]
_TAGS = frozenset({THINK_OPEN, THINK_CLOSE, ANSWER_OPEN, ANSWER_CLOSE})


class Harm(NamedTuple):
    """What went wrong in a row's own text: `control` (what: the token), `unknown` (what: the characters) or
    `difference`, at a character of message number `message`."""

    kind: str
    message: int
    at: int
    what: str


class Chat:
    """A fast tokenizer of transformers and a chat template, its own unless `template` is given. `options` are further
    variables of the template, such as `enable_thinking`.

    Raises:
        ModelError: there is no chat template.
    """

    def __init__(self, tokenizer: Any, template: str | None = None, options: Mapping[str, Any] | None = None):
        self._tokenizer, self._options = tokenizer, dict(options or {})
        self._template = template or tokenizer.chat_template
        if not self._template:
            raise ModelError(f"the tokenizer {tokenizer.name_or_path} has no chat template: give it one in "
                             "`tokenizer: {chat_template: …}`")
        self.backend: Any = tokenizer.backend_tokenizer
        added = tokenizer.added_tokens_decoder
        control = {index: token.content for index, token in added.items() if token.special}
        control |= {index: tokenizer.convert_ids_to_tokens(index) for index in tokenizer.all_special_ids}
        self._control = {index: text for index, text in control.items() if text and text not in _TAGS}
        self._spellings = sorted(set(self._control.values()))
        # Tokens that are looked for in the normalised text may be spelled in other ways too.
        self._hidden = self.backend.normalizer is not None and any(
            added[index].normalized for index in self._control if index in added)
        self.unknown: int | None = tokenizer.unk_token_id

    def render(self, messages: Sequence[Message], *, opened: bool) -> str:
        """The conversation as the template writes it; with `opened` an answer is begun. Whatever the template raises
        passes."""
        text: str = self._tokenizer.apply_chat_template(
            [dict(message) for message in messages], tokenize=False, add_generation_prompt=opened,
            chat_template=self._template, **self._options)
        return text

    def spell_control(self, texts: Sequence[str]) -> list[bool]:
        """Whether a control token may be spelled in each text: never False where one is."""
        if self._hidden:
            return [True] * len(texts)
        if not self._spellings:
            return [False] * len(texts)
        return pl.Series(texts, dtype=pl.String).str.contains_any(self._spellings).to_list()

    def look(self, messages: Sequence[Message]) -> list[Harm]:
        """Everything that happens to the messages' own texts, in order."""
        found: list[Harm] = []
        for number, message in enumerate(messages):
            text = message["content"]
            coded = self.backend.encode(text, add_special_tokens=False)
            ids = coded.ids
            for index, (start, stop) in zip(ids, coded.offsets, strict=True):
                spelled = text[start:stop]
                if index == self.unknown and spelled.strip() != self._control.get(index):
                    found.append(Harm("unknown", number, start, spelled))
                elif index in self._control:
                    found.append(Harm("control", number, start, self._control[index]))
            at = find_difference(text, self.backend.decode(ids, skip_special_tokens=False))
            if at is not None:
                found.append(Harm("difference", number, at, text[at:at + 1]))
        return found


def find_difference(text: str, back: str) -> int | None:
    """Where a text that was encoded and decoded first differs from itself; None where it is the same, or canonically
    equivalent (NFC), which some tokenizers make of it."""
    if text == back or unicodedata.normalize("NFC", text) == unicodedata.normalize("NFC", back):
        return None
    low, high = 0, min(len(text), len(back))
    while low < high:  # the longest common beginning, by halves: slices compare fast
        middle = (low + high + 1) // 2
        if text[low:middle] == back[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def is_dropped(content: str, rendered: str) -> bool:
    """Whether an answer's thinking is missing from its rendering. White space around it may change; where the answer
    behind it is rendered too, the thinking must stand before it (or what an answer quotes would pass for it)."""
    parts = split_response(content)
    thinking, answer = (parts.thinking or "").strip(), (parts.answer or "").strip()
    at = rendered.find(thinking)
    if not thinking or at < 0:
        return bool(thinking)
    behind = parts.answer_at > parts.thinking_at
    return behind and answer in rendered and rendered.find(answer, at + len(thinking)) < 0
