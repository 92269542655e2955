"""Real texts of the shared data as (text, source), in the form the benchmark corpora need.

SHORT is made of instruction texts (prompt and answer joined by a blank line), LONG of traces. Traces above the upper
bound are cut at line ends into pieces inside the bounds; short answers of one model are joined, as a session of several
problems is, since the shared data hold too few traces of 4-20 KB. Nothing is taken from a benchmark's own test file:
test problems only occur where a model was asked them (prompts of `zeroeval` in SHORT) or its answer quotes them.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

Text = tuple[str, str]
LONG_BYTES, JOINED_BYTES = (4_000, 20_000), 8_000


def read_records(path: Path) -> list[Any]:
    """The records of a JSON array, or of JSON lines, gzipped or not."""
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if ".jsonl" in path.name:
        return [json.loads(line) for line in raw.decode().split("\n") if line.strip()]
    whole = raw.decode()
    try:
        return list(json.loads(whole))
    except json.JSONDecodeError:
        return [json.loads(line) for line in whole.split("\n") if line.strip()]


def _join(*parts: object) -> str:
    return "\n\n".join(part.strip() for part in parts if isinstance(part, str) and part.strip())


_SHORT: tuple[tuple[str, str, Callable[[dict[str, Any]], str]], ...] = (
    ("t0", "corpora/t0_train_50k.jsonl.gz", lambda r: _join(r["prompt"], r["completion"].replace("<|endoftext|>", ""))),
    ("toolformer", "instructions/gpteacher_toolformer-dedupe-only-dataset.json",
     lambda r: _join(r["instruction"], r["input"], r["response"])),
    ("roleplay", "instructions/gpteacher_roleplay-simple-deduped-roleplay-instruct.json",
     lambda r: _join(r["instruction"], r["input"], r["response"])),
    ("preference", "instructions/rasbt_instruction-data-with-preference.json",
     lambda r: _join(r["instruction"], r["input"], r["chosen"])),
    ("pandalm", "instructions/pandalm_testset-v1.json", lambda r: _join(r["instruction"], r["input"], r["response1"])),
    ("gsm8k-train", "gsm8k/train.jsonl", lambda r: _join(r["question"], r["answer"])),
    ("deepmath", "competition/roll_math_deepmath_deal.jsonl", lambda r: _join(r["prompt"], r["ground_truth"])),
    ("math-train", "math/math_train_rllm.json", lambda r: _join(r["problem"], r["answer"])),
    ("zeroeval", "traces/zeroeval_sample.jsonl.gz",
     lambda r: _join(r["prompt"].split("## Question:")[-1], r["output"])),
    ("tora", "traces/tora_gsm8k.jsonl", lambda r: _join(r["output"])),
    ("theoremqa", "traces/theoremqa_outputs.jsonl", lambda r: _join(r["prompt"], r["output"])),
)
_NEWS, _NEWS_LANGUAGES = "langid/ntrex128.jsonl.gz", ("zho-CN", "zho", "jpn", "ara", "deu", "fra", "spa", "hin", "tha")


_SESSIONS = ("zeroeval_sample.jsonl.gz", "theoremqa_outputs.jsonl", "tora_gsm8k.jsonl", "nemo_skills_outputs.jsonl")


def short_texts(data: Path) -> Iterator[Text]:
    """Instruction texts of all lengths."""
    for source, name, make in _SHORT:
        for record in read_records(data / name):
            yield make(record), source
    yield from _news(read_records(data / _NEWS))


def _news(records: Iterable[dict[str, Any]]) -> Iterator[Text]:
    """Paragraphs of four consecutive sentences in languages other than English."""
    by_language: dict[str, list[str]] = {}
    for record in records:
        if record["lang"].split("_")[0] in _NEWS_LANGUAGES:
            by_language.setdefault(record["lang"], []).append(record["text"])
    for language in sorted(by_language):
        rows = by_language[language]
        for at in range(0, len(rows), 4):
            yield " ".join(rows[at:at + 4]), f"news-{language}"


def long_texts(data: Path) -> Iterator[Text]:
    """Traces inside the bounds: as they are, cut, or joined."""
    for record in read_records(data / "traces/lineage_bench_half.jsonl.gz"):
        for column in ("thinking", "output"):
            yield from ((piece, f"lineage-{column}") for piece in cut_text(record[column] or ""))
    for name in _SESSIONS:
        sessions: dict[str, list[str]] = {}
        for record in read_records(data / "traces" / name):
            output = record["output"] or ""
            if len(output.encode()) >= LONG_BYTES[0]:
                yield from ((piece, record["source"]) for piece in cut_text(output))
            elif output.strip():
                sessions.setdefault(f"{record['source']} {record['model']}", []).append(output.strip())
        for session in sorted(sessions):
            yield from ((text, f"{session.split()[0]}-joined") for text in _joined(sessions[session]))


def cut_text(text: str) -> Iterator[str]:
    """Pieces of 4-20 KB, cut at line ends; nothing of a text that is shorter or has no line end where one is needed."""
    low, high = LONG_BYTES
    if len(text.encode()) <= high:
        if len(text.encode()) >= low:
            yield text
        return
    piece, size = [], 0
    for line in text.splitlines(keepends=True):
        weight = len(line.encode())
        if size + weight > high // 2 and size >= low:
            yield "".join(piece)
            piece, size = [], 0
        piece.append(line)
        size += weight
    if low <= size <= high:
        yield "".join(piece)


def _joined(texts: Iterable[str]) -> Iterator[str]:
    piece, size = [], 0
    for text in texts:
        piece.append(text)
        size += len(text.encode()) + 2
        if size >= JOINED_BYTES:
            yield "\n\n".join(piece)
            piece, size = [], 0
