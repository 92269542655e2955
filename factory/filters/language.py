"""filter.language: does a chain of thought stay in one language?

R1's language consistency (R1 paper, equation 7) is Num(words in the target language) / Num(words) over the chain of
thought. The paper does not say how a word gets its language; here:

1. What is no prose is skipped (`langmix.scan`): LaTeX, fenced and inline code, lines of bare code, URLs, tags, numbers,
   identifiers, quoted names, single letters. Words are runs of letters of one script; Han, kana and other scripts
   without spaces count one word per character.
2. A script that one language owns decides (Hangul: Korean; Han: Chinese, or Japanese beside kana).
3. Where languages share a script a change-point test over the words decides (`langmix.runs`; Page 1954, CUSUM): each
   word speaks for or against each language by how frequent it is in them, an unknown one by its trigrams. A stretch of
   another language is foreign where its evidence is strong; lid.176 is asked where it is in doubt. So a stretch need
   not be a whole sentence, and one odd word is none.
4. A *foreign sentence* is a stretch of foreign words as long as a sentence: 4 words of the target's script, 3 of
   another, 6 characters of a script without spaces; English words in a text of another script, which may be terms, are
   one from 5 words without capitals on, 2 of them function words (`langmix.tally`).

The target is a given language, or that of the prompt (`langmix.targets`: by its words, by lid.176 where they leave
doubt). Languages beyond the tables are measured by lid.176 alone (`language_outside`). The reason code is
`mixed_language`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import polars as pl
from pydantic import Field, field_validator

from factory.engine.errors import OpError
from factory.engine.op import Kind, OpContext, Params, op
from factory.engine.text import split_response
from factory.filters.langmix.lanes import fold, number_of
from factory.filters.measured import read_column

_SHARES = pl.List(pl.Struct({"language": pl.String(), "words": pl.Int32(), "segments": pl.Int32()}))
_OF_PART: dict[str, pl.DataType] = {
    "consistency": pl.Float64(), "words": pl.Int32(), "foreign_words": pl.Int32(), "foreign_sentences": pl.Int32(),
    "languages": _SHARES, "foreign_run": pl.String(), "foreign_run_language": pl.String(),
    "foreign_run_at": pl.Int64(), "foreign_run_end": pl.Int64()}
_OUT: dict[str, pl.DataType] = {
    "language": pl.String(), "target": pl.String(), "consistency": pl.Float64(), "switches": pl.Int32(),
    "words": pl.Int32(), "foreign_sentences": pl.Int32(), "foreign_run": pl.String(),
    "foreign_run_language": pl.String(), "foreign_run_at": pl.Int64(), "foreign_run_end": pl.Int64(),
    **{f"{name}_{part}": dtype for part in ("thinking", "answer") for name, dtype in _OF_PART.items()}}
_KERNELS = tuple(f"factory.filters.langmix.{name}" for name in (
    "ascii_words", "charset", "code_lines", "fences", "formulas", "grams", "kernel", "keywords", "labels",
    "lanes", "letters", "lid", "masks", "measure", "model", "names", "runs", "scan", "score", "sentences", "tally",
    "targets", "words"))


class LanguageParams(Params):
    """`target`: `prompt` (the language of `prompt_column`; where that is too short to tell, the response's own main
    language) or a code such as `en`. `min_consistency`: least share of target-language words of the thinking that
    passes. `max_foreign_sentences`: most foreign sentences in thinking and answer together that pass (null: any)."""

    text: str = "response"
    target: str = "prompt"
    prompt_column: str = "prompt"
    min_consistency: float = Field(default=0.8, ge=0, le=1)
    max_foreign_sentences: int | None = Field(default=0, ge=0)

    @field_validator("target")
    @classmethod
    def _check_target(cls, value: str) -> str:
        if value != "prompt" and not 2 <= len(value.split("-")[0]) <= 3:
            raise ValueError(f"target {value!r} is no language code: write 'prompt' or a code such as 'en' or 'zh'")
        return value


def prompt_text(value: Any) -> str:
    """A prompt is a text or a list of messages, of which the user's count."""
    if isinstance(value, list):
        return "\n".join(str(part.get("content") or "") for part in value
                         if isinstance(part, dict) and part.get("role") == "user")
    return "" if value is None else str(value)


def fixed_target(target: str) -> str:
    """The folded code of a target.

    Raises:
        OpError: no language of that code is known.
    """
    code = fold(target)
    if number_of(code) == 0:
        from factory.filters.languages import known_languages

        if code not in known_languages():
            raise OpError(f"target {target!r} is not among the languages of lid.176: write an ISO 639 code such as "
                          "'en', 'zh' or 'de'")
    return code


def _own_language(text: str) -> str | None:
    from factory.filters.langmix.targets import main_languages

    return main_languages([text.encode("utf-8", "replace").decode()])[0]


_language_of = lru_cache(maxsize=4096)(_own_language)  # of prompts, which come once for every sample


def consistency(response: str, target: str, prompt: str = "") -> float | None:
    """R1's language consistency of one response, 0 to 1: the measure of `filter.language` as a trainer's reward. None
    where there is no word to measure.

    `target` is a language code, or `prompt` for the language of `prompt`.

    Raises:
        OpError: no language of that code is known.
    """
    from factory.filters.language_rows import share_of

    wanted = fixed_target(target) if target != "prompt" else _language_of(prompt) or _own_language(response)
    parts = split_response(response)
    for text in (parts.thinking, parts.answer):
        share = share_of(text, wanted) if text else None
        if share is not None:
            return share
    return None


@op("filter.language", version=3, kind=Kind.SCORE, params=LanguageParams, out=_OUT, code=_KERNELS,
    columns=lambda params: (params.text, *([params.prompt_column] if params.target == "prompt" else [])))
def language(batch: pl.DataFrame, params: LanguageParams, ctx: OpContext) -> pl.DataFrame:
    """Measure R1's language consistency of the thinking, and of the answer apart; find foreign sentences in both.

    Columns: `language` (main language of the response: that of most of its words; of a response of fewer than 20 words,
    or with less than three quarters of them in one language, what lid.176 says where it is sure; null without words),
    `target`, `consistency` and `words` (of the thinking; of the answer where the thinking has no words; `consistency`
    is 1.0 where there are no words at all, or too few to tell any language, then `target` is null), `switches`
    (changes of language from word to word), `foreign_sentences` (in thinking and answer), `foreign_run` (the longest
    foreign stretch, at most 200 characters, of the thinking, or of the answer where only that has one of a sentence's
    length; null without any), `foreign_run_language`, `foreign_run_at` and `foreign_run_end` (characters in the
    response). For each part, as `…_thinking` and `…_answer`: `consistency` (null without words), `words`,
    `foreign_words`, `foreign_sentences`, `languages` (list of language, words, segments: words and sentences by
    language), `foreign_run`, `foreign_run_language`, `foreign_run_at`, `foreign_run_end`. `score` is `consistency`.
    Reason codes: `mixed_language` (a share below `min_consistency`, or more than `max_foreign_sentences`); `no_text`
    (null text: undecided).

    Raises:
        DataError: the column does not hold text.
        OpError: `target` is a code that no language has.
        ModelError: the language model is not installed.
    """
    from factory.filters.language_rows import score_rows

    texts = read_column(batch, params.text)
    prompts = None if params.target != "prompt" else [prompt_text(one) for one in batch[params.prompt_column].to_list()]
    try:
        wanted = fixed_target(params.target) if prompts is None else None
    except OpError as error:
        raise OpError(f"step {ctx.step}: params.{error}") from None
    frame = score_rows(texts, prompts, wanted, params.min_consistency, params.max_foreign_sentences)
    return frame.with_columns(
        pl.when(pl.col("reason_code") == "no_text").then(pl.lit(f"{params.text} is null")).otherwise("reason")
        .alias("reason"))
