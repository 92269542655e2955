"""Loading reasoning-gym, which the source and the verifier share without importing one another."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

from factory.engine.errors import MissingExtraError


def load_gym() -> Any:
    """The module `reasoning_gym`. Raises MissingExtraError naming the extra `gym`.

    A dependency of it is compiled with SyntaxWarnings on first import; they are not the user's business.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        try:
            return importlib.import_module("reasoning_gym")
        except ModuleNotFoundError as error:
            raise MissingExtraError(error.name or "reasoning_gym", "gym") from error
