"""One side of the benchmark `decontaminate`, in a process of its own: `python decontaminate_side.py SPEC` with SPEC a
JSON object {side, part, corpus, items, n, rounds, start, rows}. It prints {rows, bytes, seconds, wall, hit, digest,
peak_mb}: median CPU seconds of the rounds after one to warm up, and a digest of the n-grams that each row shares."""

from __future__ import annotations

import hashlib
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import decontaminate_plain as plain
import polars as pl

Grams = set[tuple[str, ...]]


def ours(texts: pl.Series, items: pl.DataFrame, n: int) -> tuple[Callable[[], Any], Callable[[Any], list[Grams]]]:
    """What is timed, and how the n-grams of each row follow from it: texts to runs of shared words."""
    from factory.dedup.decontaminate.index import build_index
    from factory.dedup.decontaminate.scan import search
    from factory.text.buffers import text_buffers

    index = build_index(items, n)
    words = [plain.words_of(text) for text in index.items["text"]]

    def grams(found: Any) -> list[Grams]:
        rows: list[Grams] = [set() for _ in range(len(texts))]
        runs = found[0]
        for row, document, word, count in zip(runs.row, runs.document, runs.word, runs.words, strict=True):
            rows[row] |= {tuple(words[document][at:at + n]) for at in range(word, word + count - n + 1)}
        return rows

    return lambda: search(text_buffers(texts), index), grams


def stored(texts: pl.Series, items: pl.DataFrame, n: int, part: str) -> Callable[[], pl.DataFrame]:
    """Texts to the scores that the op writes: spans, shares and reasons; of the part `prompt` as whole prompts too."""
    from factory.dedup.decontaminate import Decontaminate, DecontaminateParams
    from factory.engine.op import OpContext

    params = DecontaminateParams(parts={part: "text"}, ngram=n, words=n)
    batch = pl.DataFrame({"row_id": range(len(texts)), "text": texts})
    return lambda: Decontaminate.decide(batch, {"items": items}, params, OpContext())


def timed(work: Callable[[], Any], rounds: int, warm: bool) -> tuple[Any, float, float]:
    """The result, median CPU seconds and median wall seconds."""
    if warm:
        work()  # compiles, or loads what was compiled
    result, cpu, wall = None, [], []
    for _ in range(rounds):
        began, began_wall = time.process_time(), time.perf_counter()
        result = work()
        cpu.append(time.process_time() - began)
        wall.append(time.perf_counter() - began_wall)
    return result, statistics.median(cpu), statistics.median(wall)


def digest(rows: Iterable[Grams]) -> str:
    """A digest of the n-grams of every row."""
    hasher = hashlib.sha256()
    for number, grams in enumerate(rows):
        hasher.update(f"{number}:{sorted(grams)}\n".encode())
    return hasher.hexdigest()


def main() -> None:
    """Command line of the module."""
    spec = json.loads(sys.argv[1])
    corpus, items, n = pl.read_parquet(spec["corpus"], columns=["text"]), pl.read_parquet(spec["items"]), spec["n"]
    texts = corpus["text"].slice(spec.get("start", 0), spec["rows"] or None).rechunk()
    side, size, said = spec["side"], int(texts.str.len_bytes().sum()), ""
    if side == "ours":
        work, grams = ours(texts, items, n)
        result, seconds, wall = timed(work, spec["rounds"], True)
        found = grams(result)
        hit, said = sum(map(bool, found)), digest(found)
    elif side == "plain script":
        strings, known = texts.to_list(), plain.build_set(items["text"], n)
        found, seconds, wall = timed(lambda: list(plain.hits_of(strings, known, n)), spec["rounds"], False)
        hit, said = sum(map(bool, found)), digest(found)
    elif side == "quickest script":
        strings, joined = texts.to_list(), plain.simple_set(items["text"], n)
        result, seconds, wall = timed(lambda: sum(plain.simple_hits(strings, joined, n)), spec["rounds"], False)
        hit = result
    else:
        scores, seconds, wall = timed(stored(texts, items, n, spec["part"]), spec["rounds"], True)
        hit = int((scores["longest"] >= n).sum())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 ** 2 if sys.platform == "darwin" else 1024)
    print(json.dumps({"rows": len(texts), "bytes": size, "seconds": seconds, "wall": wall, "hit": hit, "digest": said,
                      "peak_mb": peak}))


if __name__ == "__main__":
    main()
