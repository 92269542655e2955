"""Files of text as a stream of raw records: JSON lines, one JSON array, CSV; plain or gzip.

A reader walks from one byte position to another and yields a `Row` per record: where it ends, what it holds or the
fault that makes it unreadable. A fault never ends the walk, and no record depends on the one before it, so cutting a
file at any row's `end` gives the same records. Positions in a gzip file count uncompressed bytes.

Lines end at `\\n` only: U+2028, U+0085 and a bare `\\r` are characters of a text (RFC 8259 allows all three in a JSON
string). A byte-order mark at the start of a file is skipped, blank lines are no records.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from factory.engine.errors import DataError

MAX_RECORD = 64 << 20
"""Bytes of the longest record that is read; longer ones fail, so that memory stays bounded."""

BOM = b"\xef\xbb\xbf"
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_BLANK = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


class Row(NamedTuple):
    """One raw record. `line` is its first line (in an array or table: its number), `end` the position after it and
    `after` the line there; either `values` is set or `fault` ("code", "text")."""

    line: int
    end: int
    after: int
    values: dict[str, Any] | None
    fault: tuple[str, str] | None = None


def open_stream(path: Path) -> BinaryIO:
    """Open for reading bytes; gzip is known by its first two bytes, not by the name."""
    with open(path, "rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.GzipFile(path)) if packed else open(path, "rb", buffering=1 << 20)


_PARKED: dict[tuple[str, int, int, int], BinaryIO] = {}


@contextmanager
def _opened(path: Path, start: int, stop: int | None) -> Iterator[BinaryIO]:
    """The file at `start`. Gzip has no way to jump, so a stream read up to `stop` is kept, one per process, for who
    goes on from there: without it, reading all runs of a file in order would unpack it once per run."""
    known = (str(path), path.stat().st_mtime_ns, os.getpid())
    stream = _PARKED.pop((*known, start), None)
    if stream is None:
        stream = open_stream(path)
        stream.seek(start)
    try:
        yield stream
    finally:
        while _PARKED:
            _PARKED.popitem()[1].close()
        if isinstance(stream, gzip.GzipFile) and stop is not None and stream.tell() == stop:
            _PARKED[(*known, stop)] = stream
        else:
            stream.close()


def holds_array(path: Path) -> bool:
    """Whether the first character of the file that is not blank is `[`."""
    with open_stream(path) as stream:
        return stream.read(4096).removeprefix(BOM).lstrip()[:1] == b"["


def read_jsonl(path: Path, start: int = 0, stop: int | None = None, line: int = 1) -> Iterator[Row]:
    """JSON lines from byte `start`, where line `line` begins, to `stop`."""
    with _opened(path, start, stop) as stream:
        for number, end, raw in _lines(stream, start, stop, line):
            if raw is None:
                yield Row(number, end, number + 1, None, ("too_long", f"the line is longer than {MAX_RECORD} bytes"))
            elif raw.strip(b" \t\r\n"):
                values, fault = _parse_object(raw)
                yield Row(number, end, number + 1, values, fault)


def _lines(stream: BinaryIO, start: int, stop: int | None, line: int) -> Iterator[tuple[int, int, bytes | None]]:
    position = start
    while stop is None or position < stop:
        raw: bytes | None = stream.readline(MAX_RECORD + 1)
        if not raw:
            return
        position += len(raw)
        if len(raw) > MAX_RECORD:
            piece = raw
            while piece and not piece.endswith(b"\n"):
                piece = stream.readline(1 << 20)
                position += len(piece)
            raw = None
        elif position == len(raw):
            raw = raw.removeprefix(BOM)
        yield line, position, raw
        line += 1


def _parse_object(raw: bytes) -> tuple[dict[str, Any] | None, tuple[str, str] | None]:
    try:
        value = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        return None, ("invalid_utf8", f"byte {error.start + 1} of the line is no UTF-8")
    except (ValueError, RecursionError) as error:
        return None, ("broken_json", _explain(error))
    return check_object(value, _SURROGATE.search(raw) is not None)


def _explain(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos + 1}"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


def check_object(value: Any, suspect: bool) -> tuple[dict[str, Any] | None, tuple[str, str] | None]:
    """The value if it is an object of valid Unicode, else the fault. `suspect`: it was written with `\\ud…` escapes,
    which may be half a pair."""
    if not isinstance(value, dict):
        return None, ("not_an_object", f"expected a JSON object, found {type(value).__name__}")
    if suspect:
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            return None, ("invalid_utf8", f"a lone surrogate \\u{ord(error.object[error.start]):04x}")
    return value, None


def read_array(path: Path, start: int = 0, stop: int | None = None, number: int = 1) -> Iterator[Row]:
    """The objects of one JSON array, as rows counted from 1. The text from `start` to `stop` is held in memory.

    Raises:
        DataError: the array itself is broken: unlike a broken line, nothing after the fault can be trusted.
    """
    with _opened(path, start, stop) as stream:
        raw = stream.read() if stop is None else stream.read(stop - start)
    lead = len(BOM) if start == 0 and raw.startswith(BOM) else 0
    try:
        text = raw[lead:].decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {start + lead + error.start + 1} is no UTF-8: save the file as UTF-8.") from None
    position, counted, at = start + lead, 0, 0
    if number == 1:
        at = _skip_blanks(text, 0) + 1
    while True:
        begin = _skip_blanks(text, at)
        if begin == len(text) and stop is not None:
            return
        if text[begin:begin + 1] == "]":
            if text[_skip_blanks(text, begin + 1):]:
                raise DataError(f"{path}: text goes on after the array: expected one JSON array, or JSON lines.")
            return
        if number > 1:
            if text[begin:begin + 1] != ",":
                raise DataError(f"{path}: row {number}: expected ',' or ']' after row {number - 1} of the JSON array.")
            begin = _skip_blanks(text, begin + 1)
        try:
            value, after = _DECODER.raw_decode(text, begin)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else _explain(error)
            raise DataError(f"{path}: row {number} of the JSON array is broken: {reason}. Mend it, or write the file "
                            "as JSON lines, where a broken row costs no other.") from None
        position, counted = position + len(text[counted:after].encode("utf-8")), after
        suspect = "\\u" in text[begin:after]
        yield Row(number, position, number + 1, *check_object(value, suspect))
        at, number = after, number + 1


def _skip_blanks(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    return match.end() if match else at


class _Feed:
    """Decoded lines for `csv.reader`, which takes exactly the lines of one record before it yields it; so after each
    record `position` is where the next one begins."""

    def __init__(self, stream: BinaryIO, start: int, stop: int | None, line: int):
        self._lines = _lines(stream, start, stop, line)
        self.position, self.line = start, line - 1

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        self.line, self.position, raw = next(self._lines)
        if raw is None:
            raise csv.Error(f"a line is longer than {MAX_RECORD} bytes")
        return raw.decode("utf-8", "surrogateescape")


def read_header(path: Path) -> tuple[list[str], int, int]:
    """The column names of a CSV file, the position and the line after them; no names if the file is empty.

    Raises:
        DataError: a name stands twice, or the line cannot be read.
    """
    with open_stream(path) as stream:
        feed = _Feed(stream, 0, None, 1)
        try:
            header = next(csv.reader(feed, strict=True), [])
            "".join(header).encode("utf-8")
        except (csv.Error, UnicodeEncodeError) as error:
            raise DataError(f"{path}:1: the header cannot be read ({error}): expected comma-separated UTF-8.") from None
        for name in header:
            if header.count(name) > 1:
                raise DataError(f"{path}:1: column {name!r} stands twice: rename one.")
        return header, feed.position, feed.line + 1


def read_csv(path: Path, start: int, stop: int | None, line: int, header: Sequence[str]) -> Iterator[Row]:
    """Records of a comma-separated file (RFC 4180): every value is text, an empty cell is null."""
    csv.field_size_limit(max(csv.field_size_limit(), MAX_RECORD))
    with _opened(path, start, stop) as stream:
        feed = _Feed(stream, start, stop, line)
        reader = csv.reader(feed, strict=True)
        while True:
            first = feed.line + 1
            try:
                cells = next(reader, None)
            except csv.Error as error:
                yield Row(first, feed.position, feed.line + 1, None, ("broken_csv", str(error)))
                continue
            if cells is None:
                return
            if cells:
                yield Row(first, feed.position, feed.line + 1, *_parse_cells(cells, header))


def _parse_cells(cells: list[str], header: Sequence[str]) -> tuple[dict[str, Any] | None, tuple[str, str] | None]:
    if len(cells) != len(header):
        code = "short_row" if len(cells) < len(header) else "long_row"
        return None, (code, f"{len(cells)} cells under {len(header)} column names")
    for name, cell in zip(header, cells, strict=True):
        if not cell.isascii():
            try:
                cell.encode("utf-8")
            except UnicodeEncodeError as error:
                return None, ("invalid_utf8", f"character {error.start + 1} of column {name!r} is no UTF-8")
    return {name: cell or None for name, cell in zip(header, cells, strict=True)}, None
