"""filter.repetition: text that says the same again and again.

The statistics are those of Gopher (Rae et al. 2021, "Scaling Language Models", table A1), and one more for generators
that fall into a loop: the *tail loop*, the longest suffix made of one unit repeated at least three times, in
characters. Definitions, where the paper leaves room:

- lines are split at newlines, paragraphs at blank lines, both stripped, those without a word (a brace, `\\[`)
  dropped; the first appearance is no duplicate, later ones are;
- `top_Ngram`: share of characters inside the most frequent N-gram of words, if it occurs twice or more;
- `dup_Ngram`: share of characters inside N-grams that occurred before, each character counted once;
- characters of n-gram shares are those of words (`masking.WORD`), so layout does not dilute them.

Thinking and answer are measured apart, since an answer repeats what was thought by design; a column holds the larger of
the two. A part of fewer than `min_words` words is too short for statistics and gives 0, but its tail loop counts.
Reasoning repeats itself far more than web text (derivations restate equations, short solutions name one thing again and
again), so the default limits are wider than Gopher's: about the 99th percentile of correct answers in public traces.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import Field

from factory.engine.op import SCORE_SCHEMA, Kind, OpContext, Params, op
from factory.engine.text import split_response
from factory.filters.masking import WORD, read_texts

_TOP, _DUP = (2, 3, 4), (5, 6, 7, 8, 9, 10)
_STATISTICS = ("dup_line_frac", "dup_line_char_frac", "dup_para_frac", "dup_para_char_frac",
               *(f"top_{n}gram" for n in _TOP), *(f"dup_{n}gram" for n in _DUP))
_OUT: dict[str, pl.DataType] = {**{name: pl.Float64() for name in _STATISTICS}, "tail_loop": pl.Int32()}
_PARAGRAPH = re.compile(r"\n[ \t\r]*\n\s*")
_TAIL_WINDOW, _TAIL_SEED, _TAIL_TRIES = 131_072, 16, 1000
_Ints = npt.NDArray[np.int64]


class RepetitionParams(Params):
    """Largest shares (0 to 1) and the largest tail loop (characters) that still pass."""

    text: str = "response"
    min_words: int = Field(default=50, ge=0)
    dup_line_frac: float = 0.45
    dup_line_char_frac: float = 0.35
    dup_para_frac: float = 0.3
    dup_para_char_frac: float = 0.3
    top_2gram: float = 0.4
    top_3gram: float = 0.4
    top_4gram: float = 0.4
    dup_5gram: float = 0.65
    dup_6gram: float = 0.6
    dup_7gram: float = 0.55
    dup_8gram: float = 0.5
    dup_9gram: float = 0.5
    dup_10gram: float = 0.5
    tail_loop: int = Field(default=200, ge=1)


def _share_of_repeats(pieces: list[str]) -> tuple[float, float, str]:
    """Share of pieces that appeared before, by count and by characters, and the first such piece."""
    seen: set[str] = set()
    repeats, chars, example = 0, 0, ""
    for piece in pieces:
        if piece in seen:
            repeats, chars, example = repeats + 1, chars + len(piece), example or piece
        seen.add(piece)
    return repeats / max(len(pieces), 1), chars / max(sum(map(len, pieces)), 1), example


def _covered(starts: npt.NDArray[Any], n: int, sizes: _Ints) -> float:
    """Share of the words' characters inside the n-grams that begin at `starts`."""
    edge = np.zeros(len(sizes) + 1, np.int64)
    np.add.at(edge, starts, 1)
    np.add.at(edge, starts + n, -1)
    return float(sizes[np.cumsum(edge[:-1]) > 0].sum() / sizes.sum())


def _ngram_shares(words: list[str]) -> tuple[dict[str, float], dict[str, int]]:
    """Shares of the n-gram statistics, and for each the index of a word where an offending n-gram begins."""
    index: dict[str, int] = {}
    first = np.fromiter((index.setdefault(word, len(index)) for word in words), np.int64, len(words))
    sizes = np.fromiter(map(len, words), np.int64, len(words))
    shares = {name: 0.0 for name in _STATISTICS[4:]}
    where: dict[str, int] = {}
    grams = first
    for n in range(2, max(_DUP) + 1):
        if len(words) <= n:
            break
        # An n-gram is the pair (its first n-1 words, its last word): numbering pairs is exact, no hash collides.
        pairs = grams[:-1] * len(index) + first[n - 1:]
        _, origin, grams, counts = np.unique(pairs, return_index=True, return_inverse=True, return_counts=True)
        top = int(counts.argmax())
        if counts[top] < 2:
            break
        if n in _TOP:
            shares[f"top_{n}gram"] = _covered(np.flatnonzero(grams == top), n, sizes)
            where[f"top_{n}gram"] = int(origin[top])
        elif n in _DUP:
            again = np.ones(len(grams), bool)
            again[origin] = False
            starts = np.flatnonzero(again)
            shares[f"dup_{n}gram"], where[f"dup_{n}gram"] = _covered(starts, n, sizes), int(starts[0])
    return shares, where


def _measure(text: str, min_words: int) -> tuple[dict[str, float], dict[str, str]]:
    """Statistics of one part and, for each above zero, a snippet that shows it."""
    words = WORD.findall(text)
    if len(words) < max(min_words, 1):
        return dict.fromkeys(_STATISTICS, 0.0), {}
    lines = [line for line in map(str.strip, text.split("\n")) if WORD.search(line)]
    paragraphs = [part for part in map(str.strip, _PARAGRAPH.split(text)) if WORD.search(part)]
    by_line, by_para = _share_of_repeats(lines), _share_of_repeats(paragraphs)
    shares, where = _ngram_shares(words)
    proof = {name: " ".join(words[at:at + int(name[4:].removesuffix("gram"))]) for name, at in where.items()}
    proof |= dict.fromkeys(_STATISTICS[:2], by_line[2]) | dict.fromkeys(_STATISTICS[2:4], by_para[2])
    return dict(zip(_STATISTICS[:4], (*by_line[:2], *by_para[:2]), strict=True)) | shares, proof


def find_tail_loop(text: str) -> tuple[int, str]:
    """Length in characters and the unit of the longest suffix made of one unit repeated three times or more.

    White space at the end is ignored and the last repetition may be cut short at its front. Loops are sought in the
    last 131,072 characters, so a unit is at most a third of that; (0, "") where there is none.
    """
    text = text.rstrip()[-_TAIL_WINDOW:]
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    size, best, period = len(codes), 0, 0

    def try_period(p: int) -> None:
        nonlocal best, period
        # A period no longer than a third of the loop in hand would give a part of the same loop.
        if 3 * p > size or 3 * p <= best or not np.array_equal(codes[-2 * p:], codes[-3 * p:-p]):
            return
        differ = np.flatnonzero(codes[:-p] != codes[p:])
        best, period = size - (int(differ[-1]) + 1 if differ.size else 0), p

    for p in range(1, _TAIL_SEED + 1):
        try_period(p)
    seed, at = text[-_TAIL_SEED:], size - _TAIL_SEED
    for _ in range(_TAIL_TRIES):
        # A longer unit repeats the last characters at a distance of its length.
        nearest = size - _TAIL_SEED - max(best // 3, _TAIL_SEED) if size > _TAIL_SEED else 0
        at = text.rfind(seed, 0, max(min(at - 1, nearest), -1) + _TAIL_SEED) if at > 0 else -1
        if at < 0:
            break
        try_period(size - _TAIL_SEED - at)
    return best, text[size - period:] if best else ""


def _judge(stats: dict[str, float], proof: dict[str, str], params: RepetitionParams) -> tuple[bool, str | None, str]:
    if stats["tail_loop"] > params.tail_loop:
        unit = proof["tail_loop"]
        return False, "tail_loop", f"the last {int(stats['tail_loop'])} characters repeat {unit[:50]!r}"
    for name in _STATISTICS:
        limit = getattr(params, name)
        if stats[name] > limit:
            return False, name, f"{name} {stats[name]:.3f} above {limit:g}: {proof[name][:60]!r}"
    return True, None, f"dup_10gram {stats['dup_10gram']:.3f}, tail_loop {int(stats['tail_loop'])}"


@op("filter.repetition", version=2, kind=Kind.SCORE, params=RepetitionParams,
    columns=lambda params: (params.text,), out=_OUT)
def repetition(batch: pl.DataFrame, params: RepetitionParams, ctx: OpContext) -> pl.DataFrame:
    """Measure how much of a response repeats.

    Columns: the thirteen shares of the module docstring (0 to 1) and `tail_loop` (characters). `score` is the largest
    ratio of a measurement to its limit: above 1 fails. The reason code names the first statistic above its limit, tail
    loop first; `no_text` for null text (undecided).

    Raises:
        DataError: the column does not hold text.
    """
    rows: list[tuple[Any, ...]] = []
    for text in read_texts(batch, params.text):
        if text is None:
            rows.append((None, None, None, "no_text", f"{params.text} is null", *[None] * len(_OUT)))
            continue
        stats: dict[str, float] = dict.fromkeys(_OUT, 0.0)
        proof: dict[str, str] = {}
        for part in split_response(text)[:2]:
            if not part:
                continue
            shares, snippets = _measure(part, params.min_words)
            loop, unit = find_tail_loop(part)
            for name, value in {**shares, "tail_loop": float(loop)}.items():
                if value > stats[name]:
                    stats[name], proof[name] = value, {**snippets, "tail_loop": unit}[name]
        passed, code, reason = _judge(stats, proof, params)
        limits = {name: max(getattr(params, name), 1e-9) for name in _OUT}
        score = max(stats[name] / limit for name, limit in limits.items())
        shares_out = [stats[name] for name in _STATISTICS]
        rows.append((passed, None, score, code, reason[:120], *shares_out, int(stats["tail_loop"])))
    return pl.DataFrame(rows, schema={**SCORE_SCHEMA, **_OUT}, orient="row")
