"""Rewards of GRPO: the project's verifiers and filters as functions of one answer, and what they add up to.

R1's rule rewards (R1 paper, section 2.2.2 and equation 4): accuracy is 1 or 0, format is 1 or 0, added with their
weights. The language reward (equation 7) is the share of words of the chain of thought in the target language, added
directly. Advantages are rewards less their group's mean, divided by its standard deviation (equation 3); TRL computes
them, `advantages` states the same for reading and testing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import polars as pl

from factory.filters.language import consistency
from factory.training.settings import GrpoParams
from factory.verifiers.format import check_format
from factory.verifiers.gym import check_gym
from factory.verifiers.math import check_math
from trainers.data import completion_text

FLUSH_ROWS = 4096
Row = dict[str, Any]
Reward = Callable[[str, Row], float]


def accuracy(answer: str, row: Row, verifier: str) -> float:
    """1 where the verifier accepts the final answer, else 0; an undecided verdict is no reward."""
    if verifier == "gym":
        return float(check_gym(answer, row["entry"], row["task"]).label == "correct")
    return float(check_math(answer, row["answer"]).label == "correct")


def named_rewards(params: GrpoParams) -> dict[str, Reward]:
    """The reward functions of a job by name, in the order of `params.rewards`. Each takes the whole answer (prefill
    included) and the row's columns."""
    known: dict[str, Reward] = {
        "accuracy": lambda answer, row: accuracy(answer, row, params.verifier),
        "format": lambda answer, row: float(check_format(answer, params.form).label == "correct"),
        # an answer without a word keeps to every language, which a trainer would soon find out
        "language": lambda answer, row: consistency(answer, params.target, row.get("question", "")) or 0.0,
    }
    return {name: known[name] for name in params.rewards}


def total(answer: str, row: Row, params: GrpoParams) -> float:
    """The weighted sum of an answer's rewards."""
    return sum(params.rewards[name] * reward(answer, row)  # type: ignore[index]
               for name, reward in named_rewards(params).items())


def advantages(rewards: Sequence[float], *, scale: bool = True) -> list[float]:
    """Advantages within one group: reward less the mean, over the standard deviation (n - 1) plus 1e-4 where `scale`
    (R1 paper, equation 3; without scaling: Dr. GRPO)."""
    mean = fmean(rewards)
    spread = stdev(rewards) + 1e-4 if scale else 1.0
    return [(reward - mean) / spread for reward in rewards]


class Rollouts:
    """Reward functions as TRL calls them, and a record of every answer with its rewards, written below `folder` as it
    grows (`rollouts.parquet` when closed)."""

    def __init__(self, params: GrpoParams, folder: Path):
        self.params, self.folder = params, folder / "rollouts"
        self.rows: list[dict[str, Any]] = []
        self._named = named_rewards(params)
        self._open = self._parts = 0

    def functions(self) -> list[Callable[..., list[float]]]:
        """One function a reward; the first also opens the records of the batch."""
        return [self._function(name, index == 0) for index, name in enumerate(self._named)]

    def weights(self) -> list[float]:
        """Their weights, in the same order."""
        return [self.params.rewards[name] for name in self._named]  # type: ignore[index]

    def close(self) -> None:
        """Join what was written."""
        self._flush()
        parts = sorted(self.folder.glob("*.parquet"))
        pl.scan_parquet(parts).sink_parquet(self.folder.with_suffix(".parquet"))

    def _flush(self) -> None:
        if self.rows:
            self.folder.mkdir(parents=True, exist_ok=True)
            pl.DataFrame(self.rows).write_parquet(self.folder / f"{self._parts:06d}.parquet")
            self._parts, self.rows = self._parts + 1, []

    def _function(self, name: str, first: bool) -> Callable[..., list[float]]:
        def reward(prompts: list[Any], completions: list[Any], trainer_state: Any, **columns: Any) -> list[float]:
            values = []
            if first:
                if len(self.rows) >= FLUSH_ROWS:
                    self._flush()
                self._open = len(self.rows)
            for index, completion in enumerate(completions):
                row = {key: column[index] for key, column in columns.items()
                       if isinstance(column, list) and len(column) == len(completions)}
                answer = row.get("prefill", "") + completion_text(completion)
                value = self._named[name](answer, row)
                if first:
                    self.rows.append({"step": trainer_state.global_step + 1, "prompt_row_id": row["row_id"],
                                      "response": answer, "tokens": len(row.get("completion_ids", ())), "reward": 0.0})
                record = self.rows[self._open + index]
                record[name] = value
                record["reward"] += self.params.rewards[name] * value  # type: ignore[index]
                values.append(value)
            return values

        reward.__name__ = name
        return reward
