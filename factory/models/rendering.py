"""Between requests and token ids: chat templates, prefills, stop strings, and text that loses nothing it should keep.

A chat request goes through the model's chat template with the generation prompt; its text is then tokenised without
further special tokens, since templates write their own. A plain `prompt` is tokenised as it stands, with whatever start
token the tokenizer adds by itself. A prefill is put behind; where a chat template already ends with it (R1-style
templates open `<think>`), it is not put twice.

Messages, prefills and the spans of a plain prompt are text: a control token spelled in them is tokenised as its letters
(`verbatim`). What a template writes around them keeps its meaning.

Decoding drops control tokens (declared special), but never the reasoning tags, even where a tokenizer declares those
special: verifiers and filters live on them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from factory.engine.errors import ModelError
from factory.engine.text import ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE, THINK_OPEN
from factory.models.base import Completion, Request
from factory.models.verbatim import Piece, Verbatim, cut_at_spans, split_held

_TAGS = frozenset({THINK_OPEN, THINK_CLOSE, ANSWER_OPEN, ANSWER_CLOSE})
_CONTEXT_IDS = 4
_SPARE_IDS = 8


def refuse_extra(request: Request, name: str) -> None:
    """Raises ModelError for a request with fields that only a server understands."""
    if request.sampling.extra:
        raise ModelError(f"model {name} is not asked over HTTP, so `params.extra` ({request.sampling.extra}) has no "
                         "place to go: remove it, or name an endpoint in `runtime.model.endpoint` (or `managed`)")


def refuse_empty(request: Request) -> Completion | None:
    """The rejection of a request that asks nothing (its prompt column was null), or None."""
    if request.messages is None and request.prompt is None:
        return Completion(request.key, rejected="prompt_missing: the row has no text to ask a model about")
    return None


def cut_at_stop(text: str, stop: Sequence[str]) -> str | None:
    """The text before the stop string that is complete first, as a writer would notice it; None when it holds none."""
    found = [(at + len(mark), at) for mark in stop if (at := text.find(mark)) >= 0]
    return text[: min(found)[1]] if found else None


class Renderer:
    """A tokenizer with the rules above. `name` is the model's, for messages."""

    def __init__(self, tokenizer: Any, name: str, chat_template: str | None = None):
        self._tokenizer, self._name, self._template = tokenizer, name, chat_template
        special = {index: token.content for index, token in tokenizer.added_tokens_decoder.items()
                   if token.special and token.content not in _TAGS}
        tags = set(tokenizer.convert_tokens_to_ids(sorted(_TAGS)))
        unlisted = sorted(set(tokenizer.all_special_ids) - tags - special.keys())
        special.update(zip(unlisted, tokenizer.convert_ids_to_tokens(unlisted), strict=True))
        self._control = frozenset(special)
        self._verbatim = Verbatim(tokenizer, special)

    def encode(self, requests: Sequence[Request]) -> list[list[int] | Completion]:
        """Token ids for each request, or the completion that says why it cannot be asked.

        Raises:
            ModelError: a chat request, but the model has no chat template.
        """
        asked = [refuse_empty(request) or self._readable(request) for request in requests]
        # Tokenizers are several times as fast with many texts at once.
        plain: dict[bool, list[int]] = {True: [], False: []}
        for index, pieces in enumerate(asked):
            if not isinstance(pieces, Completion) and self._verbatim.is_plain(pieces):
                plain[requests[index].messages is None].append(index)
        ids: dict[int, list[int]] = {}
        for start, places in plain.items():
            texts = ["".join(text for text, _ in asked[index]) for index in places]  # type: ignore[union-attr]
            if texts:
                ids |= zip(places, self._tokenizer(texts, add_special_tokens=start)["input_ids"], strict=True)
        return [pieces if isinstance(pieces, Completion)
                else self._started(request, ids[index]) if index in ids else self._protected(request, pieces)
                for index, (request, pieces) in enumerate(zip(requests, asked, strict=True))]

    def _protected(self, request: Request, pieces: Sequence[Piece]) -> list[int] | Completion:
        ids = self._verbatim.encode(pieces, start=request.messages is None)
        if isinstance(ids, str):
            return Completion(request.key, rejected=f"control_token: the row spells a control token, and {ids}")
        return self._started(request, ids)

    def _started(self, request: Request, ids: list[int]) -> list[int] | Completion:
        if ids:
            return ids
        start = self._tokenizer.bos_token_id
        if start is None:
            return Completion(request.key,
                              rejected="prompt_empty: the prompt has no tokens, and the model no start token")
        return [start]

    def _readable(self, request: Request) -> list[Piece] | Completion:
        pieces = self._pieces(request)
        try:
            for text, _ in () if isinstance(pieces, Completion) else pieces:
                text.encode()
        except UnicodeEncodeError:
            return Completion(request.key, error="not_unicode: the text has no UTF-8 form (half of a surrogate pair)")
        return pieces

    def _pieces(self, request: Request) -> list[Piece] | Completion:
        from jinja2 import TemplateError

        if request.messages is None:
            return [*cut_at_spans(request.prompt or "", request.spans), (request.prefill, True)]
        template = self._template or self._tokenizer.chat_template
        if not template:
            raise ModelError(f"model {self._name} has no chat template: use a template that makes one plain prompt "
                             "(such as r1_zero), or give the model a `chat_template`")
        try:
            shown, held = self._verbatim.hold([message["content"] for message in request.messages], str(template))
        except LookupError as error:
            return Completion(request.key, rejected=f"control_token: {error}")
        messages = [{**message, "content": text} for message, text in zip(request.messages, shown, strict=True)]
        try:
            text = self._render(messages, opened=True)
            text, prefill = self._prefilled(request.prefill, messages, text)
        except TemplateError as error:
            return Completion(request.key, error=f"chat_template: it refuses the messages: {error}")
        return [*split_held(text, held), (prefill, True)]

    def _render(self, messages: Sequence[Mapping[str, str]], *, opened: bool) -> str:
        options = {} if self._template is None else {"chat_template": self._template}
        text: str = self._tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=opened,
                                                        **options)
        return text

    def _prefilled(self, prefill: str, messages: Sequence[Mapping[str, str]], text: str) -> tuple[str, str]:
        """The rendered text and what of the prefill goes behind it: blanks at most, where the template's own opening
        ends with it."""
        bare = prefill.rstrip()
        if bare and text.rstrip().endswith(bare) and not self._verbatim.spells(bare):
            # Only the template's opening counts, as a message may end with the same words; and only from a border on,
            # as a `t` is not what `assistant` ends with.
            closed = self._render(messages, opened=False)
            opening = text.removeprefix(closed).rstrip()
            if opening.endswith(bare) and self._verbatim.is_border(opening.removesuffix(bare)):
                return text.rstrip(), prefill[len(bare):]
        return text, prefill

    def shown(self, ids: Sequence[int]) -> list[tuple[str, bool]]:
        """Token ids as a reader sees them: texts in order, and whether each is a control token."""
        runs = [(control, list(run)) for control, run in groupby(ids, key=lambda index: index in self._control)]
        return [(self._tokenizer.decode(run, skip_special_tokens=False, clean_up_tokenization_spaces=False), control)
                for control, run in runs]

    def text(self, ids: Sequence[int], before: Sequence[int] = ()) -> str:
        """Text of new token ids. `before` are the ids in front of them: some tokenizers drop a leading blank
        without."""
        new = self._decode(ids)
        lead = self._decode(before[-_CONTEXT_IDS:])
        if not lead:
            return new
        whole = self._decode([*before[-_CONTEXT_IDS:], *ids])
        return whole[len(lead):] if whole.startswith(lead) else new

    def stopped(self, ids: Sequence[int], stop: Sequence[str]) -> bool:
        """Whether a stop string lies in the last few ids. Looks only at as many as the longest one can take up."""
        if not stop:
            return False
        longest = max(len(mark.encode()) for mark in stop)
        tail = self._decode(ids[-(longest + _SPARE_IDS):])
        return any(mark in tail for mark in stop)

    def _decode(self, ids: Sequence[int]) -> str:
        kept = [index for index in ids if index not in self._control]
        text: str = self._tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text
