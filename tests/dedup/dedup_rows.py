"""What the tests of the dedup ops share: rows, a corpus with similar texts, and gathering without a warehouse."""

from __future__ import annotations

import random
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from factory.engine.gathered import Gathered, GatheredPart
from factory.engine.op import OpContext

WORDS = [f"w{number}" for number in range(2000)]
Tables = dict[str, pl.DataFrame]


def rows_of(texts: Sequence[str | None], prompts: Sequence[Any] | None = None, first: int = 0,
            keys: Sequence[int] | None = None) -> pl.DataFrame:
    """Rows with ids from `first` on, and row keys in the same order, or those given."""
    ids = range(first, first + len(texts))
    return pl.DataFrame({"row_id": ids, "row_key": [key.to_bytes(16, "big") for key in (keys or ids)],
                         "response": texts, "prompt": prompts or ["p"] * len(texts)},
                        schema_overrides={"response": pl.String, "row_key": pl.Binary, "row_id": pl.Int64})


def text_of(start: int, end: int) -> str:
    """Words of a numbered list."""
    return " ".join(WORDS[start:end])


def corpus(seed: int, families: int, size: int) -> list[str]:
    """Families of texts that were made from one another by edits of some words, shuffled."""
    rng, texts = random.Random(seed), []
    for _ in range(families):
        words = rng.choices(WORDS, k=rng.randint(20, 120))
        for _ in range(size):
            texts.append(" ".join(words))
            words = list(words)
            for _ in range(rng.randint(0, 3)):
                words[rng.randrange(len(words))] = rng.choice(WORDS)
    rng.shuffle(texts)
    return texts


def crowd(seed: int, size: int) -> list[str]:
    """A text and copies of it with one other word each: every two of them are similar."""
    rng = random.Random(seed)
    words = rng.choices(WORDS, k=116)
    texts = [" ".join(words)]
    for at in range(1, size):
        copy = list(words)
        copy[rng.randrange(len(words))] = f"other{at}"
        texts.append(" ".join(copy))
    return texts


def jaccard(one: str, two: str, ngram: int = 5) -> float:
    """The similarity of two texts of ASCII words, in plain Python."""
    sets = []
    for text in (one, two):
        words = re.findall(r"\w+", text.lower())
        sets.append({tuple(words[at:at + ngram]) for at in range(max(len(words) - ngram, 0) + 1)})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def gather(op: Any, params: Any, parts: Sequence[pl.DataFrame], waves: Sequence[int] | None = None, settled: int = 0,
           base: Tables | None = None, memory: int = 512, counters: dict[str, int] | None = None) -> Tables:
    """An op's tables of these parts, the first `settled` of which `base` was made of."""
    frames = [op.partial(part, params, OpContext()) for part in parts]
    every = pl.concat(parts, how="vertical_relaxed").unique("row_id") if parts else rows_of([])

    def read(frame: pl.DataFrame) -> Callable[[Sequence[str] | None], pl.DataFrame]:
        return lambda columns: frame.select(columns or frame.columns)

    def opener(frame: pl.DataFrame) -> Callable[[], pl.DataFrame]:
        return lambda: frame

    opened: Mapping[str, Callable[[], pl.DataFrame]] | None = None
    if base is not None:
        opened = {name: opener(frame) for name, frame in base.items() if frame.height}
        opened = {**opened, **{name: opener(base[name]) for name in ("nodes", "pairs") if name in base}}
    context = OpContext()
    with tempfile.TemporaryDirectory() as folder:
        given = tuple(GatheredPart(waves[at] if waves else 0, at < settled, read(frame))
                      for at, frame in enumerate(frames))
        tables: Tables = op.gather(Gathered(given, lambda ids: every.filter(pl.col("row_id").is_in(ids.implode())),
                                            Path(folder), opened, memory), params, context)
    if counters is not None:
        counters.update(context.counters)
    return tables
