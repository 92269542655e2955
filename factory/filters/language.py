"""filter.language: does a chain of thought stay in one language?

R1's language consistency (R1 paper, equation 7) is Num(words in the target language) / Num(words) over the chain of
thought. The paper does not say how a word gets its language; here:

1. Formulas, code, URLs and tags are masked (`filters.masking`). Words are runs of letters of one script; Han, Kana and
   other scripts without spaces count one word per character. Numbers, names with digits or underscores and single
   Latin or Greek letters (variables) are no words.
2. Words form *units*: stretches of one script within a sentence or line, at most 60 words long.
3. A script that one language owns decides (Hangul: Korean; Kana in the unit: Japanese; Han alone: Chinese). Else
   fastText's lid.176 reads the unit. It answers for the target where it gives the target a fair chance, and for
   another language only where it is sure, surer for short units than for long ones.
4. A unit too short or too unclear takes the language of its nearest decided neighbours of the same script (the target
   if they disagree); without any, the target if that is written in this script, else it stays `und`, foreign to all.

A stretch of foreign words inside a sentence of the same script is therefore not seen: the grain is the sentence.
The reason code is `mixed_language`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import polars as pl
from pydantic import Field, field_validator

from factory.engine.errors import OpError
from factory.engine.op import SCORE_SCHEMA, Kind, OpContext, Params, op
from factory.engine.text import split_response
from factory.filters.languages import (
    UNDECIDED,
    Unit,
    canonical,
    find_target,
    find_units,
    known_languages,
    main_language,
    resolve,
)
from factory.filters.masking import mask, read_texts

_OUT: dict[str, pl.DataType] = {
    "language": pl.String(), "target": pl.String(), "consistency": pl.Float64(), "consistency_thinking": pl.Float64(),
    "consistency_answer": pl.Float64(), "switches": pl.Int32(), "foreign_run": pl.String(), "words": pl.Int32(),
}


class LanguageParams(Params):
    """`target`: `prompt` (the language of `prompt_column`; where that is too short to tell, the response's own main
    language) or a code such as `en`. `min_consistency`: least share of target-language words that passes."""

    text: str = "response"
    target: str = "prompt"
    prompt_column: str = "prompt"
    min_consistency: float = Field(default=0.9, ge=0, le=1)

    @field_validator("target")
    @classmethod
    def _check_target(cls, value: str) -> str:
        if value != "prompt" and not 2 <= len(value.split("-")[0]) <= 3:
            raise ValueError(f"target {value!r} is no language code: write 'prompt' or a code such as 'en' or 'zh'")
        return value


_DEFAULTS = LanguageParams()


class _Measured(NamedTuple):
    """One part of a response, measured against the target."""

    words: int
    share: float | None
    run: tuple[int, int, str] | None  # offsets and language of the longest foreign run
    languages: list[str]


def _measure(units: list[Unit], target: str | None) -> _Measured:
    languages = resolve(units, target)
    words = good = longest = current = begin = 0
    run: tuple[int, int, str] | None = None
    for unit, language in zip(units, languages, strict=True):
        words += unit.words
        if language == target:
            good, current = good + unit.words, 0
            continue
        begin = begin if current else unit.start
        current += unit.words
        if current > longest:
            longest, run = current, (begin, unit.end, language)
    return _Measured(words, good / words if words else None, run, languages)


def _prompt_text(value: Any) -> str:
    """A prompt is a text or a list of messages, of which the user's count."""
    if isinstance(value, list):
        return "\n".join(str(part.get("content") or "") for part in value
                         if isinstance(part, dict) and part.get("role") == "user")
    return "" if value is None else str(value)


def _score(text: str, wanted: str | None, params: LanguageParams) -> tuple[Any, ...]:
    parts = split_response(text)
    masked = mask(parts.thinking or ""), mask(parts.answer or "")
    thinking, answer = find_units(masked[0]), find_units(masked[1])
    target = wanted or find_target([*thinking, *answer], "\n".join(masked))
    in_thinking, in_answer = _measure(thinking, target), _measure(answer, target)
    spoken = [one for one in (*in_thinking.languages, *in_answer.languages) if one != UNDECIDED]
    switches = sum(1 for before, now in pairwise(spoken) if before != now)
    part, text_of, base = ((in_thinking, parts.thinking, parts.thinking_at) if in_thinking.words
                           else (in_answer, parts.answer, parts.answer_at))
    share = 1.0 if part.share is None or target is None else part.share
    passed, code, run = share >= params.min_consistency, None, None
    reason = f"{part.words} words, {share:.3f} in {target}" if part.words else "no words to measure"
    if part.words and target is None:
        reason = f"{part.words} words, too few to tell a language"
    if part.run and text_of is not None and target is not None:
        begin, end, language = part.run
        run = text_of[begin:min(end, begin + 200)]
        if not passed:
            code = "mixed_language"
            reason = f"{share:.3f} of {part.words} words in {target}; {language} at {base + begin}: {run[:40]}"
    main = main_language([*thinking, *answer], [*in_thinking.languages, *in_answer.languages])
    return (passed, None, share, code, reason[:120], main, target, share, in_thinking.share, in_answer.share,
            switches, run, part.words)


def consistency(response: str, target: str, prompt: str = "") -> float | None:
    """R1's language consistency of one response, 0 to 1: the measure of `filter.language` as a trainer's reward. None
    where there is no word to measure.

    `target` is a language code, or `prompt` for the language of `prompt`.
    """
    masked = mask(prompt) if target == "prompt" else ""
    wanted = find_target(find_units(masked), masked) if target == "prompt" else canonical(target)
    scored = _score(response, wanted, _DEFAULTS)
    return float(scored[2]) if scored[-1] else None


@op("filter.language", version=2, kind=Kind.SCORE, params=LanguageParams, out=_OUT,
    columns=lambda params: (params.text, *([params.prompt_column] if params.target == "prompt" else [])))
def language(batch: pl.DataFrame, params: LanguageParams, ctx: OpContext) -> pl.DataFrame:
    """Measure R1's language consistency of the thinking, and of the answer apart.

    Columns: `language` (main language of the response, null without words), `target`, `consistency` (of the thinking;
    of the answer where the thinking has no words; 1.0 where there are no words at all, then `words` is 0, or too
    few to tell any language, then `target` is null),
    `consistency_thinking` and `consistency_answer` (null without words), `switches` (changes of language in reading
    order), `foreign_run` (the longest stretch of foreign words in the measured part, at most 200 characters, null
    without any), `words` (of the measured part). `score` is `consistency`. Reason codes: `mixed_language`; `no_text`
    (null text: undecided).

    Raises:
        DataError: the column does not hold text.
        OpError: `target` is a code that the model does not know.
        ModelError: the language model is not installed.
    """
    fixed = None
    if params.target != "prompt":
        fixed = canonical(params.target)
        if fixed not in known_languages():
            raise OpError(f"step {ctx.step}: params.target {params.target!r} is not among the languages of lid.176: "
                          "write an ISO 639 code such as 'en', 'zh' or 'de'")
    prompts = [None] * batch.height if fixed else batch[params.prompt_column].to_list()
    targets: dict[str, str | None] = {}
    rows: list[tuple[Any, ...]] = []
    for text, prompt in zip(read_texts(batch, params.text), prompts, strict=True):
        if text is None:
            rows.append((None, None, None, "no_text", f"{params.text} is null", *[None] * len(_OUT)))
            continue
        wanted = fixed
        if wanted is None:
            asked = _prompt_text(prompt)
            if asked not in targets:
                masked = mask(asked)
                targets[asked] = find_target(find_units(masked), masked)
            wanted = targets[asked]
        rows.append(_score(text, wanted, params))
    return pl.DataFrame(rows, schema={**SCORE_SCHEMA, **_OUT}, orient="row")
