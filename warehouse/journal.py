"""Finished answers, each on disk before it counts.

Every writer appends to a segment of its own, so no two processes share a file. A line is an answer: a head of fixed
width (answer key, how it ended, max_tokens it was asked with, tokens in and out, CRC), then the text with
its line ends replaced by a byte that UTF-8 never has. A line is written with a single write (it survives kill -9); a
thread fsyncs the segment at most once a second (a power cut loses that second). Only "\\n" ends a line, since model
text may hold any other separator; a torn tail, or a line that a crash of the machine damaged, says nothing and its
answer is asked again.

Because heads have a fixed width, an index of a journal is made by arrays, without looking at a text: 20 bytes for each
answer, whatever its length. Texts are read when they are asked for. What is in one segment is told the same way
(`Segment`), in memory that does not depend on its size.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
import uuid
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

FSYNC_SECONDS = 1.0
SUFFIX = ".journal"
_ENDS = {"stop": b"s", "length": b"l", "content_filter": b"c"}
_NAMES = {code: name for name, code in _ENDS.items()}
_CODES = np.frombuffer(b"".join(_NAMES), dtype=np.uint8)
_KEY, _SUMMED, _HEAD = 64, 99, 108  # hex digits of a key; bytes before the CRC, which sums them too, and the text
_LINE_END = b"\xff"  # no byte of UTF-8, so it stands for "\n" and nothing else needs an escape
_CHUNK = 32 << 20
_SLICE = 20_000  # heads looked at together
_POWERS = 10 ** np.arange(9, -1, -1, dtype=np.int64)
_DIGITS = np.full(256, 16, dtype=np.uint8)
_DIGITS[list(b"0123456789ABCDEF")] = _DIGITS[list(b"0123456789abcdef")] = np.arange(16)


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished answer: `key` is its answer key (64 hex digits), `max_tokens` what it was asked with."""

    key: str
    text: str
    finish_reason: str
    tokens_in: int
    tokens_out: int
    max_tokens: int

    def serves(self, max_tokens: int) -> bool:
        """Whether it is the answer to the same request with another limit: a finished one serves any limit that it
        fits in, one cut by its limit only the same."""
        return serves(self.finish_reason, self.tokens_out, self.max_tokens, max_tokens)


def serves(finish_reason: str, tokens_out: int, asked: int, wanted: int) -> bool:
    """See `Answer.serves`."""
    return asked == wanted if finish_reason == "length" else tokens_out <= wanted


class JournalWriter:
    """Appends finished answers to a segment of its own in `folder`, which is made with the first of them."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._file: int | None = None
        self._dirty = threading.Event()
        self._ended = threading.Event()
        self._error: OSError | None = None
        self._syncer: threading.Thread | None = None

    def append(self, answer: Answer) -> None:
        """Write one answer; when this returns, a kill cannot lose it.

        Raises:
            OSError: the disk is full or was taken away, now or when the second before was synced.
        """
        if self._file is None:
            self._open()
        assert self._file is not None
        text = _escape(answer.text)
        head = b"%b %b %010d %010d %010d" % (
            answer.key.encode(), _ENDS[answer.finish_reason], answer.max_tokens, answer.tokens_in, answer.tokens_out)
        line = b"%b %08x %b\n" % (head, zlib.crc32(text, zlib.crc32(head)), text)
        if self._error is not None:
            raise self._error
        written = os.write(self._file, line)
        if written != len(line):
            raise OSError(f"{self._folder}: only {written} of {len(line)} bytes of an answer were written; is the disk "
                          "full?")
        if not self._dirty.is_set():
            self._dirty.set()

    def _open(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{os.getpid()}-{uuid.uuid4().hex[:12]}{SUFFIX}"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        self._syncer = threading.Thread(target=self._sync_now_and_then, name="journal", daemon=True)
        self._syncer.start()

    def _sync_now_and_then(self) -> None:
        while not self._ended.is_set():
            self._dirty.wait()
            self._dirty.clear()
            try:
                if self._file is not None:
                    os.fdatasync(self._file)
            except OSError as error:
                self._error = error
                return
            self._ended.wait(FSYNC_SECONDS)

    def close(self) -> None:
        """Bring all of it to the platter.

        Raises:
            OSError: it could not be brought there, now or before (a system tells that once: a later sync says nothing).
        """
        if self._file is None or self._syncer is None:
            return
        self._ended.set()
        self._dirty.set()
        self._syncer.join()
        file, self._file = self._file, None
        try:
            if self._error is not None:
                raise self._error
            os.fsync(file)
        finally:
            os.close(file)


class JournalIndex:
    """Where each answer of a folder's segments is, as they were when this was made."""

    def __init__(self, folder: Path):
        self._maps: list[mmap.mmap] = []
        keys, places, segments = [], [], []
        for path in sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []:
            mapped = _map(path)
            if mapped is None:
                continue
            for starts, found in _heads(mapped):
                keys.append(found)
                places.append(starts)
                segments.append(np.full(len(starts), len(self._maps), dtype=np.int32))
            self._maps.append(mapped)
        key = np.concatenate(keys) if keys else np.empty(0, np.uint64)
        order = np.argsort(key, kind="stable")
        self._key = key[order]
        self._place = np.concatenate(places)[order] if places else np.empty(0, np.int64)
        self._segment = np.concatenate(segments)[order] if segments else np.empty(0, np.int32)

    def __len__(self) -> int:
        return len(self._key)

    def find(self, keys: Sequence[str], max_tokens: Sequence[int]) -> dict[str, Answer]:
        """The answers to these keys that serve the limits."""
        if not len(self._key) or not keys:
            return {}
        wanted = np.array([int(key[:16], 16) for key in keys], dtype=np.uint64)
        first = np.searchsorted(self._key, wanted, side="left")
        last = np.searchsorted(self._key, wanted, side="right")
        found: dict[str, Answer] = {}
        for at in np.flatnonzero(first < last).tolist():
            key = keys[at]
            for entry in range(int(first[at]), int(last[at])):
                answer = self._read(int(self._segment[entry]), int(self._place[entry]), key)
                if answer is not None and answer.serves(max_tokens[at]):
                    found[key] = answer
                    break
        return found

    def _read(self, segment: int, start: int, key: str) -> Answer | None:
        mapped = self._maps[segment]
        return _answer(mapped[start:mapped.find(b"\n", start)], key)

    def close(self) -> None:
        """Let go of the files."""
        for mapped in self._maps:
            mapped.close()
        self._maps.clear()


def answers(data: bytes) -> Iterator[Answer]:
    """Every answer in a segment's bytes."""
    for line in data.split(b"\n")[:-1]:
        answer = _answer(line, line[:_KEY].decode("ascii", "replace"))
        if answer is not None:
            yield answer


class Segment:
    """What is in a segment, a file or its bytes, told from its heads; a file is never read whole."""

    def __init__(self, source: Path | bytes):
        self._data = _map(source) if isinstance(source, Path) else source

    def endings(self) -> Iterator[pl.DataFrame]:
        """`answer_key`, `finish_reason`, `tokens_out` and `start` (for `sound`) of every line whose head can be read,
        some thousands at a time. A damaged line is among them where its damage does not show in the head."""
        for starts, _ in _heads(self._data) if self._data else ():
            for low in range(0, len(starts), _SLICE):
                yield self._told(starts[low:low + _SLICE])
            if isinstance(self._data, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
                self._data.madvise(mmap.MADV_DONTNEED)  # what was read stays with the system, not with this process

    def _told(self, starts: np.ndarray[Any, Any]) -> pl.DataFrame:
        assert self._data is not None
        lines = np.lib.stride_tricks.sliding_window_view(np.frombuffer(self._data, dtype=np.uint8), _SUMMED)[starts]
        digits, tokens = _DIGITS[lines[:, :_KEY]], _DIGITS[lines[:, _SUMMED - 10:]]
        good = (digits < 16).all(axis=1) & (tokens < 10).all(axis=1) & np.isin(lines[:, _KEY + 1], _CODES)
        keys = (digits[good, 0::2] << 4 | digits[good, 1::2]).tobytes()
        width = _KEY // 2
        return pl.DataFrame({
            "answer_key": pl.Series([keys[at:at + width] for at in range(0, len(keys), width)], dtype=pl.Binary),
            "finish_reason": pl.Series([_NAMES[bytes([code])] for code in lines[good, _KEY + 1]], dtype=pl.String),
            "tokens_out": tokens[good] @ _POWERS, "start": starts[good].astype(np.int64)})

    def sound(self, start: int) -> bool:
        """Whether the line that starts there is an answer, undamaged."""
        assert self._data is not None
        line = bytes(self._data[start:self._data.find(b"\n", start)])
        return _answer(line, line[:_KEY].decode("ascii", "replace")) is not None

    def close(self) -> None:
        """Let go of the file."""
        if isinstance(self._data, mmap.mmap):
            with contextlib.suppress(BufferError):  # `endings` was left in the middle: it ends with that
                self._data.close()
        self._data = None


def _answer(line: bytes, key: str) -> Answer | None:
    """The answer of a whole line; None when it is damaged or another key's."""
    if not line.startswith(key.encode()) or len(line) < _HEAD + 1:
        return None
    fields, text = line[_KEY + 1:_HEAD].split(b" "), line[_HEAD + 1:]
    try:
        end, limit, tokens_in, tokens_out, crc = fields
        if int(crc, 16) != zlib.crc32(text, zlib.crc32(line[:_SUMMED])):
            return None
        bytes.fromhex(key)
        return Answer(key, _unescape(text), _NAMES[end], int(tokens_in), int(tokens_out), int(limit))
    except (ValueError, KeyError):
        return None


def _map(path: Path) -> mmap.mmap | None:
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (ValueError, FileNotFoundError):  # empty, or gone since it was listed
        return None


def _heads(mapped: mmap.mmap | bytes) -> Iterator[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    """(start of each whole line, first 64 bits of its key), some megabytes at a time."""
    whole = np.frombuffer(mapped, dtype=np.uint8)
    start = 0
    for low in range(0, len(whole), _CHUNK):
        ends = np.flatnonzero(whole[low:low + _CHUNK] == 10) + low
        if not len(ends):
            continue
        starts = np.concatenate([[start], ends[:-1] + 1])
        start = int(ends[-1]) + 1
        starts = starts[ends - starts > _HEAD]
        digits = whole[starts[:, None] + np.arange(16)].astype(np.uint64)
        values = (digits & np.uint64(15)) + np.uint64(9) * (digits >> np.uint64(6))  # of a hex digit
        yield starts, (values << np.arange(60, -4, -4, dtype=np.uint64)).sum(axis=1, dtype=np.uint64)


def _escape(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass").replace(b"\n", _LINE_END)


def _unescape(data: bytes) -> str:
    return data.replace(_LINE_END, b"\n").decode("utf-8", "surrogatepass")
