"""Problems made by rule rather than read: our own sums, and the tasks of the library reasoning-gym.

A record is `prompt`, `answer`, `task`, `entry` (the whole item as JSON with sorted keys, which scoring needs) and
`verifier`: `math` where the answer is a number to compare, `gym` where the task's own scoring decides. Some gym tasks
have no single answer; theirs is null. Item i depends on the task, its config, `count`, the seed and i alone, so a
split makes its own items.

Reproducible means: the same in another process. Tasks of reasoning-gym 0.1.25 whose items change from process to
process (measured with two hash seeds) are refused, see `UNSTABLE`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from factory.engine.errors import DataError, MissingExtraError
from factory.engine.gym import load_gym
from factory.engine.op import Kind, Params, PlanContext, Record, SourcePlan, op
from factory.sources.arithmetic import ArithmeticConfig, make_item
from factory.sources.shape import did_you_mean

SHARD_ROWS = 2048
SCHEMA: dict[str, pl.DataType] = {name: pl.String() for name in ("prompt", "answer", "task", "entry", "verifier")}
UNSTABLE = frozenset({"isomorphic_strings", "list_functions", "polynomial_multiplication", "ransom_note",
                      "word_ladder"})
"""Gym tasks that draw from sets of strings or from the global random state."""


class GymTask(BaseModel):
    """One kind of problem: `arithmetic` or a dataset of reasoning-gym, with the config that it takes. Without a seed
    it is the step's. `start` leaves out the first items of a seed, so that splits of one seed share none: `start: 0,
    count: 900` and `start: 900, count: 300`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    count: int = Field(ge=1)
    start: int = Field(default=0, ge=0, exclude_if=lambda start: not start)  # left out at 0: old fingerprints hold
    seed: int | None = None
    config: dict[str, Any] = Field(default_factory=dict)


class ProceduralParams(Params):
    """The tasks, whose records follow one another in this order."""

    tasks: tuple[GymTask, ...] = Field(min_length=1)


@op("source.procedural", version=1, kind=Kind.SOURCE, params=ProceduralParams, out=SCHEMA)
class ProceduralSource:
    """Make arithmetic and reasoning-gym problems from seeds."""

    def __init__(self, shard_rows: int = SHARD_ROWS):
        self.shard_rows = shard_rows

    def plan(self, params: ProceduralParams, ctx: PlanContext) -> SourcePlan:
        """Check every task's config and cut the counts.

        Raises:
            DataError: an unknown or unstable task, a wrong config, more sums than there are.
            MissingExtraError: a gym task without reasoning-gym.
        """
        splits: list[dict[str, Any]] = []
        left = ctx.limit
        tasks = [task if task.seed is not None else task.model_copy(update={"seed": ctx.seed}) for task in params.tasks]
        for task in tasks:
            _check(task)
            wanted = task.count if left is None else min(task.count, left)
            left = None if left is None else left - wanted
            made = task.model_dump(mode="json")
            splits += [{"task": made, "start": task.start + first,
                        "stop": task.start + min(first + self.shard_rows, wanted)}
                       for first in range(0, wanted, self.shard_rows)]
        gym = any(task.task != "arithmetic" for task in tasks)
        identity: dict[str, Any] = {"tasks": [task.model_dump(mode="json") for task in tasks],
                                    "reasoning-gym": _gym_version() if gym else None}
        if ctx.limit is not None:
            identity["limit"] = ctx.limit
        return SourcePlan(identity, tuple(splits), SCHEMA)

    def read(self, split: dict[str, Any], params: ProceduralParams) -> Iterator[Record]:
        """Make the items of one split; an item that cannot be made or written as JSON fails alone."""
        task = GymTask.model_validate(split["task"])
        verifier = "math" if task.task == "arithmetic" else "gym"
        make = _maker(task)
        for index in range(split["start"], split["stop"]):
            record = Record(None, task.task, index + 1)
            try:
                item = make(index)
                entry = json.dumps(item, sort_keys=True, ensure_ascii=False, default=_plain)
                prompt, answer = item["question"], item["answer"]
            except Exception as error:  # the library's generators raise whatever their code meets
                record.failed = f"generator_error: {task.task}: item {index}: {type(error).__name__}: {error}"
            else:
                answer = answer if answer is None or isinstance(answer, str) else json.dumps(answer, default=_plain)
                record.values = {"prompt": prompt, "answer": answer, "task": task.task, "entry": entry,
                                 "verifier": verifier}
            yield record


def _plain(value: Any) -> Any:
    """What JSON lacks: sets become sorted lists, fractions text such as 3/4, numbers of other libraries Python's."""
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    if isinstance(value, Fraction):
        return str(value)
    if hasattr(value, "item"):
        return value.item()
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _maker(task: GymTask) -> Any:
    if task.task == "arithmetic":
        config = _arithmetic(task)
        return lambda index: make_item(config, task.seed or 0, index)
    config_text = json.dumps(task.config, sort_keys=True)
    return _dataset(task.task, task.start + task.count, task.seed or 0, config_text).__getitem__


def _check(task: GymTask) -> None:
    if task.task == "arithmetic":
        config = _arithmetic(task)
        if task.start + task.count > config.distinct:
            signs = " | ".join(dict.fromkeys(" ".join(gap) for gap in config.gaps))
            raise DataError(f"task 'arithmetic': {task.start + task.count} problems are wanted, but only "
                            f"{config.distinct} problems differ with digits {config.digits}, terms {config.terms} and "
                            f"operators {signs}: lower count, or raise digits or terms.")
        return
    known = _known_tasks()
    if task.task not in known:
        raise DataError(f"unknown task {task.task!r}{did_you_mean(task.task, ['arithmetic', *known])}: expected "
                        "'arithmetic' or a dataset of reasoning-gym.")
    if task.task == "composite":
        raise DataError("task 'composite' mixes others: list those in `tasks`, which mixes them too.")
    if task.task in UNSTABLE:
        raise DataError(f"task {task.task!r} does not give the same problems in every process (reasoning-gym "
                        f"{_gym_version()}), so its rows could not be made again: choose another task.")
    fields = known[task.task][1].__dataclass_fields__
    for name in task.config:
        if name in ("seed", "size"):
            raise DataError(f"task {task.task!r}: config.{name} is not allowed: use `seed` and `count` of the task.")
        if name not in fields:
            raise DataError(f"task {task.task!r} has no config field {name!r}{did_you_mean(name, fields)}: it has "
                            f"{', '.join(sorted(set(fields) - {'seed', 'size'}))}.")
    _dataset(task.task, task.start + task.count, task.seed or 0, json.dumps(task.config, sort_keys=True))


def _arithmetic(task: GymTask) -> ArithmeticConfig:
    try:
        return ArithmeticConfig(**task.config)
    except ValidationError as error:
        first = max(error.errors(), key=lambda fault: len(fault["loc"]))  # of a union, the branch that fitted best
        # a union names its branches in the path, which say nothing to a reader
        field = ".".join(str(part) for part in first["loc"]
                         if isinstance(part, int) or (part.isidentifier() and part != "int"))
        raise DataError(f"task 'arithmetic': config.{field}: {first['msg']}"
                        f"{did_you_mean(field, ArithmeticConfig.model_fields)}.") from None


def _known_tasks() -> dict[str, Any]:
    return dict(load_gym().factory.DATASETS)


def _gym_version() -> str:
    try:
        return version("reasoning-gym")
    except PackageNotFoundError:
        raise MissingExtraError("reasoning_gym", "gym") from None


@lru_cache(maxsize=8)
def _dataset(name: str, count: int, seed: int, config: str) -> Any:
    """The gym's dataset. Kept, since some tasks make all their items when they are created."""
    try:
        return load_gym().create_dataset(name, size=count, seed=seed, **json.loads(config))
    except Exception as error:  # asserts, TypeErrors and others, by task
        raise DataError(f"task {name!r}: its config {config} is refused by reasoning-gym: "
                        f"{str(error) or type(error).__name__}. Mend that field.") from None
