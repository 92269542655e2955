"""What is written as JSON: part descriptors, shard records, manifests, runs, checkpoints.

Frozen pydantic models, so that a damaged or foreign file is named at once. Everything here is append-only: records are
created, never changed.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

FORMAT = 1


def now() -> str:
    """The time as stored: ISO 8601, UTC. Never used for ordering."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Record(BaseModel):
    """Base of stored records."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def to_json(self) -> bytes:
        """The bytes that are stored."""
        return self.model_dump_json(exclude_none=False).encode()


class Part(Record):
    """One immutable Parquet file. `min_row_id`/`max_row_id` bound its first id column; `of` names the input part that a
    score part belongs to."""

    path: str
    sha256: str
    rows: int
    bytes: int
    min_row_id: int | None = None
    max_row_id: int | None = None
    of: str | None = None


class Counts(Record):
    """Slots of a shard or a version: `owed` = `kept` + `rejected` + `failed`, always."""

    owed: int = 0
    kept: int = 0
    rejected: int = 0
    failed: int = 0
    reasons: dict[str, int] = Field(default_factory=dict)

    @property
    def balanced(self) -> bool:
        return self.owed == self.kept + self.rejected + self.failed

    def __add__(self, other: Counts) -> Counts:
        reasons = dict(self.reasons)
        for reason, count in other.reasons.items():
            reasons[reason] = reasons.get(reason, 0) + count
        return Counts(owed=self.owed + other.owed, kept=self.kept + other.kept, rejected=self.rejected + other.rejected,
                      failed=self.failed + other.failed, reasons=reasons)


class Usage(Record):
    """What answers cost. Of a shard or version: the tokens, and by the price that its runtime names the `cost`, of all
    answers it holds, `requested` by whoever made it or `reused`. Of a step in a run: of the answers that this run asked
    for, whether or not it committed anything."""

    tokens_in: int = 0
    tokens_out: int = 0
    requested: int = 0
    reused: int = 0
    seconds: float = 0.0
    cost: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(tokens_in=self.tokens_in + other.tokens_in, tokens_out=self.tokens_out + other.tokens_out,
                     requested=self.requested + other.requested, reused=self.reused + other.reused,
                     seconds=self.seconds + other.seconds, cost=self.cost + other.cost)


class ShardRecord(Record):
    """A finished shard: its parts by table, its counts, its share of the content hash; `facts` go into the manifest."""

    shard: str
    tables: dict[str, Part] = Field(default_factory=dict)
    counts: Counts = Counts()
    content_hash: str
    usage: Usage = Usage()
    run_id: str = ""
    worker: str = ""
    finished_at: str = ""
    counters: dict[str, int] = Field(default_factory=dict)
    facts: dict[str, Any] = Field(default_factory=dict)


class WorkPlan(Record):
    """The frozen plan of one increment: where ids come from, what its shards are, which version it extends."""

    key: str
    namespace: int | None = None
    base: str | None = None
    shards: tuple[dict[str, Any], ...]
    standing: Part | None = None
    occurrences: Part | None = None
    superseded: Part | None = None


class InputRef(Record):
    """An input as it was pinned: `role` is the step's name for it."""

    dataset: str
    version: int
    role: str
    content_hash: str
    parts_digest: str
    fingerprint: str

    @property
    def ref(self) -> str:
        return f"{self.dataset}@{self.version}"


NOT_CONTENT = ("rejections", "failures", "shards", "row_roots")
"""Tables that say how a version came about or what follows from it; they do not name its rows."""


class Manifest(Record):
    """One dataset version. Its creation is the commit. `sequence` is its number in the feed, which orders versions; 0
    in records older than the feed."""

    format: int = FORMAT
    dataset: str
    version: int
    commit_id: str
    sequence: int = 0
    kind: str
    op: str
    op_version: int
    recipe: str
    step: str
    run_id: str
    fingerprint: str
    family: str
    identity: dict[str, Any]
    work_key: str
    content_hash: str
    row_count: int
    bytes: int
    columns: dict[str, dict[str, str]]
    schemas: dict[str, str]
    tables: dict[str, list[Part]]
    inputs: list[InputRef]
    counts: Counts
    usage: Usage = Usage()
    facts: dict[str, Any] = Field(default_factory=dict)
    license: list[str] = Field(default_factory=list)
    partial: bool = False
    parent_version: int | None = None
    created_at: str = ""
    code_sha256: str = ""

    @property
    def ref(self) -> str:
        return f"{self.dataset}@{self.version}"

    @property
    def parts_digest(self) -> str:
        """Names exactly these stored rows, ids included; what depends on them may be reused only under the same one."""
        parts = sorted(part.sha256 for name, table in self.tables.items() if name not in NOT_CONTENT for part in table)
        return hashlib.sha256("\n".join([self.kind, *(parts or [self.content_hash])]).encode()).hexdigest()


class CheckpointRecord(Record):
    """A committed model checkpoint: its files by sha256 and the dataset versions that trained it (`dataset_ref` is the
    first of `dataset_refs`). `partial` is one of a rehearsal with `--limit`."""

    format: int = FORMAT
    name: str
    version: int
    commit_id: str
    base: str | None
    dataset_ref: str | None
    dataset_refs: list[str] = Field(default_factory=list)
    fingerprint: str
    files: dict[str, str]
    bytes: int
    metrics: dict[str, float] = Field(default_factory=dict)
    partial: bool = False
    run_id: str = ""
    created_at: str = ""

    @property
    def ref(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def trained_on(self) -> list[str]:
        """The dataset versions that trained it, in order; records without `dataset_refs` name one."""
        return self.dataset_refs or [ref for ref in (self.dataset_ref,) if ref is not None]


class Tombstone(Record):
    """A version or checkpoint that was deleted: its record stays, gc may take what only it needed."""

    key: str
    deleted_at: str
    reason: str = ""


class StepReport(Record):
    """One step of a run, as it ended. `facts` are those of a step that makes no rows: checkpoint, metrics, verdict."""

    step: str
    op: str
    status: str
    ref: str | None = None
    fingerprint: str = ""
    reused: bool = False
    shards_total: int = 0
    shards_done: int = 0
    counts: Counts = Counts()
    usage: Usage = Usage()
    seconds: float = 0.0
    error: str | None = None
    kind: str = ""
    facts: dict[str, Any] = Field(default_factory=dict)


class RunRecord(Record):
    """The start of a run."""

    run_id: str
    recipe: str
    recipe_version: int
    recipe_text: str
    argv: list[str]
    host: str
    user: str
    git_commit: str | None
    seed: int
    started_at: str
    executor: str


class RunEnd(Record):
    """The end of a run: `succeeded`, `failed`, `interrupted` or `stopped` (by a gate)."""

    run_id: str
    status: str
    ended_at: str
    error: str | None = None
    steps: list[StepReport] = Field(default_factory=list)
