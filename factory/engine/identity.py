"""Identity: what makes two steps, or two answers, the same.

A fingerprint is the sha256 of a canonical JSON document: op, version, params, seed, the fingerprints of the inputs. It
never holds a path, host, date, worker or shard count. The encoder refuses what has no stable form, because a default
`repr` would make every run look new. `SCHEME` is part of the document; it changes when the encoding does.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from pydantic import BaseModel

SCHEME = 1


def canonical(value: Any, at: str = "$") -> Any:
    """A value as plain JSON types with one possible spelling; TypeError names what has none."""
    if value is None or isinstance(value, bool | str | int):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"{at}: {value} has no stable form")
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, BaseModel):
        return canonical(value.model_dump(mode="python"), at)
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"{at}: a mapping with keys that are not text has no stable form")
        return {key: canonical(value[key], f"{at}.{key}") for key in sorted(value)}
    if isinstance(value, Sequence):
        return [canonical(item, f"{at}[{index}]") for index, item in enumerate(value)]
    raise TypeError(f"{at}: {type(value).__name__} has no stable form; use plain JSON types")


def canonical_json(value: Any) -> bytes:
    """The bytes that are hashed."""
    return json.dumps(canonical(value), sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def digest(value: Any) -> str:
    """sha256 hex of the canonical JSON of a value."""
    return hashlib.sha256(canonical_json({"scheme": SCHEME, "value": value})).hexdigest()


class AnswerKeys:
    """Makes answer keys for one step.

    A key is sha256 of {model, rendered request without max_tokens, sampling, seed, prompt row_key + occurrence, sample
    index}. What is constant over a step is hashed once.
    """

    def __init__(self, model_identity: Any, seed: int):
        self._head = hashlib.sha256(canonical_json({"scheme": SCHEME, "model": model_identity, "seed": seed}))

    def request(self, request: Mapping[str, Any]) -> Any:
        """What all samples of one request share; `request` holds the messages or prompt and the sampling settings."""
        state = self._head.copy()
        state.update(json.dumps(request, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode(
            "utf-8", "surrogatepass"))
        return state

    def sample(self, request: Any, row_key: bytes, occurrence: int, slot: int) -> str:
        """The key (hex) of one answer to a request."""
        state = request.copy()
        state.update(b"\0%b\0%d\0%d" % (row_key, occurrence, slot))
        return str(state.hexdigest())

    def key(self, request: Mapping[str, Any], row_key: bytes, occurrence: int, slot: int) -> str:
        """The key (hex) of one answer."""
        return self.sample(self.request(request), row_key, occurrence, slot)


def seed_of(answer_key: str) -> int:
    """The 63-bit sampling seed of an answer: never the row id, worker, order or history."""
    return int(answer_key[:16], 16) >> 1


def difference(old: Any, new: Any, at: str = "") -> list[tuple[str, Any, Any]]:
    """Where two identity documents differ: (field, old value, new value), in field order."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        found = []
        for key in sorted({*old, *new}):
            place = f"{at}.{key}" if at else key
            if (key in old) == (key in new):
                found += difference(old[key], new[key], place)
            else:
                found.append((place, old.get(key), new.get(key)))
        return found
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [item for index, (a, b) in enumerate(zip(old, new, strict=True))
                for item in difference(a, b, f"{at}[{index}]")]
    same = old == new and isinstance(old, bool) == isinstance(new, bool)
    return [] if same else [(at, old, new)]
