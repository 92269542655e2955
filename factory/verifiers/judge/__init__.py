"""`verify.judge`: does a response agree with the reference answer, in the eyes of a model?

R1's generative judge (DeepSeek-R1, Listing 4): question, reference answer and response; the analysis comes first, then
the verdict in JSON. It is for short, definite answers that rules cannot compare, not for open-ended writing (R1 paper,
section G.1). Two forms: `r1` shows the answer part of the response; `answers` shows only the two final answers and asks
whether they are equivalent, which leaves a response less room to persuade.

A judge costs thousands of times what a rule costs and errs more often, so it is asked last: `ask: refused` asks only
where no earlier verdict says correct, as Open R1 does; `ask: undecided` only where none decides. Responses without
substance are refused before it (`cases.py`), what it is shown cannot close its fence (`prompts.py`), its replies
are read strictly (`reading.py`), and with every batch it has to refuse the canaries (`canaries.py`).

Several votes are drawn from one prompt at a temperature above 0; more than half of all votes decide. Votes that cannot
be read count for nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import polars as pl
from pydantic import Field, model_validator

from factory.engine.op import Ask, Kind, OpContext, Params, PlanContext, op
from factory.models.base import Completion
from factory.verifiers.judge.canaries import Canary, accepted_error, canaries_for, host_of, unanswered_error
from factory.verifiers.judge.cases import Case, Form, Policy, open_case, to_ask
from factory.verifiers.judge.prompts import Messages, prefill_of, prompt_identity, render
from factory.verifiers.judge.reading import Reading, Vote, read_reply
from factory.verifiers.verdict import VERDICT_OUT, Label, Verdict, frame

JUDGE_OUT: dict[str, pl.DataType] = {**VERDICT_OUT, "votes": pl.List(pl.String), "analysis": pl.String()}
_ANALYSIS_LIMIT = 2000
_MOST_VOTES = 99
_FIRST_CANARY = 100
"""The slot of the first canary: the same for any number of votes, so that its answer is found again."""
_NOT_ASKED = Verdict("undecided", "not_asked", "the policy asks the judge only where earlier verdicts fall short")


class JudgeParams(Params):
    """`question`, `response` and `reference` name columns; `finish_reason` the one that says how the response ended
    (None: it is not looked at). `form` is what the judge is shown; `template` is a wording of your own (a path ending
    in .txt with {question}, {reference}, {response} and {mark}). `votes` is odd; more than one needs a `temperature`
    above 0. `ask` says which rows are put to the judge. `canaries: enforce` fails the step if one is accepted, or none
    could be put while rows were answered (replies that cannot be read pass); `report` only counts."""

    question: str = "prompt"
    response: str = "response"
    reference: str = "answer"
    finish_reason: str | None = None
    form: Form = "r1"
    template: str | None = None
    votes: int = Field(1, ge=1, le=_MOST_VOTES)
    temperature: float = Field(0.0, ge=0, allow_inf_nan=False)
    max_tokens: int = Field(2048, ge=1)
    ask: Policy = "always"
    show_thinking: bool = False
    canaries: Literal["enforce", "report"] = "enforce"

    @model_validator(mode="after")
    def _check_votes(self) -> JudgeParams:
        if self.votes % 2 == 0:
            raise ValueError(f"votes: {self.votes} can end in a tie; use an odd number")
        if self.votes > 1 and self.temperature == 0:
            raise ValueError(f"votes: {self.votes} at temperature 0 are one vote, {self.votes} times: set a "
                             "temperature (0.7), or votes: 1")
        if self.show_thinking and self.form == "answers":
            raise ValueError("show_thinking has no meaning with form: answers, which shows final answers only; use "
                             "form: r1")
        return self


def _columns(params: JudgeParams) -> list[str]:
    named = (params.question, params.response, params.reference, params.finish_reason)
    return list(dict.fromkeys(name for name in named if name is not None))


def _identity(params: JudgeParams, plan: PlanContext) -> dict[str, str]:
    return prompt_identity(f"judge_{params.form}", params.template, ("question", "reference", "response"), plan)


@op("verify.judge", version=1, kind=Kind.SCORE, params=JudgeParams, columns=_columns, out=JUDGE_OUT,
    identity=_identity, extensible=("votes", "max_tokens", "ask", "canaries"), provenance=("template",),
    asks_model=True, code=("factory.verifiers.judge.cases", "factory.verifiers.judge.canaries",
                           "factory.verifiers.judge.prompts", "factory.verifiers.judge.reading"))
class Judge:
    """Whether a response agrees with the reference answer, as a model judges it.

    Adds `extracted` (what the judge was shown), `votes` (`correct`, `incorrect`, `ambiguous`, `unparseable`) and
    `analysis` (what the first vote of the majority said; the first reply where there is no majority). `score` is the
    share of votes for correct. `reason_code`: `judged_correct`, `judged_incorrect`, `judged_ambiguous`, `no_majority`,
    `unparseable`; without asking `not_asked`, `gold_missing`, `question_missing`, `empty`, `unfinished`, `degenerate`;
    or the code of a request that the model could not take (`prompt_too_long`).

    Raises:
        OpError: the judge accepted a canary or answered none of them (`canaries: enforce`), or `ask` needs earlier
            verdicts and there are none.
    """

    def requests(self, batch: pl.DataFrame, params: JudgeParams, ctx: OpContext) -> list[Ask]:
        """The votes of each row that has to be asked; after those of one row, the canaries."""
        cases = _cases(batch, params)
        template = ctx.identity["template"]
        prefill = prefill_of(template)
        asks: list[Ask] = []
        host = host_of(cases, batch["row_key"].to_list())
        for row, case in enumerate(cases):
            if case.verdict is not None:
                continue
            asked = messages_for(template, case)
            asks += [Ask(row, slot, asked, prefill=prefill, temperature=params.temperature,
                         max_tokens=params.max_tokens)
                     for slot in range(params.votes)]
            if row == host:
                asks += [Ask(row, _FIRST_CANARY + number, messages_for(template, case, canary.response),
                             prefill=prefill, max_tokens=params.max_tokens)
                         for number, canary in enumerate(canaries_for(case, params.form))]
        return asks

    def collect(self, batch: pl.DataFrame, asks: Sequence[Ask], completions: Sequence[Completion],
                params: JudgeParams, ctx: OpContext) -> pl.DataFrame:
        """One verdict per row of the batch, in order."""
        cases = _cases(batch, params)
        replies: dict[int, list[Completion]] = {}
        canaries: list[tuple[Canary, Completion]] = []
        for ask, completion in zip(asks, completions, strict=True):
            completion = replace(completion, text=ask.prefill + completion.text)
            if ask.slot < _FIRST_CANARY:
                replies.setdefault(ask.row, []).append(completion)
            else:
                known = canaries_for(cases[ask.row], params.form)
                canaries.append((known[ask.slot - _FIRST_CANARY], completion))
        # Where the judge said nothing of the rows either, there is no verdict for the canaries to guard.
        if any(_answered(reply) for several in replies.values() for reply in several):
            _check_asked([reply for _, reply in canaries], params, ctx)
        _check_canaries(canaries, params, ctx)
        judged = [_judged(case, replies.get(row, []), params.votes) for row, case in enumerate(cases)]
        verdicts = [verdict for verdict, _, _ in judged]
        ctx.count("asked", len(replies))
        ctx.count("unparseable_votes", sum(vote == "unparseable" for _, votes, _ in judged for vote in votes or ()))
        own = pl.DataFrame([(votes, analysis) for _, votes, analysis in judged], orient="row",
                           schema={"votes": JUDGE_OUT["votes"], "analysis": JUDGE_OUT["analysis"]})
        return frame(verdicts).hstack(own)


def messages_for(template: str, case: Case, response: str | None = None) -> Messages:
    """The chat that asks about a case, or about another response to its question."""
    shown = case.shown if response is None else response
    return render(template, {"question": case.question, "reference": case.reference, "response": shown})


def check_judge(case: Case, readings: Sequence[Reading], votes: int) -> Verdict:
    """The verdict on a case by what the judge's replies say; `votes` is how many were asked for."""
    if case.verdict is not None:
        return case.verdict
    cast = [reading.vote for reading in readings]
    share = cast.count("correct") / votes
    told = f"{cast.count('correct')} of {votes} votes for correct"
    labels: dict[Vote, Label] = {"correct": "correct", "incorrect": "incorrect", "ambiguous": "undecided"}
    for vote, label in labels.items():
        if 2 * cast.count(vote) > votes:
            return Verdict(label, f"judged_{vote}", f"the judge calls it {vote}: {told}", case.shown, share)
    if "unparseable" in cast and len(set(cast)) == 1:
        return Verdict("undecided", "unparseable", "no reply of the judge holds a verdict that can be read", case.shown)
    return Verdict("undecided", "no_majority", f"no verdict has more than half of the votes: {told}, "
                   f"{cast.count('incorrect')} for incorrect", case.shown, share)


def _cases(batch: pl.DataFrame, params: JudgeParams) -> list[Case]:
    columns: list[list[Any]] = [batch[name].to_list() for name in (params.question, params.reference, params.response)]
    ends = batch[params.finish_reason].to_list() if params.finish_reason else [None] * batch.height
    rows = zip(*columns, ends, to_ask(batch, params.ask), strict=True)
    return [open_case(question, reference, response, params.form, finish_reason=end,
                      show_thinking=params.show_thinking) if asked else Case(verdict=_NOT_ASKED)
            for question, reference, response, end, asked in rows]


def _answered(reply: Completion) -> bool:
    return reply.error is None and reply.rejected is None


def _check_asked(replies: Sequence[Completion], params: JudgeParams, ctx: OpContext) -> None:
    """A judge that answers rows and no canary stops the step, unless canaries are only reported."""
    if params.canaries == "enforce" and not any(_answered(reply) for reply in replies):
        raise unanswered_error(ctx.step, replies)


def _check_canaries(answers: Sequence[tuple[Canary, Completion]], params: JudgeParams, ctx: OpContext) -> None:
    """Count what the judge made of the canaries; accepted ones stop the step, unless they are only reported."""
    read = [(canary, read_reply(reply.text)) for canary, reply in answers if _answered(reply)]
    accepted = [(canary, reading) for canary, reading in read if reading.vote == "correct"]
    ctx.count("canaries_asked", len(read))
    ctx.count("canaries_accepted", len(accepted))
    ctx.count("canaries_unparseable", sum(reading.vote == "unparseable" for _, reading in read))
    if accepted and params.canaries == "enforce":
        remedy = "form: answers" if params.form == "r1" else "form: r1"
        raise accepted_error(ctx.step, accepted, len(read), remedy)


def _judged(case: Case, replies: Sequence[Completion],
            votes: int) -> tuple[Verdict, list[Vote] | None, str | None]:
    """A row's verdict, its votes and the analysis that stands for them."""
    if case.verdict is not None:
        return case.verdict, None, None
    refused = next((reply.rejected for reply in replies if reply.rejected), None)
    if refused is not None:
        code, _, reason = refused.partition(": ")
        return Verdict("undecided", code, reason or code, case.shown), None, None
    readings = [read_reply(reply.text) if reply.error is None else Reading("unparseable", "") for reply in replies]
    verdict = check_judge(case, readings, votes)
    majority = verdict.reason_code.removeprefix("judged_")
    analysis = next((reading.analysis for reading in readings if reading.vote == majority), readings[0].analysis)
    return verdict, [reading.vote for reading in readings], analysis[:_ANALYSIS_LIMIT]
