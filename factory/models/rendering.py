"""Between requests and token ids: chat templates, prefills, stop strings, and text that loses nothing it should keep.

A chat request goes through the model's chat template with the generation prompt; its text is then tokenised without
further special tokens, since templates write their own. A plain `prompt` is tokenised as it stands, with whatever start
token the tokenizer adds by itself. A prefill is put behind; where a chat template already ends with it (R1-style
templates open `<think>`), it is not put twice.

Decoding drops control tokens (declared special), but never the reasoning tags, even where a tokenizer declares those
special: verifiers and filters live on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from factory.engine.errors import ModelError
from factory.engine.text import ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE, THINK_OPEN
from factory.models.base import Completion, Request

_TAGS = frozenset({THINK_OPEN, THINK_CLOSE, ANSWER_OPEN, ANSWER_CLOSE})
_CONTEXT_IDS = 4
_SPARE_IDS = 8


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
        special = {index for index, token in tokenizer.added_tokens_decoder.items()
                   if token.special and token.content not in _TAGS}
        tags = set(tokenizer.convert_tokens_to_ids(sorted(_TAGS)))
        self._control = frozenset(special | (set(tokenizer.all_special_ids) - tags))

    def encode(self, requests: Sequence[Request]) -> list[list[int] | Completion]:
        """Token ids for each request, or the completion that says why it cannot be asked.

        Raises:
            ModelError: a chat request, but the model has no chat template.
        """
        found: list[list[int] | Completion] = []
        plain = [request.prompt + request.prefill if request.messages is None and request.prompt is not None else None
                 for request in requests]
        texts = [text for text in plain if text is not None]
        ids = iter(self._tokenizer(texts)["input_ids"] if texts else [])
        for request, text in zip(requests, plain, strict=True):
            refused = refuse_empty(request)
            found.append(refused or self._started(request, next(ids)) if text is not None or refused
                         else self._encode_chat(request))
        return found

    def _started(self, request: Request, ids: list[int]) -> list[int] | Completion:
        if ids:
            return ids
        start = self._tokenizer.bos_token_id
        if start is None:
            return Completion(request.key,
                              rejected="prompt_empty: the prompt has no tokens, and the model no start token")
        return [start]

    def _encode_chat(self, request: Request) -> list[int] | Completion:
        from jinja2 import TemplateError

        if self._template is None and not self._tokenizer.chat_template:
            raise ModelError(f"model {self._name} has no chat template: use a template that makes one plain prompt "
                             "(such as r1_zero), or give the model a `chat_template`")
        try:
            text = self._render(request, opened=True)
            if request.prefill:
                text = self._prefilled(request, text)
        except TemplateError as error:
            return Completion(request.key, error=f"chat_template: it refuses the messages: {error}")
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return self._started(request, ids)

    def _render(self, request: Request, *, opened: bool) -> str:
        options = {} if self._template is None else {"chat_template": self._template}
        messages = [dict(message) for message in request.messages or ()]
        text: str = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=opened,
                                                        **options)
        return text

    def _prefilled(self, request: Request, text: str) -> str:
        """The text with the prefill behind it, once, even where the template's own opening ends with it."""
        bare = request.prefill.rstrip()
        if bare and text.rstrip().endswith(bare):
            # Only the template's opening counts: a message may end with the same words.
            closed = self._render(request, opened=False)
            if bare in text.removeprefix(closed):
                text = text.rstrip().removesuffix(bare)
        return text + request.prefill

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
