"""A peer deduplicates a corpus, in a process of its own and in the environment of `dedup_peers.txt`.

    python dedup_peer.py rensa|datasketch CORPUS.parquet

Both get the same shingles, made as their users make them: sets of word 5-grams in Python. `rensa` is its deduplicator
that verifies what it finds (`RMinHashDeduplicator`, threshold 0.8, 128 permutations, 16 bands), `datasketch` its
MinHashLSH (threshold 0.8, 128 permutations) with SHA-1 signatures. Both keep the first of similar texts and go through
the texts in the order given. Prints a JSON line: seconds (of CPU), bytes, rows, peak_mb, gone (ids).
"""

from __future__ import annotations

import json
import re
import resource
import sys
import time
from typing import Any

import polars as pl

THRESHOLD, PERMUTATIONS = 0.8, 128
_WORD = re.compile(r"\w+")


def shingles(text: str) -> set[str]:
    """The text's word 5-grams."""
    words = _WORD.findall(text.lower())
    return {" ".join(words[at:at + 5]) for at in range(max(len(words) - 4, 1))}


def rensa(texts: list[str], ids: list[int]) -> list[int]:
    """The ids that rensa would take out."""
    from rensa import RMinHash, RMinHashDeduplicator

    known: Any = RMinHashDeduplicator(THRESHOLD, PERMUTATIONS, True, 16, 42)
    gone = []
    for number, text in zip(ids, texts, strict=True):
        minhash = RMinHash(PERMUTATIONS, 42)
        minhash.update(list(shingles(text)))
        if known.is_duplicate(str(number), minhash):
            gone.append(number)
        else:
            known.add(str(number), minhash)
    return gone


def datasketch(texts: list[str], ids: list[int]) -> list[int]:
    """The ids that datasketch would take out."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS)
    gone = []
    for number, text in zip(ids, texts, strict=True):
        minhash = MinHash(PERMUTATIONS)
        minhash.update_batch([shingle.encode() for shingle in shingles(text)])
        if index.query(minhash):
            gone.append(number)
        else:
            index.insert(number, minhash)
    return gone


def main() -> None:
    """See the module docstring."""
    who, corpus = sys.argv[1:3]
    frame = pl.read_parquet(corpus)
    texts, ids = frame["text"].to_list(), frame["id"].to_list()
    run = {"rensa": rensa, "datasketch": datasketch}[who]
    run(texts[:20], ids[:20])
    began = time.process_time()
    gone = run(texts, ids)
    print(json.dumps({"seconds": time.process_time() - began, "bytes": int(frame["text"].str.len_bytes().sum()),
                      "rows": len(ids), "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                      "gone": gone}))


if __name__ == "__main__":
    main()
