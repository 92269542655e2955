"""dedup.minhash: rows with nearly the same text.

Similarity is the Jaccard index of the sets of word n-grams (`near.shingle`; characters count as words in scripts that
are written without spaces). MinHash signatures with banded LSH (Broder 1997) only propose pairs; every proposed pair is
then measured exactly on the shingle sets, and pairs at or above `floor` are stored with that figure, so no estimate
ever enters a table.

With b bands of r rows (Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", section 3.4.2) a pair of similarity s
is proposed with probability 1 - (1 - s^r)^b. The op takes the largest r whose probability at the floor is at least
0.95, with as many bands as the permutations give. The defaults (floor 0.7, 128 permutations) give r = 5, b = 25: 0.990
at 0.7, 0.9999 at 0.8. In scopes of at most 129 nodes, common when the scope is a prompt, every pair is measured and
none is missed.

Rows with identical shingle sets are one node, so pairs don't grow with the square of copies. Nothing depends on row
order, sharding or the step's seed: the permutations are fixed. What is kept of a row is 300 bytes (`near.measures`); of
them 96 are in memory when pairs are looked for, and `runtime.memory` bounds the rest. Texts are read again only where
two rows resemble each other. A version that has grown is compared in its new rows alone (`near.grown`).
"""

from __future__ import annotations

from typing import Any, Literal

import polars as pl
from pydantic import Field, model_validator

from factory.dedup.tables import NODES, PAIRS, ScopeParams, check_text, hash_scopes
from factory.engine.gathered import Gathered
from factory.engine.op import Kind, OpContext, PlanContext, op

_PARTIAL = pl.Schema({"row_id": pl.Int64(), "row_key": pl.Binary(), "scope": pl.UInt64(), "set_hash": pl.Binary(),
                      "size": pl.UInt32(), "sketch": pl.Binary(), "keys": pl.Binary()})
_RECALL = 0.95
CODE = tuple(f"factory.dedup.near.{name}" for name in (
    "bands", "candidates", "measures", "rows", "search", "sha1", "shingle", "signatures", "sketches", "verify",
    "wanted"))


class MinHashParams(ScopeParams):
    """`text` is the compared column; `floor`: least similarity of a stored pair; `threshold`: similarity from which the
    default rule of `where` calls two rows duplicates; `ngram`: words in a shingle; `num_perm`: permutations of a
    signature. `signature`: `own` hashes shingles as they are compared; `datasketch` takes the SHA-1 signatures that
    datasketch's MinHash has of the same words, to check against it, at some fifth of the speed."""

    text: str = "response"
    floor: float = Field(default=0.7, ge=0.1, le=1)
    threshold: float = Field(default=0.8, ge=0, le=1)
    num_perm: int = Field(default=128, ge=16, le=4096)
    ngram: int = Field(default=5, ge=1)
    signature: Literal["own", "datasketch"] = "own"

    @model_validator(mode="after")
    def _check_levels(self) -> MinHashParams:
        if self.threshold < self.floor:
            raise ValueError(f"threshold {self.threshold} is below floor {self.floor}, where no pair is stored: "
                             "lower the floor")
        choose_bands(self.floor, self.num_perm)
        return self


def choose_bands(floor: float, num_perm: int) -> tuple[int, int]:
    """(bands, rows) for LSH: the most rows whose chance to propose a pair at the floor is at least 0.95.

    Raises:
        ValueError: no banding of so few permutations reaches it.
    """
    for rows in range(num_perm // 2, 0, -1):
        bands = num_perm // rows
        if 1 - (1 - floor ** rows) ** bands >= _RECALL:
            return bands, rows
    raise ValueError(f"num_perm {num_perm} is too few to find pairs of similarity {floor}: raise num_perm or the floor")


def list_columns(params: MinHashParams) -> tuple[str, ...]:
    """The input columns of the op."""
    return params.columns_with(params.text)


def unicode_version(params: MinHashParams, context: PlanContext) -> Any:
    """What a word is depends on the interpreter's Unicode version."""
    from factory.text.tables import VERSION

    return {"unicode": VERSION}


def measure_rows(batch: pl.DataFrame, params: MinHashParams, silent: bool = False) -> pl.DataFrame:
    """(row_id, row_key, scope, set_hash, size, sketch, keys) of the rows that have a text; of `silent` ones too, with
    size 0.

    Raises:
        DataError: the column does not hold text.
    """
    from factory.dedup.near.measures import measure_texts, to_columns
    from factory.text.buffers import text_buffers

    check_text(batch, params.text)
    if not silent:
        batch = batch.filter(pl.col(params.text).is_not_null())
    scopes = hash_scopes(batch, params.compared_within)
    measures = measure_texts(text_buffers(batch[params.text]), scopes.to_numpy(writable=True),
                             *choose_bands(params.floor, params.num_perm), params.ngram, params.signature)
    measures.sizes[batch[params.text].is_null().to_numpy()] = 0
    return batch.select("row_id", "row_key", scopes, *to_columns(measures)).cast(_PARTIAL)


@op("dedup.minhash", version=2, kind=Kind.GLOBAL, params=MinHashParams, columns=list_columns, dedup=True,
    identity=unicode_version, code=CODE)  # 2: shingles are hashed from word hashes; small scopes hold 129 nodes
class MinHashDedup:
    """Find rows whose text is nearly the same, with the measured Jaccard similarity of every pair above a floor."""

    grows = "any"

    @staticmethod
    def threshold(params: MinHashParams) -> float:
        """Jaccard similarity from which rows count as duplicates by default."""
        return params.threshold

    @staticmethod
    def partial(batch: pl.DataFrame, params: MinHashParams, ctx: OpContext) -> pl.DataFrame:
        """Measure a batch (`measure_rows`)."""
        return measure_rows(batch, params)

    @staticmethod
    def gather(gathered: Gathered, params: MinHashParams, ctx: OpContext) -> dict[str, pl.DataFrame]:
        """The tables `nodes` and `pairs`; see `dedup.tables`."""
        from factory.dedup.near.grown import find_grown_pairs, known_pairs
        from factory.dedup.near.rows import load_rows
        from factory.dedup.near.search import Settings, find_nodes, find_pairs

        rows = load_rows(gathered, by_wave=False)
        nodes = find_nodes(rows)
        settings = Settings.within(params.text, params.floor, choose_bands(params.floor, params.num_perm)[0],
                                   params.ngram, gathered.memory)
        known = None
        if gathered.base is not None and rows.total:
            before = gathered.base["pairs"]()
            known = known_pairs(rows, nodes, *(before[name].to_numpy() for name in ("left", "right", "jaccard")))
        if known is None:
            pairs, proposed = find_pairs(gathered, rows, nodes, settings)
        else:
            pairs, proposed = find_grown_pairs(gathered, rows, nodes, settings, known)
        ctx.count("pairs_stored", len(pairs.left))
        ctx.count("pairs_left_out_of_large_buckets", proposed.skipped)
        return _tables(rows.ids, nodes, pairs)


def _tables(ids: Any, nodes: Any, pairs: Any) -> dict[str, pl.DataFrame]:
    import numpy as np

    one, two = ids[pairs.left], ids[pairs.right]
    listed = np.zeros(len(ids), bool)
    listed[pairs.left] = listed[pairs.right] = True
    listed |= np.bincount(nodes, minlength=len(ids)) > 1
    inside = listed[nodes] if len(ids) else listed
    named = pl.DataFrame({"row_id": ids[inside], "node": ids[nodes[inside]]}, schema=NODES)
    found = pl.DataFrame({"left": np.minimum(one, two), "right": np.maximum(one, two), "jaccard": pairs.jaccard},
                         schema=PAIRS)
    return {"nodes": named.sort("row_id"), "pairs": found.sort("left", "right")}
