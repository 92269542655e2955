"""The corpora of the benchmarks `dedup`, `filters` and `decontaminate`, made from a folder of shared data.

- SHORT: some 60,000 instruction texts of 100 to 2,000 characters; LONG: some 8,400 traces of 4 to 20 KB; LONG_SMALL:
  1,600 rows of it with every planted pair, for slow peers. Each is (id Int64, text, source), in the order of a seeded
  hash of the text, without exact duplicates. PLANTED_SHORT and PLANTED_LONG: (left, right, level, jaccard), the edited
  copies among them.
- rows of about 2 KB by the million (`text_corpora_million.py`): shards of (id, text, near, changed).

They depend on the data and the seed alone, and are built once into `benchmarks/.cache/corpora`, which git ignores.
Delete that folder to have them made anew.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

import polars as pl
import xxhash
from text_corpora_million import write_shards
from text_corpora_plant import pairs_frame, plant_many
from text_corpora_sources import LONG_BYTES, Text, long_texts, short_texts

CACHE = Path(__file__).resolve().parent / ".cache"
SEED = 7
SHORT_CHARS, SHORT_ROWS, LONG_ROWS = (100, 2_000), 60_000, 8_400
SHORT_PLANTED, LONG_PLANTED, SMALL_ROWS = 1_500, 200, 1_600
_MOST = {"t0": 18_000, "zeroeval": 14_000, "lineage-thinking": 4_600}
"""Rows at most of a source that would crowd out the others."""


def choose(texts: Iterable[Text], bounds: tuple[int, int], unit: str, rows: int, seed: int) -> list[Text]:
    """Distinct texts whose length in `unit` (chars, bytes) is inside the bounds, in seeded order of content."""
    low, high = bounds
    found: dict[str, str] = {}
    for text, source in texts:
        length = len(text) if unit == "chars" else len(text.encode())
        if low <= length <= high:
            found.setdefault(text, source)
    ordered = sorted(found, key=lambda text: xxhash.xxh3_128_digest(text.encode(), seed=seed))
    taken: dict[str, int] = {}
    chosen: list[Text] = []
    for text in ordered:
        source = found[text]
        taken[source] = taken.get(source, 0) + 1
        if taken[source] <= _MOST.get(source, rows):
            chosen.append((text, source))
    return chosen[:rows]


def with_planted(base: list[Text], per_level: int, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The corpus, edited copies among the others, and the planted pairs by id."""
    copies = list(plant_many([text for text, _ in base], per_level, seed))
    rows = [(text, source, (at, -1)) for at, (text, source) in enumerate(base)]
    rows += [(copy, f"planted-{base[index][1]}", (index, number)) for number, (index, copy, _, _) in enumerate(copies)]
    rows.sort(key=lambda row: xxhash.xxh3_128_digest(row[0].encode(), seed=seed + 1))
    place = {key: at for at, (_, _, key) in enumerate(rows)}
    pairs = [(place[index, -1], place[index, number], level, jaccard)
             for number, (index, _, level, jaccard) in enumerate(copies)]
    frame = pl.DataFrame({"id": range(len(rows)), "text": [row[0] for row in rows], "source": [row[1] for row in rows]},
                         schema={"id": pl.Int64, "text": pl.String, "source": pl.String})
    return frame, pairs_frame(pairs)


def small_of(corpus: pl.DataFrame, pairs: pl.DataFrame, rows: int) -> pl.DataFrame:
    """All planted pairs and the first other rows; ids as in the whole corpus."""
    planted = pl.concat([pairs["left"], pairs["right"]]).unique()
    inside = pl.col("id").is_in(planted.implode())
    others = corpus.filter(~inside).head(max(rows - planted.len(), 0))
    return pl.concat([corpus.filter(inside), others]).sort("id")


def find_data(given: str | Path | None = None) -> Path:
    """The folder of shared data: the one given, or `shared/data` beside a folder above this file. Ends the program with
    a message where there is none."""
    if given is not None:
        if not (Path(given) / "traces").is_dir():
            sys.exit(f"{given} is no folder of shared data: it needs traces/, instructions/, corpora/ and more")
        return Path(given)
    for folder in Path(__file__).resolve().parents:
        if (folder / "shared" / "data" / "traces").is_dir():
            return folder / "shared" / "data"
    sys.exit("the corpora are built from a folder shared/data beside the repository: put it there, or name another "
             "with --data")


def cache_folder(name: str) -> Path:
    """A folder for what benchmarks build once."""
    folder = CACHE / name
    folder.mkdir(parents=True, exist_ok=True)
    (CACHE / ".gitignore").write_text("*\n")
    return folder


def short(data: Path) -> Path:
    """The Parquet file of SHORT."""
    return _built(data, "short")


def long(data: Path) -> Path:
    """The Parquet file of LONG."""
    return _built(data, "long")


def long_small(data: Path) -> Path:
    """The Parquet file of LONG_SMALL."""
    return _built(data, "long_small")


def planted(data: Path, corpus: str) -> Path:
    """The Parquet file of the pairs planted in `short` or `long`."""
    return _built(data, f"planted_{corpus}")


def million(data: Path, rows: int = 1_000_000) -> list[Path]:
    """The shards of the first `rows` rows of about 2 KB."""
    short(data), long(data)
    folder = cache_folder("corpora") / f"rows-{rows}"
    if not folder.exists():
        half = folder.with_suffix(".part")
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir()
        write_shards(CACHE / "corpora", half, rows, seed=SEED)
        half.rename(folder)
    return sorted(folder.glob("part-*.parquet"))


def _built(data: Path, name: str) -> Path:
    path = cache_folder("corpora") / f"{name}.parquet"
    if not path.exists():
        (_build_short if name.endswith("short") else _build_long)(data)
    return path


def _build_short(data: Path) -> None:
    texts = choose(short_texts(data), SHORT_CHARS, "chars", SHORT_ROWS, SEED)
    corpus, pairs = with_planted(texts, SHORT_PLANTED, SEED)
    _write({"short": corpus, "planted_short": pairs})


def _build_long(data: Path) -> None:
    texts = choose(long_texts(data), LONG_BYTES, "bytes", LONG_ROWS, SEED)
    corpus, pairs = with_planted(texts, LONG_PLANTED, SEED)
    _write({"long": corpus, "planted_long": pairs, "long_small": small_of(corpus, pairs, SMALL_ROWS)})


def _write(frames: dict[str, pl.DataFrame]) -> None:
    for name, frame in frames.items():
        path = cache_folder("corpora") / f"{name}.parquet"
        half = path.with_suffix(".part")
        frame.write_parquet(half, compression="zstd", compression_level=3)
        half.rename(path)
        print(f"built {path.name}: {frame.height:,} rows", file=sys.stderr, flush=True)
