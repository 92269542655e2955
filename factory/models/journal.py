"""The journal: every finished answer is on disk before it counts.

Each writer appends to its own segment, one JSON object a line, so no two processes share a file. A line is written with
a single write (it survives kill -9) and the segment is fsynced at most once a second (it survives a power cut but for
that second). Reading splits on "\\n" only, since model text may hold any other line separator, and leaves out a torn
last line.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from factory.models.base import Completion

FSYNC_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished answer and the `max_tokens` it was asked with."""

    completion: Completion
    max_tokens: int


def reusable(finish_reason: str, tokens_out: int, asked: int, wanted: int) -> bool:
    """Whether an answer asked with one max_tokens serves another.

    A finished answer serves any limit it fits in; one cut by its limit serves only the same limit.
    """
    if finish_reason == "length":
        return asked == wanted
    return tokens_out <= wanted


class JournalWriter:
    """Appends finished answers to a segment of its own in `folder`."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{os.getpid()}-{uuid.uuid4().hex[:12]}.jsonl"
        self._file: int | None = None
        self._synced = time.monotonic()
        self._dirty = False

    def append(self, completion: Completion, max_tokens: int) -> None:
        """Write one answer; when this returns, a kill cannot lose it."""
        if self._file is None:
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        line = json.dumps({"key": completion.key, "text": completion.text, "finish": completion.finish_reason,
                           "in": completion.tokens_in, "out": completion.tokens_out, "max": max_tokens},
                          ensure_ascii=False, separators=(",", ":"))
        data = line.encode("utf-8", "surrogatepass") + b"\n"
        written = os.write(self._file, data)
        if written != len(data):
            raise OSError(f"{self.path}: only {written} of {len(data)} bytes were written; is the disk full?")
        self._dirty = True
        if time.monotonic() - self._synced >= FSYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        """Bring the segment to the platter."""
        if self._file is not None and self._dirty:
            os.fsync(self._file)
        self._dirty, self._synced = False, time.monotonic()

    def close(self) -> None:
        self.sync()
        if self._file is not None:
            os.close(self._file)
            self._file = None


def read_journal(folder: Path) -> Iterator[tuple[str, Answer]]:
    """(answer key, answer) of every whole line in every segment; a torn tail is passed over."""
    if not folder.is_dir():
        return
    for segment in sorted(folder.glob("*.jsonl")):
        with open(segment, "rb") as file:
            for line in file:  # binary iteration splits on b"\n" alone
                if not line.endswith(b"\n"):
                    break
                try:
                    item = json.loads(line)
                    yield item["key"], Answer(
                        Completion(item["key"], item["text"], item["finish"], item["in"], item["out"]), item["max"])
                except (ValueError, KeyError):
                    continue  # a line damaged by a crash of the machine: its answer is asked again
