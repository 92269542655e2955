"""An answer that arrives in pieces: server-sent events put together to the body that would have come at once.

Lines end with LF or CRLF and are cut anywhere by the network; events are `data:` lines, `[DONE]` ends them. Text of the
first choice is joined, the last finish_reason and usage count. A stream that ends before a finish_reason was half an
answer, and is none.
"""

from __future__ import annotations

import json
from typing import Any

from factory.models.openai.faults import Act, Fault
from factory.models.openai.wire import read_parts

_TEXTS = ("text", "content", "reasoning_content", "reasoning")


class Stream:
    """Collects one stream. `pieces` counts the events that brought text, about a token each."""

    def __init__(self) -> None:
        self.pieces = 0
        self._rest = b""
        self._texts: dict[str, list[str]] = {name: [] for name in _TEXTS}
        self._ids: list[int] = []
        self._finish: str | None = None
        self._usage: Any = None
        self._error: Any = None
        self._done = False

    def feed(self, data: bytes) -> None:
        """Take what the network brought.

        Raises:
            Fault: an event is not JSON.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                self._event(line[5:].strip())

    def end(self) -> dict[str, Any]:
        """The whole answer, in the form of one that was not streamed.

        Raises:
            Fault: the stream broke off.
        """
        if self._rest:
            self.feed(b"\n")
        if self._error is not None:
            return {"error": self._error}
        if self._finish is None and not (self._done and self.pieces):
            if self._done:
                return {"choices": []}
            raise Fault(Act.RETRY, "connection", "the stream ended before the answer was finished")
        texts = {name: "".join(parts) for name, parts in self._texts.items() if parts}
        said: dict[str, Any] = {"text": texts.pop("text")} if "text" in texts else {"message": texts}
        if self._ids:
            said["token_ids"] = self._ids
        return {"choices": [{**said, "finish_reason": self._finish}], "usage": self._usage}

    def _event(self, data: bytes) -> None:
        if data == b"[DONE]":
            self._done = True
            return
        try:
            event = json.loads(data)
        except ValueError:
            raise Fault(Act.RETRY, "bad_response", "the stream holds an event that is no JSON") from None
        if not isinstance(event, dict):
            raise Fault(Act.RETRY, "bad_response", "the stream holds an event that is no JSON object")
        self._error = event.get("error") or self._error
        self._usage = event.get("usage") or self._usage
        choices = event.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and not choice.get("index"):
                self._add(choice)

    def _add(self, choice: dict[str, Any]) -> None:
        delta = choice.get("delta")
        said = delta if isinstance(delta, dict) else choice
        if isinstance(content := said.get("content"), list):
            text, thought = read_parts(content)
            said = {"reasoning_content": thought, **said, "content": text}
        found = False
        for name, parts in self._texts.items():
            piece = said.get(name)
            if isinstance(piece, str) and piece:
                parts.append(piece)
                found = True
        self.pieces += found
        ids = choice.get("token_ids")
        if isinstance(ids, list):
            self._ids += ids
        self._finish = choice.get("finish_reason") or self._finish
