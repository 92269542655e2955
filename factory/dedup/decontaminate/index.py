"""The index of a set of benchmarks for one n: built once per content, kept on disk, mapped by every worker.

Documents (rows of `schemas.ITEMS`) have their text, their words and their n-grams; equal n-grams are one entry with
postings (document, place). `documents` per entry says in how many items the n-gram stands: one in many items is a
phrase of the benchmark rather than a mark of one problem.

On disk it is a folder named by the digest of the items, n and FORMAT: one .npy per array, written elsewhere and
renamed, so that two workers that build at once do no harm; a checksum tells a damaged one. Arrays are mapped
read-only: the workers of a machine share one copy of the pages.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import xxhash

from .items import digest_items
from .schemas import ITEMS

FORMAT = "1"
"""Changed with what the arrays mean."""


@dataclass(frozen=True)
class Index:
    """`items`, one row per document; `data`, `text_at`: their UTF-8. Words: `hashes`, `starts`, `ends` (bytes from
    the document's begin), `chars_at`, `chars_to` (code points), document d's at word_at[d]:word_at[d + 1]; `lettered`
    counts the words before each that are more than digits. Distinct
    n-grams: `values`, `documents`; postings of entry e at post_at[e]:post_at[e + 1]: `post_document`, `post_word`.
    `bloom`, `slots`: see `grams`."""

    items: pl.DataFrame
    n: int
    data: npt.NDArray[np.uint8]
    text_at: npt.NDArray[np.int64]
    hashes: npt.NDArray[np.uint64]
    starts: npt.NDArray[np.int32]
    ends: npt.NDArray[np.int32]
    chars_at: npt.NDArray[np.int32]
    chars_to: npt.NDArray[np.int32]
    word_at: npt.NDArray[np.int64]
    lettered: npt.NDArray[np.int32]
    values: npt.NDArray[np.uint64]
    documents: npt.NDArray[np.int32]
    post_at: npt.NDArray[np.int64]
    post_document: npt.NDArray[np.int32]
    post_word: npt.NDArray[np.int32]
    bloom: npt.NDArray[np.uint64]
    slots: npt.NDArray[np.int32]

    @property
    def bytes(self) -> int:
        """Memory of the arrays."""
        return sum(getattr(self, name).nbytes for name in _ARRAYS)

    @property
    def too_short(self) -> int:
        """Documents with fewer than n words: no n-gram of theirs exists, only exact and near matches find them."""
        return int((np.diff(self.word_at) < self.n).sum())


_ARRAYS = tuple(field.name for field in fields(Index) if field.name not in ("items", "n"))
_READY: dict[str, Index] = {}
_MOST_READY = 4


def open_index(items: pl.DataFrame, n: int, cache: Path | None = None) -> Index:
    """The index of these items: from this process's memory, else from the folder `cache`, else built (and kept there).

    Raises:
        ValueError: n is below 1.
    """
    if n < 1:
        raise ValueError(f"n is {n}: an n-gram has at least one word")
    from factory.text.tables import VERSION

    key = f"{FORMAT}-{VERSION}-n{n}-{digest_items(items)}"
    if key not in _READY:
        if len(_READY) >= _MOST_READY:
            _READY.pop(next(iter(_READY)))
        _READY[key] = _stored(items, n, cache / key) if cache is not None else build_index(items, n)
    return _READY[key]


def _stored(items: pl.DataFrame, n: int, folder: Path) -> Index:
    """The index in `folder`, made there if it is missing or is not what was written (a disk that was full, a crash)."""
    arrays = _mapped(folder)
    if arrays is None:
        built = build_index(items, n)
        with contextlib.suppress(OSError):  # no room, no right to write: the index is in memory
            shutil.rmtree(folder, ignore_errors=True)
            _store(built, folder)
        arrays = _mapped(folder)
        if arrays is None:
            return built
    return Index(items=items.select(ITEMS.names()), n=n, **arrays)


def _mapped(folder: Path) -> dict[str, npt.NDArray[Any]] | None:
    try:
        arrays = {name: freeze(np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r"))) for name in _ARRAYS}
        written = (folder / "sum").read_text("ascii")
    except (OSError, ValueError):
        return None
    return arrays if written == _sum(arrays) else None


def _sum(arrays: dict[str, npt.NDArray[Any]]) -> str:
    hasher = xxhash.xxh3_128()
    for name in _ARRAYS:
        hasher.update(f"{name} {arrays[name].dtype} {len(arrays[name])} ".encode())
        hasher.update(np.ascontiguousarray(arrays[name]).view(np.uint8).data)
    return hasher.hexdigest()


def _store(index: Index, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".draft-"))
    try:
        for name in _ARRAYS:
            np.save(draft / f"{name}.npy", getattr(index, name), allow_pickle=False)
        (draft / "sum").write_text(_sum({name: getattr(index, name) for name in _ARRAYS}), "ascii")
        with contextlib.suppress(OSError):  # another worker was first
            os.rename(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def freeze(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Read-only, since numba compiles a kernel anew for a writable array."""
    array.flags.writeable = False
    return array


def build_index(items: pl.DataFrame, n: int) -> Index:
    """The index, in memory."""
    from .indexing import index_arrays

    items = items.select(ITEMS.names())
    return Index(items=items, n=n, **{name: freeze(array) for name, array in index_arrays(items["text"], n).items()})
