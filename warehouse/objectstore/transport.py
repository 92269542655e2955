"""Asking an object store over a network: what an error means, and how long to go on asking.

Three kinds matter. *Absent* and *taken* are answers. A *transient* error (5xx, too many requests, a connection that
broke or timed out) says nothing about whether the request was carried out: it is asked again, with a growing pause, for
as long as `patience`. Everything else is for a person to mend, and is raised at once.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from warehouse.errors import WarehouseError

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 5.0
_STATUS = re.compile(r"status code: (\d{3})")
_AGAIN = frozenset({408, 409, 425, 429})
_OURS = ("builder error", "BadScheme", "relative URL", "MissingCredential")


class Transient(Exception):
    """The request may or may not have been carried out; asking again may help."""


def brief(error: BaseException) -> str:
    """An error's first line: object stores answer in pages."""
    return str(error).split("\n", 1)[0].strip()[:400]


def status(error: BaseException) -> int | None:
    """The HTTP status that an error tells of."""
    found = _STATUS.search(str(error))
    return int(found[1]) if found else None


def is_transient(error: BaseException) -> bool:
    """Whether asking again may help."""
    code = status(error)
    if code is not None:
        return code in _AGAIN or (code >= 500 and code != 501)
    return not any(word in str(error) for word in _OURS)


@dataclass(frozen=True)
class Patience:
    """How an object store is asked: until it answers, or `seconds` are over."""

    root: str
    seconds: float

    def ask(self, what: str, request: Callable[[], T]) -> T:
        """The answer to a request that may be repeated.

        Absence comes back as FileNotFoundError, a taken name as obstore's AlreadyExistsError.

        Raises:
            WarehouseError: the store refuses, or did not answer for too long.
        """
        began, pause = time.monotonic(), FIRST_PAUSE
        while True:
            try:
                return self.once(what, request)
            except Transient as error:
                pause = self.wait(what, began, pause, error)

    def wait(self, what: str, began: float, pause: float, error: Transient) -> float:
        """Sleep for about `pause` seconds; the next pause. Raises WarehouseError when patience is over."""
        if time.monotonic() - began + pause > self.seconds:
            raise WarehouseError(f"{self.root} did not {what} for {self.seconds:.0f} s ({error}): see that it can be "
                                 "reached, then run again: what was finished is kept") from error
        time.sleep(pause * random.uniform(0.5, 1.0))
        return min(pause * 2, LONGEST_PAUSE)

    def once(self, what: str, request: Callable[[], T]) -> T:
        """One request. Raises Transient, WarehouseError, FileNotFoundError or AlreadyExistsError."""
        from obstore.exceptions import (
            AlreadyExistsError,
            BaseError,
            NotSupportedError,
            PermissionDeniedError,
            UnauthenticatedError,
        )

        try:
            return request()
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise self._no_bucket() from error
            raise
        except AlreadyExistsError:
            raise
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise WarehouseError(f"{self.root} does not let us {what} ({brief(error)}): set AWS_ACCESS_KEY_ID and "
                                 "AWS_SECRET_ACCESS_KEY, or a role that may") from error
        except (BaseError, OSError) as error:
            if "NoSuchBucket" in str(error):
                raise self._no_bucket() from error
            if status(error) == 501 or isinstance(error, NotSupportedError):
                raise WarehouseError(f"{self.root} cannot {what} ({brief(error)}): use a store with conditional "
                                     "writes, or a local folder") from error
            if is_transient(error):
                raise Transient(brief(error)) from error
            raise WarehouseError(f"{self.root} refused to {what} ({brief(error)}): check AWS_ENDPOINT_URL, "
                                 "AWS_ALLOW_HTTP (for http://), AWS_REGION and the credentials") from error

    def _no_bucket(self) -> WarehouseError:
        return WarehouseError(f"{self.root}: its bucket does not exist: create it, or name another")
