"""Answers that exist already: in the journals of a step's family, and in its committed parts.

Answer keys do not depend on ids, recipes or history, so an answer written for one version of a dataset, or for another
dataset of the same family, is found here. Only its text is taken over; the row gets its own id and edge. What is kept
in memory is where each answer lies, 20 bytes for each; texts are read for a shard at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from factory.engine.op import Ask
from factory.engine.task import StepCall
from factory.models.base import Completion
from warehouse import Dataset
from warehouse.dataset import unpack_schema
from warehouse.journal import Answer, JournalIndex
from warehouse.objectstore import Store
from warehouse.parts import read_part
from warehouse.records import Manifest, Part

_COLUMNS = ("answer_key", "response", "finish_reason", "tokens_in", "tokens_out")


class KnownAnswers:
    """Finished answers of a family by answer key (hex)."""

    def __init__(self, call: StepCall, journal_folder: Path):
        self._journals = JournalIndex(journal_folder)
        self._committed = _Committed(call.warehouse.store, call.warehouse.family(call.family))

    def find(self, keys: Sequence[str], asks: Sequence[Ask]) -> dict[str, Completion]:
        """Answers that serve these questions. The parts are the truth, the journals are faster and may be gone."""
        limits = [ask.max_tokens for ask in asks]
        found = self._journals.find(keys, limits)
        left = [index for index, key in enumerate(keys) if key not in found]
        found |= self._committed.find([(keys[index], asks[index]) for index in left])
        return {key: Completion(key, answer.text, answer.finish_reason, answer.tokens_in, answer.tokens_out)
                for key, answer in found.items()}

    def close(self) -> None:
        """Let go of the journals."""
        self._journals.close()


class _Committed:
    """Where the answers of committed parts lie."""

    def __init__(self, store: Store, family: Sequence[Manifest]):
        self._store = store
        self._parts: list[tuple[Part, int]] = []
        heads, seen = [], set[str]()
        for manifest in family:  # the oldest first: it made the part, with its own max_tokens
            packed = manifest.schemas.get("rows")
            if manifest.kind != "rows" or packed is None or not set(_COLUMNS) <= set(unpack_schema(packed)):
                continue
            asked = int(manifest.identity["params"].get("max_tokens", 0))
            for part in manifest.tables.get("rows", []):
                if part.rows and part.sha256 not in seen:
                    seen.add(part.sha256)
                    keys = read_part(store, part, ["answer_key"])["answer_key"]
                    heads.append(keys.bin.slice(0, 8).bin.reinterpret(dtype=pl.UInt64, endianness="big").to_numpy())
                    self._parts.append((part, asked))
        head = np.concatenate(heads) if heads else np.empty(0, np.uint64)
        order = np.argsort(head, kind="stable")
        self._head = head[order]
        lengths = [len(each) for each in heads]
        numbers = [np.full(length, number, np.int32) for number, length in enumerate(lengths)]
        rows = [np.arange(length, dtype=np.int32) for length in lengths]
        self._part = (np.concatenate(numbers) if numbers else np.empty(0, np.int32))[order]
        self._row = (np.concatenate(rows) if rows else np.empty(0, np.int32))[order]

    def _places(self, keys: Sequence[str]) -> tuple[list[int], list[int]]:
        heads = np.array([int(key[:16], 16) for key in keys], dtype=np.uint64)
        return (np.searchsorted(self._head, heads, side="left").tolist(),
                np.searchsorted(self._head, heads, side="right").tolist())

    def find(self, wanted: Sequence[tuple[str, Ask]]) -> dict[str, Answer]:
        if not len(self._head) or not wanted:
            return {}
        first, last = self._places([key for key, _ in wanted])
        asks = {key: ask for (key, ask), low, high in zip(wanted, first, last, strict=True) if low < high}
        places = [entry for low, high in zip(first, last, strict=True) for entry in range(low, high)]
        found: dict[str, Answer] = {}
        for number in np.unique(self._part[places]) if places else ():
            rows = self._row[[entry for entry in places if self._part[entry] == number]]
            for answer in self._read(int(number), rows):
                ask = asks.get(answer.key)
                if ask is not None and answer.serves(ask.max_tokens) and answer.text.startswith(ask.prefill):
                    found[answer.key] = Answer(answer.key, answer.text.removeprefix(ask.prefill), answer.finish_reason,
                                               answer.tokens_in, answer.tokens_out, answer.max_tokens)
        return found

    def _read(self, number: int, rows: np.ndarray[Any, Any]) -> list[Answer]:
        part, asked = self._parts[number]
        frame = read_part(self._store, part, _COLUMNS).select(_COLUMNS)[rows]
        return [Answer(key.hex(), response, finish, tokens_in, tokens_out, asked)
                for key, response, finish, tokens_in, tokens_out in frame.iter_rows()]


def standing_rows(base: Dataset, input_ids: pl.Series, wanted: Mapping[str, int]) -> pl.DataFrame:
    """Rows of an earlier version that still serve: `row_id`, parent `row_id` and `slot`.

    A row stands when its parent is still an input, its slot is below `wanted["n"]`, and, for answers, when it fits
    `wanted["max_tokens"]`; what is not in `wanted` bounds nothing.
    """
    rows = base.scan(inherit=False)
    names = rows.collect_schema().names()
    columns = ["row_id", *(name for name in ("finish_reason", "tokens_out") if name in names)]
    edges = base.table("row_lineage").select(pl.col("child_row_id").alias("row_id"),
                                             pl.col("parent_row_id").alias("parent"), "slot")
    frame = rows.select(columns).join(edges, on="row_id").collect()
    frame = frame.filter(pl.col("parent").is_in(input_ids.implode()))
    if "n" in wanted:
        frame = frame.filter(pl.col("slot") < wanted["n"])
    if "max_tokens" in wanted and "finish_reason" in frame.columns:
        limit = wanted["max_tokens"]
        asked = int(base.manifest.identity["params"].get("max_tokens", 0))
        cut = pl.col("finish_reason") == "length"
        frame = frame.filter(pl.when(cut).then(pl.lit(asked == limit)).otherwise(pl.col("tokens_out") <= limit))
    return frame.select("row_id", "parent", "slot")
