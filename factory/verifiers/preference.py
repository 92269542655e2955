"""`verify.preference`: which of two responses to one question serves the user better, and how clearly?

The labels of R1's helpful reward model (DeepSeek-R1, section 3.1): a judge with an Arena-Hard prompt writes its own
answer first, compares, and says one of five labels. It is asked several times with the two responses in random order,
the scores are averaged, and pairs with a score difference above 1 are kept. The paper gives no scale; here `[[A>>B]]`
is +2, `[[A>B]]` +1, `[[A=B]]` 0, `[[B>A]]` -1 and `[[B>>A]]` -2, so a difference above 1 needs at least one vote for
"much better" and cannot come from one lucky order.

**Order.** Judges favour a place (most often the first). Exactly half of the votes see the pair swapped; which half
follows from the row's key and the seed. The margin is the mean of the two orders' means, so that a judge that always
names the same place gets 0, also where some replies could not be read. A pair needs a readable vote in each order and
readable replies for at least half of the votes.

**Lengths.** Judges favour length. `length_ratio` measures it for each pair; `select.preference` balances it over a set.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl
from pydantic import Field, model_validator

from factory.engine.op import Ask, Kind, OpContext, Params, PlanContext, op
from factory.engine.prompts import column_text
from factory.engine.text import THINK_CLOSE, THINK_OPEN
from factory.models.base import Completion
from factory.verifiers.judge.cases import find_fault, shown_part
from factory.verifiers.judge.prompts import prefill_of, prompt_identity, render
from factory.verifiers.verdict import VERDICT_OUT, Verdict, frame

SCALE = {"a>>b": 2, "a>b": 1, "a=b": 0, "b>a": -1, "b>>a": -2}
_MIRROR = {"a>>b": "b>>a", "a>b": "b>a", "a=b": "a=b", "b>a": "a>b", "b>>a": "a>>b"}
_LABEL = re.compile(r"\[\[\s*([ABab])\s*(>>?|=|<<?)\s*([ABab])\s*\]\]")

PREFERENCE_OUT: dict[str, pl.DataType] = {
    **VERDICT_OUT, "margin": pl.Float64(), "preferred": pl.String(), "votes": pl.List(pl.String),
    "length_ratio": pl.Float64(), "chosen_chars": pl.Int64(), "rejected_chars": pl.Int64(),
}


class PreferenceParams(Params):
    """`question`, `response_a` and `response_b` name columns. `votes` is even: half of them see the pair swapped; more
    than two need a `temperature` above 0. A pair is decided where the margin is above `margin` (R1: 1, on a scale from
    -2 to 2). `template` is a wording of your own (a path ending in .txt with {question}, {first}, {second} and
    {mark})."""

    question: str = "prompt"
    response_a: str = "response_a"
    response_b: str = "response_b"
    template: str | None = None
    votes: int = Field(4, ge=2, le=64)
    temperature: float = Field(0.7, ge=0, allow_inf_nan=False)
    max_tokens: int = Field(2048, ge=1)
    margin: float = Field(1.0, ge=0, lt=2)
    show_thinking: bool = False

    @model_validator(mode="after")
    def _check_votes(self) -> PreferenceParams:
        if self.votes % 2:
            raise ValueError(f"votes: {self.votes} cannot be shared by the two orders; use an even number")
        if self.votes > 2 and self.temperature == 0:
            raise ValueError(f"votes: {self.votes} at temperature 0 are two votes, one for each order: set a "
                             "temperature (0.7), or votes: 2")
        return self


def _columns(params: PreferenceParams) -> list[str]:
    return list(dict.fromkeys((params.question, params.response_a, params.response_b)))


def _identity(params: PreferenceParams, plan: PlanContext) -> dict[str, str]:
    return prompt_identity("preference", params.template, ("question", "first", "second"), plan)


@dataclass(frozen=True, slots=True)
class _Pair:
    question: str = ""
    a: str = ""
    b: str = ""
    verdict: Verdict | None = None


@op("verify.preference", version=1, kind=Kind.SCORE, params=PreferenceParams, columns=_columns, out=PREFERENCE_OUT,
    identity=_identity, extensible=("votes", "max_tokens", "margin"), provenance=("template",), asks_model=True,
    code=("factory.verifiers.judge.cases", "factory.verifiers.judge.prompts"))
class Preference:
    """Which of two responses is better, by votes of a judge in both orders.

    Adds `margin` (-2 to 2; above 0: the first is better), `preferred` (`a`, `b`, null where it is not decided), `votes`
    (labels as seen from the first response: `a>>b`, `a>b`, `a=b`, `b>a`, `b>>a`, `unparseable`), and for decided pairs
    `chosen_chars`, `rejected_chars` (characters as shown to the judge) and `length_ratio`, chosen over rejected.
    `label` is `correct` for a decided pair, else `undecided`; `score` is the margin and `extracted` the same as
    `preferred`. `reason_code`: `a_preferred`, `b_preferred`, `close`, `unparseable`; without asking
    `question_missing`, `same_responses`, `empty`, `unfinished`, `degenerate`; or the code of a request that the model
    could not take (`prompt_too_long`).
    """

    def requests(self, batch: pl.DataFrame, params: PreferenceParams, ctx: OpContext) -> list[Ask]:
        """The votes of each pair that has to be asked."""
        asks: list[Ask] = []
        keys = batch["row_key"].to_list()
        prefill = prefill_of(ctx.identity["template"])
        for row, pair in enumerate(_pairs(batch, params)):
            if pair.verdict is not None:
                continue
            straight, turned = ({"question": pair.question, "first": first, "second": second}
                                for first, second in ((pair.a, pair.b), (pair.b, pair.a)))
            chats = [render(ctx.identity["template"], values) for values in (straight, turned)]
            asks += [Ask(row, slot, chats[swapped], prefill=prefill, temperature=params.temperature,
                         max_tokens=params.max_tokens)
                     for slot, swapped in enumerate(vote_orders(keys[row], ctx.seed, params.votes))]
        return asks

    def collect(self, batch: pl.DataFrame, asks: Sequence[Ask], completions: Sequence[Completion],
                params: PreferenceParams, ctx: OpContext) -> pl.DataFrame:
        """One verdict per row of the batch, in order."""
        replies: dict[int, dict[int, Completion]] = {}
        for ask, completion in zip(asks, completions, strict=True):
            replies.setdefault(ask.row, {})[ask.slot] = replace(completion, text=ask.prefill + completion.text)
        keys = batch["row_key"].to_list()
        verdicts, rows = [], []
        for row, pair in enumerate(_pairs(batch, params)):
            said = replies.get(row, {})
            votes = _votes(said, vote_orders(keys[row], ctx.seed, params.votes)) if pair.verdict is None else []
            verdict = _refused(said) or check_preference(votes, params.margin) if pair.verdict is None else pair.verdict
            verdicts.append(verdict)
            rows.append(_measure(pair, verdict, votes))
            ctx.count("unparseable_votes", sum(label is None for label, _ in votes))
            # From the judge's side: which place it named, whoever stood there.
            ctx.count("first_place", sum(label is not None and _sees(label, swapped) > 0 for label, swapped in votes))
            ctx.count("second_place", sum(label is not None and _sees(label, swapped) < 0 for label, swapped in votes))
        own = {name: PREFERENCE_OUT[name] for name in PREFERENCE_OUT if name not in VERDICT_OUT}
        return frame(verdicts).hstack(pl.DataFrame(rows, schema=own, orient="row"))


def vote_orders(row_key: bytes, seed: int, votes: int) -> list[bool]:
    """Which votes see the pair swapped: exactly half of them, drawn from the row's key and the seed."""
    ranked = sorted(range(votes), key=lambda slot: hashlib.sha256(b"%d|%d|%s" % (seed, slot, row_key)).digest())
    swapped = set(ranked[: votes // 2])
    return [slot in swapped for slot in range(votes)]


def read_label(text: str) -> str | None:
    """The label of a reply, in the order that the judge saw (`a>>b` … `b>>a`); None where it has none, or labels that
    differ. What a judge thinks before its reply does not count."""
    said = text.strip()
    if said.startswith(THINK_OPEN) and THINK_CLOSE not in said:
        return None
    labels = set()
    for left, sign, right in _LABEL.findall(said.rpartition(THINK_CLOSE)[2]):
        left, right = left.lower(), right.lower()
        if sign[0] == "<":
            left, sign, right = right, sign.replace("<", ">"), left
        if left != right:
            labels.add("a=b" if sign == "=" else f"{left}{sign}{right}")
    return labels.pop() if len(labels) == 1 else None


def check_preference(votes: Sequence[tuple[str | None, bool]], least: float = 1.0) -> Verdict:
    """The verdict on a pair by its votes: labels as seen from response a (None: unreadable), and whether the vote saw
    the pair swapped."""
    orders = [[SCALE[label] for label, swapped in votes if label is not None and swapped is order]
              for order in (False, True)]
    readable = sum(map(len, orders))
    if not all(orders) or 2 * readable < len(votes):
        return Verdict("undecided", "unparseable", f"{readable} of {len(votes)} replies hold a label that can be read; "
                       "each order needs one, and half of all votes")
    margin = sum(sum(order) / len(order) for order in orders) / 2
    told = f"the margin is {margin:+.2f}, {least:g} is asked for"
    if abs(margin) <= least:
        return Verdict("undecided", "close", told, None, margin)
    better = "a" if margin > 0 else "b"
    return Verdict("correct", f"{better}_preferred", f"response {better} is better: {told}", better, margin)


def _pairs(batch: pl.DataFrame, params: PreferenceParams) -> list[_Pair]:
    rows = zip(*(batch[name].to_list() for name in (params.question, params.response_a, params.response_b)),
               strict=True)
    return [_open_pair(question, a, b, params.show_thinking) for question, a, b in rows]


def _open_pair(question: Any, first: Any, second: Any, show_thinking: bool) -> _Pair:
    asked, a, b = (column_text(value) if value is not None else "" for value in (question, first, second))
    if not asked.strip():
        return _Pair(verdict=Verdict("undecided", "question_missing", "the question is blank"))
    for name, text in (("a", a), ("b", b)):
        if fault := find_fault(text):
            return _Pair(verdict=Verdict("undecided", fault[0], f"response {name}: {fault[1]}"))
    shown = [text.strip() if show_thinking else shown_part(text) for text in (a, b)]
    if shown[0] == shown[1]:
        return _Pair(verdict=Verdict("undecided", "same_responses", "both responses are the same text"))
    return _Pair(asked, shown[0], shown[1])


def _votes(said: dict[int, Completion], orders: Sequence[bool]) -> list[tuple[str | None, bool]]:
    """The votes that were asked for, turned to how response a stands in them."""
    votes: list[tuple[str | None, bool]] = []
    for slot, swapped in enumerate(orders):
        reply = said.get(slot)
        label = read_label(reply.text) if reply is not None and reply.error is None else None
        votes.append((_MIRROR[label] if swapped and label is not None else label, swapped))
    return votes


def _refused(said: dict[int, Completion]) -> Verdict | None:
    refused = next((reply.rejected for reply in said.values() if reply.rejected), None)
    if refused is None:
        return None
    code, _, reason = refused.partition(": ")
    return Verdict("undecided", code, reason or code)


def _sees(label: str, swapped: bool) -> int:
    return -SCALE[label] if swapped else SCALE[label]


def _measure(pair: _Pair, verdict: Verdict, votes: Sequence[tuple[str | None, bool]]) -> tuple[Any, ...]:
    labels = [label or "unparseable" for label, _ in votes] or None
    if verdict.extracted is None:
        return verdict.score, None, labels, None, None, None
    chosen, rejected = map(len, (pair.a, pair.b) if verdict.extracted == "a" else (pair.b, pair.a))
    return verdict.score, verdict.extracted, labels, chosen / rejected, chosen, rejected
