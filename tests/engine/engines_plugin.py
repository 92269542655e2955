"""A backend that answers with the devices that its process may see, with half a character, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator

from factory.models.base import Completion, Request
from factory.models.open import backend
from factory.models.runtime import ModelRuntime
from factory.models.spec import ResolvedModel


class Devices:
    """Says what it sees."""

    def stop(self) -> None:
        """Nothing waits here."""

    def generate(self, requests: Iterator[Request]) -> Iterator[Completion | None]:
        """One answer for each request."""
        for request in requests:
            asked = (request.messages or ({"content": ""},))[-1]["content"]
            said = f"{os.getpid()} {os.environ.get('CUDA_VISIBLE_DEVICES', 'all')}"
            if "bad" in asked:
                yield Completion(request.key, error="refused: not this one", attempts=3)
            else:
                yield Completion(request.key, "\ud83d half" if "half" in asked else said, tokens_in=3, tokens_out=2)
            yield None

    def close(self) -> None:
        """Nothing to close."""


@backend("devices")
def open_devices(model: ResolvedModel, runtime: ModelRuntime) -> Devices:
    """Open it."""
    return Devices()
