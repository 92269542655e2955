"""filter.repetition: text that says the same again and again.

The thirteen statistics are those of Gopher (Rae et al. 2021, arXiv 2112.11446, appendix A.1.1, table A1) by the rules
of datatrove's filter, since the paper leaves room; they are spelled out in `measure.grams` and `measure.pieces`. Beside
them repeated sentences; the *tail loop* of a generator that no longer stops, the longest suffix made of one unit at
least three times (`measure.loops`); and `compression`, the size of the text's LZ4 block over its own (small: it
repeats).

Thinking and answer are measured apart, since an answer repeats what was thought by design, each without the white space
around it. A part of fewer than `min_words` words is too short for statistics and gives 0 (no compression), but its
tail loop counts. With `min_words: 0` every value is datatrove's for the same words; a *word* is a run of letters,
digits, underscores and marks, one character of a script without spaces, or any other sign that is no white space.

Reasoning repeats itself far more than web text (derivations restate equations), so the default limits are wider than
Gopher's: about the 99th percentile of correct thinking and of correct answers in public traces, the larger of the two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import Field

from factory.engine.op import Kind, OpContext, Params, op
from factory.filters.measured import Flags, Verdicts, read_column, score_table, sides, snippet, split_column

if TYPE_CHECKING:
    from factory.filters.measure.parts import Parts

STATISTICS = ("dup_line_frac", "dup_line_char_frac", "dup_para_frac", "dup_para_char_frac",
              *(f"top_{n}gram" for n in (2, 3, 4)), *(f"dup_{n}gram" for n in (5, 6, 7, 8, 9, 10)),
              "dup_sentence_frac", "dup_sentence_char_frac")
"""Shares; the larger, the worse."""
_OWN: dict[str, pl.DataType] = {**{name: pl.Float64() for name in STATISTICS}, "tail_loop": pl.Int32(),
                                "tail_loop_times": pl.Float64(), "compression": pl.Float64()}
_OUT: dict[str, pl.DataType] = {
    **_OWN, **{f"{name}_{side}": dtype for side in ("thinking", "answer") for name, dtype in _OWN.items()},
    "worst": pl.String(), "worst_at": pl.Int64(), "worst_end": pl.Int64(),
}
_JUDGED = ("tail_loop", *STATISTICS, "compression")
_Floats = npt.NDArray[np.float64]


class AnswerLimits(Params):
    """Limits of the answer where they shall differ; None is as in the thinking."""

    dup_line_frac: float | None = None
    dup_line_char_frac: float | None = None
    dup_para_frac: float | None = None
    dup_para_char_frac: float | None = None
    top_2gram: float | None = None
    top_3gram: float | None = None
    top_4gram: float | None = None
    dup_5gram: float | None = None
    dup_6gram: float | None = None
    dup_7gram: float | None = None
    dup_8gram: float | None = None
    dup_9gram: float | None = None
    dup_10gram: float | None = None
    dup_sentence_frac: float | None = None
    dup_sentence_char_frac: float | None = None
    tail_loop: int | None = Field(default=None, ge=1)
    compression: float | None = Field(default=None, ge=0)


class RepetitionParams(Params):
    """Largest shares, the largest tail loop (characters) and the smallest compression that still pass, of either part
    unless `answer` says otherwise."""

    text: str = "response"
    min_words: int = Field(default=50, ge=0)
    dup_line_frac: float = 0.45
    dup_line_char_frac: float = 0.25
    dup_para_frac: float = 0.25
    dup_para_char_frac: float = 0.2
    top_2gram: float = 0.25
    top_3gram: float = 0.3
    top_4gram: float = 0.35
    dup_5gram: float = 0.6
    dup_6gram: float = 0.6
    dup_7gram: float = 0.6
    dup_8gram: float = 0.55
    dup_9gram: float = 0.55
    dup_10gram: float = 0.55
    dup_sentence_frac: float = 0.4
    dup_sentence_char_frac: float = 0.3
    tail_loop: int = Field(default=200, ge=1)
    compression: float = Field(default=0.15, ge=0)
    answer: AnswerLimits = AnswerLimits()

    def limit(self, name: str, side: str) -> float:
        """The limit of a statistic in `thinking` or `answer`."""
        own = getattr(self.answer, name) if side == "answer" else None
        return float(getattr(self, name) if own is None else own)


class _Side:
    """One part of every row: values by name, NaN where the row has no such part, and places of evidence."""

    def __init__(self, name: str, parts: Parts, min_words: int) -> None:
        from factory.filters.measure.length import measure_length
        from factory.filters.measure.parts import trim
        from factory.filters.measure.repetition import NAMES, measure_repetition

        self.name, self.parts = name, parts
        spans = trim(parts.thinking if name == "thinking" else parts.answer)
        found = measure_repetition(spans)
        short = measure_length(spans)[:, 1] < max(min_words, 1) if min_words else np.zeros(len(spans.starts), np.bool_)
        self.values: dict[str, _Floats] = {}
        self.places: dict[str, npt.NDArray[np.int64]] = {}
        for index, kernel_name in enumerate(NAMES):
            column = kernel_name.replace("tail_loop_chars", "tail_loop")
            values = found.values[:, index].copy()
            if not column.startswith("tail_loop"):
                values[short] = 0.0
            if column == "compression":
                values[values == 0] = np.nan  # a text of any length has some size
            values[~spans.there] = np.nan
            self.values[column], self.places[column] = values, found.evidence[:, index]

    def excess(self, name: str, limit: float) -> _Floats:
        """How many times the limit a statistic is; of compression, how many times smaller. 0 without the part."""
        values, limit = self.values[name], max(limit, 1e-9)
        return np.nan_to_num(limit / values if name == "compression" else values / limit, nan=0.0)

    def locate(self, name: str, rows: Flags) -> npt.NDArray[np.int64]:
        """(start, end) of the evidence in characters of the response; -1 where there is none, and in other rows."""
        places = np.where(rows[:, None], self.places[name], -1)
        return np.stack([self.parts.locate(np.ascontiguousarray(places[:, end])) for end in (0, 1)], 1)


def _columns(both: tuple[_Side, _Side]) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for name in _OWN:
        thinking, answer = (side.values[name] for side in both)
        columns[f"{name}_thinking"], columns[f"{name}_answer"] = thinking, answer
        columns[name] = np.fmin(thinking, answer) if name == "compression" else np.nan_to_num(np.fmax(thinking, answer))
    for name in [name for name in columns if name.startswith("tail_loop") and "times" not in name]:
        columns[name] = np.nan_to_num(columns[name], nan=-1.0).astype(np.int64)
    return columns


class _Judged:
    """The verdicts, and of each row the statistic with the largest ratio to its limit."""

    def __init__(self, texts: pl.Series, both: tuple[_Side, _Side], params: RepetitionParams) -> None:
        rows = len(texts)
        self.texts, self.verdicts, self.score = texts, Verdicts(rows), np.zeros(rows)
        self.worst, self.places = np.full(rows, "", object), np.full((rows, 2), -1, np.int64)
        for name in _JUDGED:
            ratios = [side.excess(name, params.limit(name, side.name)) for side in both]
            larger = ratios[1] > ratios[0]
            self._take(name, np.maximum(*ratios), larger, both)
            for side, ratio, mine in zip(both, ratios, (~larger, larger), strict=True):
                broken = (ratio > 1) & mine
                if (broken & self.verdicts.passed).any():
                    self._refuse(name, side, broken, params.limit(name, side.name))

    def _take(self, name: str, ratio: _Floats, larger: Flags, both: tuple[_Side, _Side]) -> None:
        more = ratio > self.score
        if not more.any():
            return
        self.score, self.worst = np.where(more, ratio, self.score), np.where(more, name, self.worst)
        for side, mine in zip(both, (more & ~larger, more & larger), strict=True):
            self.places = np.where(mine[:, None], side.locate(name, mine), self.places)

    def _refuse(self, name: str, side: _Side, broken: Flags, limit: float) -> None:
        values, places = side.values[name], side.locate(name, broken & self.verdicts.passed)

        def tell(row: int) -> str:
            at, end = places[row].tolist()
            if name == "tail_loop":
                unit = (end - at) / side.values["tail_loop_times"][row]
                return (f"the last {values[row]:.0f} characters of the {side.name} repeat "
                        f"{snippet(self.texts[row], at, at + round(unit), 50)} from {at} on")
            over = "below" if name == "compression" else "above"
            said = "" if at < 0 else f" at {at}: {snippet(self.texts[row], at, end, 50)}"
            return f"{name} {values[row]:.3f} {over} {limit:g} in the {side.name}{said}"

        self.verdicts.refuse(broken, name, tell)


# Version 3: datatrove's denominators and walks, sentences, compression, thinking and answer apart, limits anew.
@op("filter.repetition", version=3, kind=Kind.SCORE, params=RepetitionParams,
    columns=lambda params: (params.text,), out=_OUT,
    code=("factory.filters.measured", *(f"factory.filters.measure.{name}" for name in (
        "grams", "loops", "parts", "pieces", "repetition", "repetition_rows", "tokens"))))
def repetition(batch: pl.DataFrame, params: RepetitionParams, ctx: OpContext) -> pl.DataFrame:
    """Measure how much of a response repeats.

    Columns, each also as `<name>_thinking` and `<name>_answer` (null where there is no such part), the first being the
    worse of the two: Gopher's thirteen shares (`dup_line_frac` … `dup_10gram`), `dup_sentence_frac` and
    `dup_sentence_char_frac`, `tail_loop` (characters) and `tail_loop_times`, `compression` (null for a part of fewer
    than `min_words` words). `worst` names the statistic with the largest ratio to its limit, `worst_at` and `worst_end`
    are where its evidence stands, in characters of the response; null where nothing repeats. `score` is that ratio:
    above 1 fails. The reason code names the first statistic beyond its limit, tail loop first; `no_text` for null
    text (undecided).

    Raises:
        DataError: the column does not hold text.
    """
    texts = read_column(batch, params.text)
    parts = split_column(texts)
    both = tuple(_Side(name, parts, params.min_words) for name, _ in sides(parts))
    assert len(both) == 2
    columns = _columns(both)
    judged = _Judged(texts, both, params)
    columns |= {"worst": pl.Series([name or None for name in judged.worst], dtype=pl.String),
                "worst_at": judged.places[:, 0], "worst_end": judged.places[:, 1]}
    said = pl.select(pl.format("dup_10gram {}, tail_loop {}", pl.Series(columns["dup_10gram"]).round(3),
                               pl.Series(columns["tail_loop"]))).to_series()
    return score_table(texts, params.text, judged.verdicts, said, judged.score, columns, _OUT)
