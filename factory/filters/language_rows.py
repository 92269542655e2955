"""The rows of filter.language: both parts of every response measured, put together, and judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from factory.engine.op import SCORE_SCHEMA
from factory.filters.langmix.lanes import languages, number_of
from factory.filters.langmix.score import measure_part, part_frame
from factory.filters.langmix.tally import GOOD, WORDS
from factory.filters.langmix.targets import SAMPLE, UNCERTAIN_WORDS, main_languages, settle
from factory.filters.language import _OUT
from factory.filters.language_outside import measure_outside, outside_frame
from factory.filters.measure.parts import Parts, Spans, split_rows
from factory.text.buffers import text_buffers

Ints = npt.NDArray[np.int64]
CLEAR_SHARE, CERTAIN = 0.75, 10000
"""lid.176 is asked for the main language of a response with less of its words in one language."""
_NAMED = ("consistency", "words", "foreign_words", "foreign_sentences", "languages", "foreign_run",
          "foreign_run_language", "foreign_run_at", "foreign_run_end")
_RUN = ("foreign_run", "foreign_run_language", "foreign_run_at", "foreign_run_end")


class _Part(NamedTuple):
    """One part of all rows: the columns of `score.PART` with character offsets, and words by language number."""

    frame: pl.DataFrame
    by_word: npt.NDArray[np.int32]


def find_targets(texts: Sequence[str | None], prompts: Sequence[str] | None, wanted: str | None) -> list[str | None]:
    """The target of every row: `wanted`, or the language of its prompt, or where that has none its own."""
    if prompts is None:
        return [wanted] * len(texts)
    asked = sorted(set(prompts))
    known = dict(zip(asked, main_languages(asked), strict=True))
    targets = [known[prompt] for prompt in prompts]
    unclear = [row for row, target in enumerate(targets) if target is None and texts[row]]
    for row, own in zip(unclear, main_languages([texts[row] or "" for row in unclear]), strict=True):
        targets[row] = own
    return targets


def _measure(spans: Spans, parts: Parts, targets: Sequence[str | None], numbers: Ints) -> _Part:
    measured = measure_part(spans.data, spans.starts, spans.ends, numbers)
    frame = part_frame(spans.data, spans.starts, measured)
    outside = [row for row, target in enumerate(targets) if target and numbers[row] < 0]
    if outside:
        places = [(int(spans.starts[row]), int(spans.ends[row])) for row in outside]
        others = outside_frame(spans.data, places, [targets[row] or "" for row in outside])
        kept = np.delete(np.arange(len(targets)), outside)
        order = np.argsort(np.concatenate([kept, outside]), kind="stable")
        frame = pl.concat([frame[kept], others])[order]
    ends = [parts.locate(frame[name].to_numpy()) for name in ("start", "stop")]
    offsets = {name: pl.Series(values).replace(-1, None) for name, values in
               zip(("foreign_run_at", "foreign_run_end"), ends, strict=True)}
    return _Part(frame.drop("start", "stop").with_columns(**offsets), measured.by_word)


def _document_languages(buffers: Spans, thinking: _Part, answer: _Part, outside: Sequence[int]) -> list[str | None]:
    """The main language of every response (see filter.language)."""
    votes = thinking.by_word + answer.by_word
    votes[:, 0] = 0
    words, main = votes.sum(axis=1), votes.argmax(axis=1)
    most = votes.max(axis=1, initial=0)
    known = languages()
    found: list[str | None] = [known[number] if count else None
                               for number, count in zip(main.tolist(), most.tolist(), strict=True)]
    for row in np.flatnonzero((most > 0) & ((words < UNCERTAIN_WORDS) | (most < CLEAR_SHARE * words))).tolist():
        begin = int(buffers.starts[row])
        said = buffers.data[begin:min(begin + SAMPLE, int(buffers.ends[row]))].tobytes().decode("utf-8", "ignore")
        found[row] = settle(said, int(main[row]), CERTAIN)
    for row in outside:
        tables = [*thinking.frame["languages"][row].to_list(), *answer.frame["languages"][row].to_list()]
        found[row] = max(tables, key=lambda entry: int(entry["words"]))["language"] if tables else None
    return found


def score_rows(texts: pl.Series, prompts: Sequence[str] | None, wanted: str | None, least: float,
               most: int | None) -> pl.DataFrame:
    """One row per text, with the columns of a score table and of `filter.language`."""
    known = texts.cast(pl.String)
    targets = find_targets(known.to_list() if prompts is not None else [None] * len(known), prompts, wanted)
    parts = split_rows(text_buffers(known))
    numbers = np.array([(number_of(target) or -1) if target else -1 for target in targets], np.int64)
    thinking = _measure(parts.thinking, parts, targets, numbers)
    answer = _measure(parts.answer, parts, targets, numbers)
    outside = [row for row, target in enumerate(targets) if target and numbers[row] < 0]
    frame = pl.concat([part.frame.select(pl.all().name.suffix(suffix)) for part, suffix in (
        (thinking, "_thinking"), (answer, "_answer"))], how="horizontal").with_columns(
            pl.Series("language", _document_languages(parts.whole, thinking, answer, outside), pl.String),
            pl.Series("target", targets, pl.String), known.is_null().alias("_null"))
    return judge_rows(frame, least, most)


def judge_rows(frame: pl.DataFrame, least: float, most: int | None) -> pl.DataFrame:
    """The columns of both parts together, and the verdict."""
    thought = pl.col("words_thinking") > 0
    told = pl.col("target").is_not_null()
    sentences = pl.col("foreign_sentences_thinking") + pl.col("foreign_sentences_answer")
    share = pl.when(thought).then("consistency_thinking").otherwise("consistency_answer")
    # the evidence is that of the thinking, unless only the answer has a foreign sentence
    first = thought & ((pl.col("foreign_sentences_thinking") > 0) | (pl.col("foreign_sentences_answer") == 0))
    frame = frame.with_columns(
        pl.when(thought).then("words_thinking").otherwise("words_answer").alias("words"),
        pl.when(told).then(share).fill_null(1.0).fill_nan(1.0).alias("consistency"),
        sentences.alias("foreign_sentences"),
        (pl.col("switches_thinking") + pl.col("switches_answer")).alias("switches"),
        *(pl.when(first).then(f"{name}_thinking").otherwise(f"{name}_answer").alias(name) for name in _RUN))
    frame = frame.with_columns(pl.when(told).then("consistency").otherwise(1.0).alias("consistency"))
    passed = (pl.col("consistency") >= least) | ~told
    if most is not None:
        passed &= (pl.col("foreign_sentences") <= most) | ~told
    frame = frame.with_columns(passed.alias("passed"), pl.lit(None, pl.String).alias("label"),
                               pl.col("consistency").alias("score"))
    frame = frame.with_columns(
        pl.when(~pl.col("passed")).then(pl.lit("mixed_language")).alias("reason_code"), _reason().alias("reason"))
    nothing = [pl.when(pl.col("_null")).then(None).otherwise(pl.col(name)).alias(name)
               for name in {**SCORE_SCHEMA, **_OUT} if name not in ("reason_code", "reason")]
    return frame.with_columns(
        *nothing, pl.when("_null").then(pl.lit("no_text")).otherwise("reason_code").alias("reason_code"),
    ).select(pl.col(name).cast(dtype) for name, dtype in {**SCORE_SCHEMA, **_OUT}.items())


def _reason() -> pl.Expr:
    words, share = pl.col("words"), pl.col("consistency").round(3)
    found = pl.format("{} of {} words in {}; {} foreign sentences; {} at {}: {}", share, words, "target",
                      "foreign_sentences", "foreign_run_language", "foreign_run_at",
                      pl.col("foreign_run").str.slice(0, 40))
    return (pl.when(words == 0).then(pl.lit("no words to measure"))
            .when(pl.col("target").is_null()).then(pl.format("{} words, too few to tell a language", words))
            .when(~pl.col("passed") & pl.col("foreign_run").is_not_null()).then(found)
            .otherwise(pl.format("{} words, {} in {}", words, share, "target"))).str.slice(0, 120)


def share_of(text: str, target: str | None) -> float | None:
    """The share of words in the target language of one text, None without words; 1.0 where no target is known."""
    raw = text.encode("utf-8", "replace")
    number = (number_of(target) or -1) if target else -1
    data = np.frombuffer(raw, np.uint8)
    if target and number < 0:
        share: float | None = measure_outside(data, 0, len(raw), target)["consistency"]
        return share
    fields = measure_part(data, np.zeros(1, np.int64), np.array([len(raw)]), np.array([number])).fields[0]
    if not fields[WORDS]:
        return None
    return int(fields[GOOD]) / int(fields[WORDS]) if target else 1.0
