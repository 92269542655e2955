"""dedup.minhash: rows with nearly the same text.

Similarity is the Jaccard index of the sets of shingles (`dedup.shingles`). MinHash with banded LSH (Broder 1997; the
library is datasketch) only proposes pairs; every proposed pair is then measured exactly on the shingle sets,
and pairs at or above `floor` are stored with that figure, so no estimate ever enters a table.

With b bands of r rows a pair of similarity s is proposed with probability 1 - (1 - s^r)^b. The op takes the largest r
whose probability at the floor is at least 0.95, with as many bands as the permutations give. The defaults (floor
0.7, 128 permutations) give r = 5, b = 25: 0.990 at 0.7, 0.9999 at 0.8. Groups of at most 16 nodes, common when the
scope is a prompt, are compared pair by pair and miss nothing.

Rows with identical shingle sets are one node, so pairs don't grow with the square of copies. Nothing depends on row
order, sharding or the step's seed: the permutations are fixed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
import xxhash
from pydantic import Field, model_validator

from factory.dedup.shingles import (
    NODES,
    PAIRS,
    Hashes,
    ScopeParams,
    hash_shingles,
    list_columns,
    measure_jaccard,
    name_nodes,
    take_texts,
)
from factory.engine.op import Kind, OpContext, op

_PARTIAL = pl.Schema({
    "row_id": pl.Int64(), "row_key": pl.Binary(), "scope": pl.Binary(), "set_hash": pl.Binary(),
    "signature": pl.List(pl.UInt32()), "shingles": pl.List(pl.UInt64()),
})
_RECALL, _PERMUTATION_SEED, _SMALL_GROUP, _CHUNK = 0.95, 1, 16, 4096


class MinHashParams(ScopeParams):
    """`floor`: least similarity of a stored pair; `threshold`: similarity from which the default rule of `where` calls
    two rows duplicates; `ngram`: tokens in a shingle; `num_perm`: permutations of a signature."""

    floor: float = Field(default=0.7, ge=0.1, le=1)
    threshold: float = Field(default=0.8, ge=0, le=1)
    num_perm: int = Field(default=128, ge=16, le=4096)
    ngram: int = Field(default=5, ge=1)

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


def _sign(shingles: Iterable[Hashes], num_perm: int) -> Iterator[Any]:
    """MinHash signatures, in bounded memory however long a text is."""
    from datasketch import MinHash

    blank = MinHash(num_perm=num_perm, seed=_PERMUTATION_SEED, hashfunc=int)
    for hashes in shingles:
        one = blank.copy()
        low = (hashes & np.uint64(0xFFFFFFFF)).tolist()
        for at in range(0, len(low), _CHUNK):
            one.update_batch(low[at:at + _CHUNK])
        yield one.hashvalues


def _propose(signatures: Any, bands: int, rows: int) -> Iterator[tuple[int, int]]:
    """Pairs of indices that share a band, each once."""
    from datasketch import MinHash, MinHashLSH

    num_perm = signatures.shape[1]
    blank = MinHash(num_perm=num_perm, seed=_PERMUTATION_SEED)
    index = MinHashLSH(num_perm=num_perm, params=(bands, rows))
    for right, values in enumerate(signatures):
        one = MinHash(hashvalues=values, permutations=blank.permutations, seed=_PERMUTATION_SEED, scheme=blank.scheme)
        yield from ((left, right) for left in index.query(one))
        index.insert(right, one, check_duplication=False)


def _find_pairs(group: pl.DataFrame, params: MinHashParams, ctx: OpContext) -> list[tuple[int, int, float]]:
    """Pairs among the nodes of one scope."""
    names = group["node"].to_list()
    sizes = group["shingles"].list.len().to_numpy()
    shingles = np.split(group["shingles"].explode().to_numpy(), np.cumsum(sizes)[:-1])
    if len(names) <= _SMALL_GROUP:
        proposed: Iterable[tuple[int, int]] = combinations(range(len(names)), 2)
    else:
        signatures = group["signature"].explode().to_numpy().reshape(len(names), params.num_perm)
        proposed = _propose(signatures, *choose_bands(params.floor, params.num_perm))
    pairs: list[tuple[int, int, float]] = []
    for left, right in proposed:
        ctx.count("pairs_proposed")
        if min(sizes[left], sizes[right]) / max(sizes[left], sizes[right]) < params.floor:
            continue  # the smaller set inside the larger one would still be below the floor
        similarity = measure_jaccard(shingles[left], shingles[right])
        if similarity >= params.floor:
            pairs.append((min(names[left], names[right]), max(names[left], names[right]), similarity))
    return pairs


@op("dedup.minhash", version=1, kind=Kind.GLOBAL, params=MinHashParams, columns=list_columns, dedup=True)
class MinHashDedup:
    """Find rows whose text is nearly the same, with the measured Jaccard similarity of every pair above a floor."""

    @staticmethod
    def threshold(params: MinHashParams) -> float:
        """Jaccard similarity from which rows count as duplicates by default."""
        return params.threshold

    @staticmethod
    def partial(batch: pl.DataFrame, params: MinHashParams, ctx: OpContext) -> pl.DataFrame:
        """Shingle and sign a batch: (row_id, row_key, scope, set_hash, signature, shingles), one row for each row that
        has a text; `set_hash` is 16 bytes over the sorted shingle hashes.

        Raises:
            DataError: the column does not hold text.
        """
        rows, texts = take_texts(batch, params)
        shingles = [hash_shingles(text, params.ngram) for text in texts]
        return rows.with_columns(
            pl.Series("set_hash", [xxhash.xxh3_128_digest(one.tobytes()) for one in shingles], pl.Binary),
            pl.Series("signature", list(_sign(shingles, params.num_perm)), _PARTIAL["signature"]),
            pl.Series("shingles", shingles, _PARTIAL["shingles"])).cast(_PARTIAL)

    @staticmethod
    def merge(partials: Iterable[pl.DataFrame], params: MinHashParams, ctx: OpContext) -> dict[str, pl.DataFrame]:
        """The tables `nodes` and `pairs`; see `dedup.shingles`."""
        rows = name_nodes(pl.concat([pl.DataFrame(schema=_PARTIAL), *partials]), ["scope", "set_hash"])
        heads = rows.filter(pl.col("row_id") == pl.col("node"))
        found: list[tuple[int, int, float]] = []
        for group in heads.partition_by("scope", maintain_order=True):
            if group.height > 1:
                found += _find_pairs(group, params, ctx)
        pairs = pl.DataFrame(found, schema=PAIRS, orient="row").sort("left", "right")
        paired = pl.concat([pairs["left"], pairs["right"]]).unique()
        nodes = rows.filter((pl.col("size") > 1) | pl.col("node").is_in(paired.implode()))
        return {"nodes": nodes.select("row_id", "node").sort("row_id").cast(NODES), "pairs": pairs}
