"""`verify.combine`: one verdict from those of several verifiers, by a declared policy.

A step names the scored steps it hears in `verdicts`, in an order that `rules_then_judge` minds:

- `any`: correct if one says correct; incorrect only if all say incorrect; else undecided.
- `all`: correct only if all say correct; incorrect if one says incorrect; else undecided.
- `majority`: what more than half of all of them say; else undecided.
- `rules_then_judge`: the first has the word and each later one is asked only where those before it did not say correct,
  as where a judge is asked about what rules refused (https://huggingface.co/blog/open-r1/update-2). `overturn` says
  what a later `correct` may overturn: `undecided` alone or `incorrect` too. A later `incorrect` decides what was
  undecided, and changes nothing else.

A verifier that failed on a row, or was not given it, is undecided about it. A filter, which has no labels, says correct
for what passes and incorrect for what does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import polars as pl
from pydantic import Field, field_validator

from factory.engine.errors import OpError
from factory.engine.op import Kind, OpContext, Params, Trial, op
from factory.verifiers.verdict import Label, Verdict, frame

Policy = Literal["any", "all", "majority", "rules_then_judge"]
Overturned = Literal["undecided", "incorrect"]
_SUFFIX = ".label"


class CombineParams(Params):
    """`policy` joins the labels; `overturn` are the labels that a later verifier's `correct` may overturn under
    `rules_then_judge`."""

    policy: Policy = "rules_then_judge"
    overturn: tuple[Overturned, ...] = Field(("undecided", "incorrect"), min_length=1)

    @field_validator("overturn", mode="before")
    @classmethod
    def _one_word(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("overturn")
    @classmethod
    def _ordered(cls, value: tuple[Overturned, ...]) -> tuple[Overturned, ...]:
        return tuple(sorted(set(value), reverse=True))


def _trials(_params: CombineParams) -> list[Trial]:
    """Under every policy, what all say is the verdict."""
    labels: tuple[Label, ...] = ("correct", "incorrect", "undecided")
    return [Trial({f"{step}{_SUFFIX}": label for step in ("first", "second", "third")}, label) for label in labels]


@op("verify.combine", version=1, kind=Kind.SCORE, params=CombineParams, trials=_trials, hears=True,
    out={"extracted": pl.String(), "decided_by": pl.String(), "disagree": pl.Boolean()})
def verify_combine(batch: pl.DataFrame, params: CombineParams, ctx: OpContext) -> pl.DataFrame:
    """One verdict from several: any, all, majority, or rules and then a judge.

    Adds `decided_by`, the first step whose label the verdict is (null where undecided), its `extracted`, and
    `disagree`, true where one says correct and another incorrect. `reason_code` is `all_agree`, `one_of_several`,
    `majority`, `first`, `later`, `overturned` (by a later `correct`) or `undecided`; `score` is the share of the
    verifiers that say correct.

    Raises:
        OpError: there are no verdicts beside the rows.
    """
    steps = [name.removesuffix(_SUFFIX) for name in batch.columns if name.endswith(_SUFFIX)]
    if not steps:
        raise OpError(f"step {ctx.step}: verify.combine joins what other steps said: add "
                      "`verdicts: [<scored step>, …]` to it")
    labels = batch.select(_label(batch, step).alias(step) for step in steps)
    said = [check_combine(steps, row, params.policy, params.overturn) for row in labels.iter_rows()]
    made = frame([verdict for verdict, _ in said])
    by = [decided for _, decided in said]
    disagree = [{"correct", "incorrect"} <= set(row) for row in labels.iter_rows()]
    return made.with_columns(
        pl.Series("extracted", _taken(batch, steps, by), dtype=pl.String),
        pl.Series("decided_by", by, dtype=pl.String), pl.Series("disagree", disagree, dtype=pl.Boolean))


def check_combine(steps: Sequence[str], labels: Sequence[Label | None], policy: Policy = "rules_then_judge",
                  overturn: Sequence[Overturned] = ("undecided", "incorrect")) -> tuple[Verdict, str | None]:
    """The verdict on one row from the labels of `steps` (None: it has none), and the step that decided (None:
    undecided)."""
    given: list[Label] = [label or "undecided" for label in labels]
    label, code = _RULES[policy](given, overturn)
    score = given.count("correct") / len(given)
    told = ", ".join(f"{step} says {one}" for step, one in zip(steps, given, strict=True))
    if label == "undecided":
        return Verdict(label, code, told, None, score), None
    return Verdict(label, code, told, None, score), steps[given.index(label)]


def _any(given: list[Label], _overturn: Sequence[Overturned]) -> tuple[Label, str]:
    if "correct" in given:
        return "correct", _how(given, "correct", "one_of_several")
    return ("incorrect", "all_agree") if set(given) == {"incorrect"} else ("undecided", "undecided")


def _all(given: list[Label], _overturn: Sequence[Overturned]) -> tuple[Label, str]:
    if "incorrect" in given:
        return "incorrect", _how(given, "incorrect", "one_of_several")
    return ("correct", "all_agree") if set(given) == {"correct"} else ("undecided", "undecided")


def _majority(given: list[Label], _overturn: Sequence[Overturned]) -> tuple[Label, str]:
    for label in ("correct", "incorrect"):
        if 2 * given.count(label) > len(given):
            return label, _how(given, label, "majority")
    return "undecided", "undecided"


def _in_turn(given: list[Label], overturn: Sequence[Overturned]) -> tuple[Label, str]:
    label, code = given[0], "first" if given[0] != "undecided" else "undecided"
    for later in given[1:]:
        if label == "undecided" and later == "incorrect":
            label, code = later, "later"
        elif label in overturn and later == "correct":
            code = "later" if label == "undecided" else "overturned"
            label = later
    return label, code


def _how(given: list[Label], label: Label, otherwise: str) -> str:
    return "all_agree" if set(given) == {label} else otherwise


_RULES = {"any": _any, "all": _all, "majority": _majority, "rules_then_judge": _in_turn}


def _label(batch: pl.DataFrame, step: str) -> pl.Expr:
    """What a step says of each row: its label, else what its `passed` comes to."""
    passed = f"{step}.passed"
    meant = pl.when(pl.col(passed)).then(pl.lit("correct")).when(~pl.col(passed)).then(pl.lit("incorrect"))
    own = pl.col(f"{step}{_SUFFIX}").cast(pl.String)
    return pl.coalesce(own, meant) if passed in batch.columns else own


def _taken(batch: pl.DataFrame, steps: Sequence[str], by: Sequence[str | None]) -> list[str | None]:
    """What the step that decided took from the response."""
    columns = {step: batch[f"{step}.extracted"].cast(pl.String).to_list() for step in steps
               if f"{step}.extracted" in batch.columns}
    return [columns[step][row] if step in columns else None for row, step in enumerate(by)]
