"""Files as a source: JSON lines, a JSON array, CSV or Parquet, given by path or glob.

Planning reads every file once: its sha256 (the source's identity, in order; names are provenance only), where it can
be cut, and the type of every column over all records. Reading one cut needs nothing but its split. A record that
cannot be read or lacks a column costs itself alone; a file that cannot be read, or a column that no record has, stops
the plan. Memory is bounded by one record (64 MB), but for a JSON array, whose text is held as a whole.
"""

from __future__ import annotations

import glob
import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from factory.engine.errors import DataError
from factory.engine.op import Kind, PlanContext, Record, SourcePlan, op
from factory.sources.formats import Row, holds_array, read_array, read_csv, read_header, read_jsonl
from factory.sources.shape import RecordParams, Shape, Survey
from factory.sources.tables import declared, parquet_schema, read_parquet

SHARD_ROWS = 2048
SHARD_BYTES = 64 << 20
SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".parquet": "parquet",
            ".pq": "parquet"}


class FilesParams(RecordParams):
    """Which files, beside what is taken from them. Relative paths and globs start at the recipe's folder; a glob's
    files are sorted by name. `format: auto` goes by the suffix (before `.gz`)."""

    paths: tuple[str, ...]
    format: Literal["auto", "jsonl", "parquet", "csv"] = "auto"


@dataclass(frozen=True, slots=True)
class Found:
    """A file of a source. `origin` is its name as given, `size`, `mtime_ns` and `sha256` tell a changed file."""

    path: str
    origin: str
    format: str
    size: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Cut:
    """A run of records in one file: positions (bytes, or rows of Parquet), the line at `start`."""

    start: int
    stop: int
    line: int
    rows: int


@op("source.files", version=1, kind=Kind.SOURCE, params=FilesParams, provenance=("paths", "format", "license"))
class FilesSource:
    """Read records from JSON lines, JSON arrays, CSV and Parquet files."""

    def __init__(self, shard_rows: int = SHARD_ROWS, shard_bytes: int = SHARD_BYTES):
        self.shard_rows, self.shard_bytes = shard_rows, shard_bytes

    def plan(self, params: FilesParams, ctx: PlanContext) -> SourcePlan:
        """Digest, cut and type the files.

        Raises:
            DataError: a file is missing or unreadable, a column exists in no record, or there are no records at all.
        """
        survey, left, fault = Survey(params), ctx.limit, ""
        found: list[Found] = []
        cuts: list[tuple[Found, Cut, list[str]]] = []
        good = 0
        for path, origin in _resolve(params.paths, ctx.base_dir):
            if left == 0:
                break
            file = _look(path, origin, params.format)
            found.append(file)
            header, body, line = read_header(path) if file.format == "csv" else ([], 0, 1)
            before = sum(cut.rows for _, cut, _ in cuts)
            if file.format == "parquet":
                kept, first_fault, readable = self._plan_table(file, survey, left), "", 1
            else:
                kept, first_fault, readable = self._plan_text(file, survey, left, Cut(body, body, line, 0), header)
            cuts += ((file, cut, header) for cut in kept)
            good, fault = good + readable, fault or first_fault
            left = None if left is None else left - (sum(cut.rows for _, cut, _ in cuts) - before)
        source = ", ".join(file.origin for file in found[:3]) + (", …" if len(found) > 3 else "")
        if not cuts:
            raise DataError(f"{source or 'the source'} holds no records: expected at least one.")
        if not good:
            raise DataError(f"{source}: no record can be read; the first fault is {fault}. Check `format` and the "
                            "file's encoding.")
        shape = survey.finish(source)
        identity: dict[str, Any] = {"files": [file.sha256 for file in found],
                                    "formats": [file.format for file in found]}
        if ctx.limit is not None:
            identity["limit"] = ctx.limit
        splits = tuple({"file": asdict(file), "cut": asdict(cut), "header": header, "shape": shape.to_json()}
                       for file, cut, header in cuts)
        return SourcePlan(identity, splits, shape.schema(), params.license)

    def _plan_table(self, file: Found, survey: Survey, left: int | None) -> list[Cut]:
        schema, rows, row_bytes = parquet_schema(Path(file.path), file.origin)
        for name, kind in declared(schema, file.origin, survey.wanted).items():
            survey.declare(name, kind)
        rows = rows if left is None else min(rows, left)
        step = max(1, min(self.shard_rows, self.shard_bytes // max(1, row_bytes)))
        return [Cut(at, min(at + step, rows), at + 1, min(step, rows - at)) for at in range(0, rows, step)]

    def _plan_text(self, file: Found, survey: Survey, left: int | None, cut: Cut,
                   header: list[str]) -> tuple[list[Cut], str, int]:
        """Cuts, the first fault, and how many records are good."""
        cuts: list[Cut] = []
        start, line, rows, good, fault = cut.start, cut.line, 0, 0, ""
        for name in header:
            survey.declare(name, "null")
        last = None
        for row in islice(_rows(file, cut, header, None, whole=True), left):
            rows, last = rows + 1, row
            if row.values is not None:
                good += 1
                survey.add(row.values)
            elif row.fault:
                fault = fault or f"{row.fault[0]}: {_place(file, row.line)}: {row.fault[1]}"
            if rows >= self.shard_rows or row.end - start >= self.shard_bytes:
                cuts.append(Cut(start, row.end, line, rows))
                start, line, rows, last = row.end, row.after, 0, None
        if last is not None:
            cuts.append(Cut(start, last.end, line, rows))
        return cuts, fault, good

    def read(self, split: dict[str, Any], params: FilesParams) -> Iterator[Record]:
        """The records of one split.

        Raises:
            DataError: the file is gone or has changed since the plan was made.
        """
        file, cut, shape = Found(**split["file"]), Cut(**split["cut"]), Shape.from_json(split["shape"])
        _check_unchanged(file)
        wanted = {*shape.columns.values(), *([shape.id] if shape.id is not None else [])}
        for row in _rows(file, cut, split["header"], wanted):
            place = _place(file, row.line)
            if row.values is not None:
                yield shape.record(row.values, file.origin, row.line, place)
            else:
                code, text = row.fault or ("unreadable", "no value")
                yield Record(None, file.origin, row.line, failed=f"{code}: {place}: {text}")


def _rows(file: Found, cut: Cut, header: list[str], wanted: set[str] | None, whole: bool = False) -> Iterator[Row]:
    path, stop = Path(file.path), None if whole else cut.stop
    try:
        if file.format == "parquet":
            yield from read_parquet(path, file.origin, cut.start, cut.stop, wanted)
        elif file.format == "csv":
            yield from read_csv(path, cut.start, stop, cut.line, header)
        elif file.format == "array":
            yield from read_array(path, cut.start, stop, cut.line)
        else:
            yield from read_jsonl(path, cut.start, stop, cut.line)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{file.origin} cannot be read ({error}): fetch it again, or check its rights.") from None


def _place(file: Found, line: int) -> str:
    return f"{file.origin}: row {line}" if file.format in ("array", "parquet") else f"{file.origin}:{line}"


def _resolve(patterns: tuple[str, ...], base: Path) -> list[tuple[Path, str]]:
    """Absolute paths and the names they were given by, in order."""
    files: dict[Path, str] = {}
    for pattern in patterns:
        path = base / pattern
        if path.is_dir():
            raise DataError(f"{pattern} is a folder: name files in it, for example {pattern.rstrip('/')}/*.jsonl.")
        names = [pattern]
        if not path.exists():
            if not glob.has_magic(pattern):
                raise DataError(f"{pattern} does not exist (looked in {path.parent.absolute()}): check `paths`; "
                                "relative ones start at the recipe's folder.")
            matches = glob.glob(pattern, root_dir=base, recursive=True)
            names = sorted(name for name in matches if (base / name).is_file())
            if not names:
                raise DataError(f"no file matches {pattern} (looked in {base.absolute()}): check `paths`; relative "
                                "ones start at the recipe's folder.")
        for name in names:
            real = (base / name).absolute()
            if real in files:
                raise DataError(f"{name} is named twice in `paths`, so its rows would count twice: name it once.")
            files[real] = name
    return list(files.items())


def _look(path: Path, origin: str, wanted: str) -> Found:
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    kind = SUFFIXES.get(suffix) if wanted == "auto" else wanted
    if kind is None:
        raise DataError(f"{origin}: no format is known for the suffix {suffix!r}: expected one of "
                        f"{', '.join(SUFFIXES)} (text also with .gz), or set `format`.")
    try:
        facts = path.stat()
        if kind == "jsonl" and suffix == ".json" and holds_array(path):
            kind = "array"
        return Found(str(path), origin, kind, facts.st_size, facts.st_mtime_ns, _digest(path))
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{origin} cannot be read ({error}): fetch it again, or check its rights.") from None


def _digest(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check_unchanged(file: Found) -> None:
    path = Path(file.path)
    try:
        facts = path.stat()
    except OSError:
        raise DataError(f"{file.origin} is gone (looked at {path}): put it back, then run again.") from None
    same = facts.st_size == file.size and (facts.st_mtime_ns == file.mtime_ns or _digest(path) == file.sha256)
    if not same:
        raise DataError(f"{file.origin} has changed since the plan was made: run again, which plans anew.")
