"""A plugin verifier for the tests: the last word against the reference. TEST_VERIFIER_VERSION is its version; from
version 2 on it forgives capitals. TEST_VERIFIER_FAULT breaks it: `deaf` refuses all, `blind` accepts all, `slow` has
only time-outs. TEST_LOG names a file in which it counts the rows it was given."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl

from factory.engine.op import _OPS, Kind, OpContext, Params, Trial, op
from factory.verifiers.verdict import VERDICT_OUT, Verdict, frame


class WordParams(Params):
    """Columns."""

    response: str = "text"
    answer: str = "answer"


def trials(params: WordParams) -> list[Trial]:
    return [Trial({params.response: "it is red", params.answer: "red"}, "correct"),
            Trial({params.response: "it is blue", params.answer: "red"}, "incorrect")]


def word(batch: pl.DataFrame, params: WordParams, ctx: OpContext) -> pl.DataFrame:
    """Whether the last word is the reference."""
    fault = os.environ.get("TEST_VERIFIER_FAULT", "")
    if log := os.environ.get("TEST_LOG"):
        with Path(log).open("a") as file:
            file.write(f"{batch.height}\n")
    return frame([_judge(text, answer, fault)
                  for text, answer in batch.select(params.response, params.answer).iter_rows()])


def _judge(text: str, answer: str | None, fault: str) -> Verdict:
    if fault == "slow":
        return Verdict("undecided", "timeout", "it took too long", transient=True)
    if not answer:
        return Verdict("undecided", "gold_unparseable", f"the reference {answer!r} cannot be read")
    last = text.split()[-1]
    same = last.lower() == answer.lower() if version() > 1 else last == answer
    same = {"deaf": False, "blind": True}.get(fault, same)
    label = "correct" if same else "incorrect"
    return Verdict(label, "same" if same else "other", f"{last} against {answer}", last, float(same))


def version() -> int:
    return int(os.environ.get("TEST_VERIFIER_VERSION", "1"))


def register() -> None:
    """Define the op under the version of now, as an upgraded plugin would in a new process."""
    _OPS.pop("test.word", None)
    op("test.word", version=version(), kind=Kind.SCORE, params=WordParams,
       columns=lambda params: (params.response, params.answer), out=VERDICT_OUT, trials=trials)(word)


register()
