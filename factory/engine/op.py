"""Ops: the code behind a step, and the contract that each kind of op keeps.

An op is a function (or a class with a few methods) under a decorator. It sees polars frames, typed parameters and an
`OpContext`; it never sees the catalog, the executor or where data lies. Its *kind* fixes how many rows leave for each
row that enters, so the engine can count every slot and never has to guess lineage.

Contracts by kind (frames are polars DataFrames; `params` is an instance of the op's `Params` class):

    SOURCE   class: plan(params, ctx) -> SourcePlan ; read(split, params) -> Iterator[Record]
    MAP      fn(batch, params, ctx) -> frame with one row per input row, in order
    SCORE    fn(batch, params, ctx) -> frame with one row per input row, in order, holding `passed` (Boolean, null =
             undecided), `reason_code`, `reason`, for verifiers also `label` and `score`, and the columns of `out`;
             or a class that asks a model (below)
    EXPAND   fn(batch, params, ctx) -> frame with a column `_parent` (index into the batch) and `_slot` (0 … n-1), or
             a class that asks a model: requests(batch, params, ctx) -> list[Ask] and
             collect(batch, asks, completions, params, ctx) -> frame with one row per ask, in order
    MERGE    fn(batch, params, ctx) -> one-row frame for the rows of one group (`params.group_by` names its columns)
    SELECT   fn(rows, params, ctx) -> Selection; `_input` numbers the `from` dataset of a row, the first that has it.
             Measurements of its `where` steps that `fn.measured` names stand beside the rows as `<step>.<column>`
    GLOBAL   class: partial(batch, params, ctx) -> frame ; merge(partials, params, ctx) -> {table: frame};
             optionally decide(batch, tables, params, ctx) -> frame (as SCORE; a table without rows may be missing; it
             reads the columns of judged(params), where there is such a method, else those of the op). Verdicts on a
             part are taken from an earlier version where about(tables, first row_id, last row_id) -> frames, all that
             `decide` takes from the tables for these rows, has not changed.
             With against(params) -> columns it compares: a step names other datasets in `against`, of which `partial`
             and `merge` see those columns, and `decide` judges the rows of `from`; with `both = True` the rows of
             `from` are measured too, and `against` may be left out; with `some = True` a dataset of `against` need only
             have one of the columns. gather(gathered, params, ctx) -> {table: frame}
             in place of `merge` is for more rows than memory holds (`factory.engine.gathered`), and with `grows` for
             versions that grow
    TRAIN    fn(job, params, ctx) -> TrainResult
    REPORT   fn(job, params, ctx) -> Report (a small table and figures; inputs may be scores and other reports)
    GATE     fn(job, params, ctx) -> GateResult
    PUBLISH  fn(job, params, ctx) -> receipt (a JSON object)

A SCORE op that asks a model has requests(batch, params, ctx) -> list[Ask] (of a row none, one or many, each under a
slot of its own; a question that is about no row, such as a canary, is asked under some row's next slot) and
collect(batch, asks, completions, params, ctx) -> frame with one row per row of the batch, in order. A batch is a slice
of an input part (`runtime.shard_rows`), and what is said of a row must not depend on what else is in the slice.
`collect` gets every completion: of one with `error` the engine makes the row a failure whatever the op says of it, one
with `rejected` (a prompt too long) is for the op to judge. An OpError of `collect` fails the step when the other parts
are done; the answers are kept.

A SCORE step may name earlier scored steps in `verdicts`. Its batch then has for each of them the columns
`<step>.label`, `<step>.passed`, `<step>.reason_code`, `<step>.score` and, where there is one, `<step>.extracted`; null
for a row that failed there or was not among its rows.

A MAP or EXPAND op may set `_rejected` ("code: text", a rule said no) or `_failed` ("type: text", a classified error)
on a row, a SCORE op or `decide` only `_failed`; the engine moves it to `rejections` or `failures`. An EXPAND op answers
for every row: one that yields nothing gets one slot that is rejected or failed. Every input frame has `row_id` and
`row_key`; an op that passes `row_id` on is held to its order.
"""

from __future__ import annotations

import difflib
import importlib.util
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict

from factory.engine.errors import OpError


class Kind(StrEnum):
    """What an op does to the number of rows (see the module docstring)."""

    SOURCE = "source"
    MAP = "map"
    SCORE = "score"
    EXPAND = "expand"
    MERGE = "merge"
    SELECT = "select"
    GLOBAL = "global"
    TRAIN = "train"
    REPORT = "report"
    GATE = "gate"
    PUBLISH = "publish"


CONTENT_KINDS = frozenset({Kind.SOURCE, Kind.MAP, Kind.EXPAND, Kind.MERGE})
"""Kinds that create rows (and so mint row ids); the others measure, choose or deliver them."""

SCORE_SCHEMA: dict[str, pl.DataType] = {
    "passed": pl.Boolean(), "label": pl.String(), "score": pl.Float64(), "reason_code": pl.String(),
    "reason": pl.String(),
}
"""The columns every score table has, whatever the op; measurements of the op follow them."""


class Params(BaseModel):
    """Base of every op's parameters: identity, so unknown fields are refused and values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NoParams(Params):
    """For ops that take none."""


@dataclass(slots=True)
class OpContext:
    """What an op may know beside its rows: the step's name, its seed, what the op's `identity` hook
    gave at plan time, the refs of the `from` datasets (for messages of a select step), counters that land in the run
    report, and, for steps that take minutes in one piece, a way to tell how far they are (`progress`) and to ask
    whether the run wants to stop (`stopping`: raise `Interrupted`)."""

    step: str = "op"
    seed: int = 0
    identity: Any = None
    counters: dict[str, int] = field(default_factory=dict)
    tell: Callable[[dict[str, Any]], None] = lambda _event: None
    stopping: Callable[[], bool] = lambda: False
    sources: tuple[str, ...] = ()

    def progress(self, done: int, total: int, unit: str, said: str = "") -> None:
        """Tell how far a long step is: `done` of `total` units (`steps`, `files`), and what it measured last."""
        self.tell({"done": done, "total": total, "unit": unit, "said": said})

    def count(self, name: str, amount: int = 1) -> None:
        """Add to a counter of this step."""
        self.counters[name] = self.counters.get(name, 0) + amount

    def rank(self, rows: pl.DataFrame, prefer: str) -> pl.DataFrame:
        """Rows of a select step from most to least preferred (`random`, `shortest`, `longest`), by content alone."""
        from factory.engine.ranking import rank_rows

        return rank_rows(rows, prefer, self.seed)


@dataclass(frozen=True, slots=True)
class PlanContext:
    """What planning may know: relative paths are taken from `base_dir` (the recipe's folder); `limit` truncates
    sources; `seed` is the step's; `inputs` counts the datasets of `from`."""

    base_dir: Path
    limit: int | None = None
    seed: int = 0
    offline: bool = False
    inputs: int = 0


@dataclass(frozen=True, slots=True)
class SourcePlan:
    """How a source will be read. `identity` is JSON (content digests, never names); `splits` are JSON, one per unit of
    work, in order; `schema` maps column names to polars dtypes, fixed for all splits."""

    identity: Any
    splits: tuple[dict[str, Any], ...]
    schema: Mapping[str, pl.DataType]
    license: str | None = None


@dataclass(slots=True)
class Record:
    """One record of a source: its column values, or why there are none; where it was found."""

    values: dict[str, Any] | None
    origin: str
    line: int | None = None
    native_id: str | None = None
    rejected: str | None = None
    failed: str | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """One question for a model: `row` indexes the batch, `slot` counts the answers to it. Either `messages`
    ([{role, content}]) or `prompt` (one plain string) is set; `prefill` is text the answer must begin with; `spans` are
    the (start, end) places of `prompt` that the row's own text fills, where nothing is a control token; `extra` is a
    JSON object of further fields of the request ("" for none)."""

    row: int
    slot: int
    messages: tuple[dict[str, str], ...] | None = None
    prompt: str | None = None
    prefill: str = ""
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 512
    stop: tuple[str, ...] = ()
    spans: tuple[tuple[int, int], ...] = ()
    extra: str = ""


@dataclass(slots=True)
class Selection:
    """A choice: `kept` has `row_id` and `weight` (Int32, times the row is used); `rejected` has `row_id`,
    `reason_code`, `reason`, `score`, `threshold`, `kept_row_id` (all but the first may be null)."""

    kept: pl.DataFrame
    rejected: pl.DataFrame


@dataclass(slots=True)
class Job:
    """What TRAIN, REPORT, GATE and PUBLISH ops get: lazily scanned inputs by name, their refs, what is known of each
    (`notes[name]`: kind, op, rows, model, checkpoint, metrics), facts of the plan around them, an empty folder to write
    in, the model as it was found, and `runtime` (device, dtype, threads). `table(name, table)` is one stored table of
    an input, such as the curves of a train step."""

    inputs: dict[str, pl.LazyFrame]
    refs: dict[str, str]
    facts: dict[str, Any]
    workdir: Path
    destination: Path | None = None
    model: Any = None
    notes: dict[str, dict[str, Any]] = field(default_factory=dict)
    runtime: Any = None
    table: Callable[[str, str], pl.LazyFrame] = lambda _name, _table: pl.LazyFrame()


@dataclass(slots=True)
class Report:
    """What a REPORT op finds: a small table (stored as `report`), figures by name, and the checkpoint they are about
    (None: no model's). Columns of `table` that end in `row_id` say where a row lies and are not hashed."""

    table: pl.DataFrame
    metrics: dict[str, float] = field(default_factory=dict)
    checkpoint: str | None = None


@dataclass(slots=True)
class TrainResult:
    """What a trainer leaves: the folder with the checkpoint's files, its metrics,
    and side tables (rollouts, curves)."""

    checkpoint: Path
    metrics: dict[str, float] = field(default_factory=dict)
    tables: dict[str, pl.DataFrame] = field(default_factory=dict)
    made_with: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GateResult:
    """Whether the next steps may start; `reason` says what was measured against what."""

    passed: bool
    reason: str
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trial:
    """A case whose verdict is known: a row of the op's columns, and the label that the op must give it. A gold that
    must be accepted is `correct`, a mutated one that must be refused is `incorrect`."""

    row: dict[str, Any]
    label: Literal["correct", "incorrect", "undecided"]


@dataclass(frozen=True, slots=True)
class OpSpec:
    """An op as the engine knows it. See `op` for the fields."""

    name: str
    version: int
    kind: Kind
    params: type[Params]
    func: Any
    columns: Callable[[Any], Sequence[str]]
    out: Callable[[Any], Mapping[str, pl.DataType]]
    identity: Callable[[Any, PlanContext], Any] | None
    extensible: tuple[str, ...]
    provenance: tuple[str, ...]
    asks_model: bool
    dedup: bool
    runtime: type[BaseModel] | None
    code: tuple[str, ...] = ()
    trials: Callable[[Any], Sequence[Trial]] | None = None
    hears: bool = False
    texts: Callable[[Any], Sequence[str]] | None = None

    @property
    def summary(self) -> str:
        """First line of the op's docstring."""
        return (inspect.getdoc(self.func) or "").split("\n", 1)[0]

    @property
    def judges(self) -> bool:
        """Whether it writes a score for each row: SCORE ops, and GLOBAL ops that decide."""
        return self.kind is Kind.SCORE or (self.kind is Kind.GLOBAL and hasattr(self.func, "decide"))

    @property
    def verifies(self) -> bool:
        """Whether it is a verifier: its scores are verdicts on responses."""
        return self.kind is Kind.SCORE and (self.name.startswith("verify.") or self.trials is not None)

    @property
    def compares(self) -> bool:
        """Whether it judges rows against those of other datasets: GLOBAL ops that name columns of `against`."""
        return self.kind is Kind.GLOBAL and hasattr(self.func, "against")

    @property
    def measures_both(self) -> bool:
        """Whether an op that compares measures the judged rows too, so that a step need not name others."""
        return self.compares and bool(getattr(self.func, "both", False))

    @property
    def takes_some(self) -> bool:
        """Whether an op that compares is content with datasets that have only some of the columns of `against`."""
        return self.compares and bool(getattr(self.func, "some", False))

    def source_text(self) -> str:
        """The source of the op's module and of those in `code`, to warn when it changed under an unchanged version."""
        module = inspect.getmodule(self.func)
        texts = [inspect.getsource(module)] if module is not None else []
        found = [importlib.util.find_spec(name) for name in self.code]  # found, never imported
        return "".join(texts + [Path(spec.origin).read_text("utf-8") for spec in found if spec and spec.origin])


@dataclass(frozen=True, slots=True)
class CompositeSpec:
    """A composite op: `expand(name, decl, params)` gives ordinary step declarations (see `composite`)."""

    name: str
    params: type[Params]
    expand: Callable[..., tuple[dict[str, dict[str, Any]], str | list[str]]]
    asks_model: bool = False


_OPS: dict[str, OpSpec] = {}
_COMPOSITES: dict[str, CompositeSpec] = {}


def _columns(columns: Sequence[str] | Callable[[Any], Sequence[str]]) -> Callable[[Any], Sequence[str]]:
    if callable(columns):
        return columns
    fixed = tuple(columns)
    return lambda _params: fixed


def _schema(out: Mapping[str, pl.DataType] | Callable[..., Mapping[str, pl.DataType]],
            ) -> Callable[[Any], Mapping[str, pl.DataType]]:
    if callable(out):
        return out
    fixed = dict(out)
    return lambda _params: fixed


def op(name: str, *, version: int, kind: Kind, params: type[Params] = NoParams,
       columns: Sequence[str] | Callable[[Any], Sequence[str]] = (),
       out: Mapping[str, pl.DataType] | Callable[[Any], Mapping[str, pl.DataType]] | None = None,
       identity: Callable[[Any, PlanContext], Any] | None = None, extensible: Sequence[str] = (),
       provenance: Sequence[str] = (), asks_model: bool = False, dedup: bool = False,
       runtime: type[BaseModel] | None = None, code: Sequence[str] = (),
       trials: Callable[[Any], Sequence[Trial]] | None = None, hears: bool = False,
       texts: Callable[[Any], Sequence[str]] | None = None) -> Callable[[Any], Any]:
    """Register an op.

    Args:
        name: `family.verb`, as recipes write it.
        version: integer, bumped by the author with a reason when results change.
        kind: fixes the contract (module docstring).
        params: the `Params` class; its values are identity.
        columns: input columns that the op reads (or a function of the params). The engine finds a column in the rows
            themselves or in their ancestors.
        out: columns it adds, with dtypes (or a function of the params). For SCORE beside `SCORE_SCHEMA`.
        identity: extra identity known only at plan time, such as the text of a template file.
        extensible: params whose growth adds an increment in place of redoing the step.
        provenance: params that say where something lies (paths, names, a license) and so never enter a fingerprint.
        asks_model: the op declares requests; the step must name a `model`.
        dedup: a GLOBAL op whose tables are `nodes` and `pairs`, so `where` may compare by it.
        runtime: class of extra `runtime` settings; never identity.
        code: names of further modules that the op's result depends on; the plan warns when one changed under the same
            version.
        trials: for verifiers, a function of the params: the cases that the op must judge rightly before a recipe may
            use it (`factory.engine.trial`).
        hears: a SCORE op that has nothing to say unless the step names others in `verdicts`.
        texts: those of the columns it reads (of `against` too) that must hold text, as a function of the params: the
            plan refuses others.

    Raises:
        OpError: the name is taken by another definition.
    """

    def register(func: Any) -> Any:
        spec = OpSpec(name, version, kind, params, func, _columns(columns), _schema(out or {}), identity,
                      tuple(extensible), tuple(provenance), asks_model, dedup, runtime, tuple(code), trials,
                      hears, texts)
        known = _OPS.get(name)
        if known is not None and (
                known.func.__module__, known.func.__qualname__) != (func.__module__, func.__qualname__):
            raise OpError(f"op {name!r} is already defined in {known.func.__module__}: choose another name")
        _OPS[name] = spec
        return func

    return register


def composite(name: str, *, params: type[Params] = NoParams, asks_model: bool = False) -> Callable[[Any], Any]:
    """Register a composite op: `fn(step_name, decl, params) -> (steps, result)`.

    `steps` maps new step names (use `f"{step_name}.part"`) to declarations as a recipe writes them; `result` names the
    step that stands for the whole, or a list of scored steps that a `where` naming the whole stands for. `asks_model`:
    the declaration names a `model`.
    """

    def register(func: Any) -> Any:
        _COMPOSITES[name] = CompositeSpec(name, params, func, asks_model)
        return func

    return register


def get_op(name: str) -> OpSpec:
    """Look an op up by name; an unknown one is an `OpError` with the nearest names."""
    from factory.engine.registry import load_builtin_ops

    load_builtin_ops()
    if name not in _OPS:
        near = difflib.get_close_matches(name, [*_OPS, *_COMPOSITES], n=2, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "`factory ls --ops` lists them."
        raise OpError(f"unknown op {name!r}: {hint}")
    return _OPS[name]


def get_composite(name: str) -> CompositeSpec | None:
    """The composite op of that name, or None."""
    from factory.engine.registry import load_builtin_ops

    load_builtin_ops()
    return _COMPOSITES.get(name)


def all_ops() -> Iterator[OpSpec]:
    """Every registered op, by name."""
    from factory.engine.registry import load_builtin_ops

    load_builtin_ops()
    yield from (_OPS[name] for name in sorted(_OPS))


def all_composites() -> Iterator[CompositeSpec]:
    """Every registered composite op, by name."""
    from factory.engine.registry import load_builtin_ops

    load_builtin_ops()
    yield from (_COMPOSITES[name] for name in sorted(_COMPOSITES))
