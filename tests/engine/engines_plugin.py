"""A backend that answers with the devices that its process may see."""

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
            yield Completion(request.key, f"{os.getpid()} {os.environ.get('CUDA_VISIBLE_DEVICES', 'all')}")
            yield None

    def close(self) -> None:
        """Nothing to close."""


@backend("devices")
def open_devices(model: ResolvedModel, runtime: ModelRuntime) -> Devices:
    """Open it."""
    return Devices()
