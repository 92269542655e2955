"""A row's text stays text: what looks like a control token in it becomes the ids of its letters.

A tokenizer finds control tokens by their spelling, whoever wrote them, so a prompt that quotes `<|im_end|>` would end
its own turn. Here a prompt is *pieces*: what a template wrote, where control tokens keep their meaning, and what a row
wrote, where nothing is one. Prompts in which no row spells a control token, also not across a border of pieces, are
tokenised as ever. The others go through a *twin* of the tokenizer whose control tokens have names that nobody can
guess: those of the template are renamed in the text, those of rows are left, and the twin reads them as letters. All
else of the twin is the tokenizer's own, so spaces and merges around them come out as they always do.

A chat template must be run before its pieces are known. `hold` puts a private-use character for each spelled control
token (and for a beginning or end that a template's own letters could complete to one) into the messages; after the
template has run, these mark what the rows wrote.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

Piece = tuple[str, bool]
"""Text, and whether a row wrote it."""

_PRIVATE = (range(0xE000, 0xF900), range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE))


class Verbatim:
    """Keeps rows' text text, for one tokenizer. `control` are its control tokens: id -> spelling."""

    def __init__(self, tokenizer: Any, control: Mapping[int, str]):
        texts = sorted(set(control.values()) - {""}, key=len, reverse=True)
        self._tokenizer, self._control = tokenizer, control
        self._spelled = re.compile("|".join(map(re.escape, texts)) or r"(?!)")
        self._longest = len(texts[0]) if texts else 0
        self._begins = {text[:at] for text in texts for at in range(1, len(text))}
        self._ends = {text[at:] for text in texts for at in range(1, len(text))}
        known = tokenizer.added_tokens_decoder
        after = any(known[index].normalized for index in control if index in known)
        self._normalizer = tokenizer.backend_tokenizer.normalizer if after else None
        self._twin: _Twin | None = None

    def is_plain(self, pieces: Sequence[Piece]) -> bool:
        """Whether the joined pieces may be tokenised as they are: all control tokens in them are a template's."""
        whole = "".join(text for text, _ in pieces)
        spelled = [found.start() for found in self._spelled.finditer(whole)]
        if self._normalizer is not None:  # tokens that are looked for in the normalised text
            seen = self._normalizer.normalize_str(whole)
            if len(self._spelled.findall(seen)) != len(spelled):
                return False
        meant, at = [], 0
        for text, by_row in pieces if spelled else ():
            meant += [] if by_row else [at + found.start() for found in self._spelled.finditer(text)]
            at += len(text)
        return meant == spelled

    def spells(self, text: str) -> bool:
        """Whether a control token is spelled in the text."""
        return self._spelled.search(text) is not None

    def is_border(self, text: str) -> bool:
        """Whether something new begins behind this text: a line, or what follows a control token."""
        return not text or text.endswith("\n") or any(text.endswith(token) for token in self._control.values())

    def hold(self, texts: Sequence[str], template: str) -> tuple[list[str], dict[str, str]]:
        """The texts with private-use characters for what must stay text, and what each character stands for; nothing
        is replaced where there is nothing to protect. Characters of the texts or the template are not used.

        Raises:
            LookupError: every private-use character is taken.
        """
        if not any(self._spelled.search(text) or any(self._edges(text)) for text in texts):
            return list(texts), {}
        free = _free(set(chain(template, *texts)))
        held: dict[str, str] = {}

        def stand_in(text: str) -> str:
            if text and text not in held:
                held[text] = next(free)
            return held.get(text, "")

        shown = []
        for text in texts:
            text = self._spelled.sub(lambda found: stand_in(found[0]), text)
            head, tail = self._edges(text)
            lead, trail = len(text) - len(text.lstrip()), len(text.rstrip())
            if tail:
                text = text[:trail - len(tail)] + stand_in(tail) + text[trail:]
            if head:
                text = text[:lead] + stand_in(head) + text[lead + len(head):]
            shown.append(text)
        return shown, {char: text for text, char in held.items()}

    def _edges(self, text: str) -> tuple[str, str]:
        """What the text begins and ends with (blanks aside, as templates trim) that its neighbours in a template could
        complete to a control token."""
        text = text.strip()
        if text and len(text) < self._longest and any(text in spelled for spelled in self._control.values()):
            return text, ""
        sizes = range(min(self._longest - 1, len(text)), 0, -1)
        head = next((text[:size] for size in sizes if text[:size] in self._ends), "")
        rest = text[len(head):]
        tail = next((rest[-size:] for size in sizes if rest[-size:] in self._begins), "")
        return head, tail

    def encode(self, pieces: Sequence[Piece], *, start: bool) -> list[int] | str:
        """Token ids; control tokens come from templates' pieces only. With `start` the tokenizer adds what it puts
        around a text by itself. Where it cannot be done, a string says why."""
        if self._twin is None:
            self._twin = _Twin(self._tokenizer, self._control)
        return self._twin.encode(pieces, self._spelled, start=start)


class _Twin:
    """The tokenizer with its control tokens under secret names."""

    def __init__(self, tokenizer: Any, control: Mapping[int, str]):
        from tokenizers import Tokenizer

        nonce = secrets.token_hex(8)
        self._control = control
        self._names: dict[str, str] = {}
        self._backend: Any = None
        self._real: dict[int, int] = {}
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            return
        document = json.loads(backend.to_str())
        for token in document["added_tokens"]:
            if token["id"] in control:
                self._names[token["content"]] = token["content"] = f"\ue000{nonce}.{token['id']}\ue001"
        twin = Tokenizer.from_str(json.dumps(document))
        twin.no_truncation()
        twin.no_padding()
        numbers = {twin.token_to_id(token["content"]) or 0: token["id"] for token in document["added_tokens"]}
        own = twin.get_vocab(with_added_tokens=False).values()
        if numbers.keys() & {number for number in own if numbers.get(number, number) != number}:
            return  # ids of renamed tokens fall on ids of ordinary ones: nothing could tell them apart
        self._backend, self._real = twin, numbers

    def encode(self, pieces: Sequence[Piece], spelled: re.Pattern[str], *, start: bool) -> list[int] | str:
        if self._backend is None:
            return "this tokenizer cannot tell a control token from its spelling"
        text = "".join(text if by_row else spelled.sub(lambda found: self._names.get(found[0], found[0]), text)
                       for text, by_row in pieces)
        coded = self._backend.encode(text, add_special_tokens=start)
        ids: list[int] = []
        for index, added in zip(coded.ids, coded.special_tokens_mask, strict=True):
            if index not in self._real and index in self._control and not added:
                return f"this tokenizer has no other way to write {self._control[index]!r} than as a control token"
            ids.append(self._real.get(index, index))
        return ids


def split_held(text: str, held: Mapping[str, str]) -> list[Piece]:
    """A rendered text cut at its private-use characters, each replaced by what it stands for."""
    if not held:
        return [(text, False)]
    parts = re.split(f"([{''.join(held)}])", text)
    return [(held[part], True) if index % 2 else (part, False) for index, part in enumerate(parts) if part]


def cut_at_spans(text: str, spans: Sequence[tuple[int, int]]) -> list[Piece]:
    """A text as pieces, of which a row wrote the (start, end) spans."""
    pieces: list[Piece] = []
    at = 0
    for start, end in sorted(spans):
        pieces += [(text[at:start], False), (text[max(at, start):end], True)]
        at = max(at, end)
    return [piece for piece in [*pieces, (text[at:], False)] if piece[0]]


def _free(used: set[str]) -> Iterator[str]:
    found = (chr(code) for codes in _PRIVATE for code in codes if chr(code) not in used)
    yield from found
    raise LookupError("the prompt holds control tokens, and every private-use character besides")
