"""Answers that exist already: in the journals of a step's family, and in its committed parts.

Answer keys do not depend on ids, recipes or history, so an answer written for one version of a dataset, or for another
dataset of the same family, is found here. Only its text is taken over; the row gets its own id and edge.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import polars as pl

from factory.engine.task import StepCall
from factory.models.base import Completion
from factory.models.journal import Answer, read_journal, reusable
from warehouse import Dataset


class KnownAnswers:
    """Finished answers of a family by answer key (hex)."""

    def __init__(self, call: StepCall, journal_folder: Path):
        self._answers: dict[str, list[Answer]] = {}
        self._committed: dict[str, Answer] = {}
        for key, answer in read_journal(journal_folder):
            self.add(key, answer)
        seen: set[str] = set()
        for manifest in call.warehouse.family(call.family):
            if manifest.kind == "rows":
                self._add_committed(Dataset(call.warehouse.store, manifest, call.warehouse.dataset), seen)

    def _add_committed(self, dataset: Dataset, seen: set[str]) -> None:
        """Answers of committed parts that no journal holds (the journal may be gone; parts are the truth)."""
        asked = int(dataset.manifest.identity["params"].get("max_tokens", 0))
        needed = ["answer_key", "response", "finish_reason", "tokens_in", "tokens_out"]
        fresh = [part for part in dataset.parts("rows") if part.sha256 not in seen]
        seen.update(part.sha256 for part in fresh)
        if not fresh or not set(needed) <= set(dataset.schema()):
            return
        rows = dataset.scan(inherit=False).select(needed).collect()
        for key, response, finish, tokens_in, tokens_out in rows.iter_rows():
            completion = Completion(key.hex(), response, finish, tokens_in, tokens_out)
            self._committed[key.hex()] = Answer(completion, asked if finish == "length" else tokens_out)

    def add(self, key: str, answer: Answer) -> None:
        if answer.completion.error is None and answer.completion.rejected is None:
            self._answers.setdefault(key, []).append(answer)

    def find(self, key: str, max_tokens: int, prefill: str) -> Completion | None:
        """An answer that serves a request for at most `max_tokens`; `prefill` is cut off a committed response."""
        for answer in self._answers.get(key, ()):
            if _serves(answer, max_tokens):
                return answer.completion
        committed = self._committed.get(key)
        if committed is not None and _serves(committed, max_tokens):
            done = committed.completion
            return replace(done, text=done.text.removeprefix(prefill))
        return None


def _serves(answer: Answer, max_tokens: int) -> bool:
    done = answer.completion
    return reusable(done.finish_reason, done.tokens_out, answer.max_tokens, max_tokens)


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
