"""A warehouse as it looks after a year of work, built through the warehouse's own API.

    python benchmarks/big_warehouse.py DIR            # 10 M rows, 11 M edges, 10 M verdicts, 5,000 versions
    python benchmarks/big_warehouse.py DIR 0.01       # the same shape, a hundredth of the rows

Seeds become prompts (four datasets, ten prompts a seed), prompts become answers in 95 waves, each wave is judged by one
or both of two judges and chosen from; six choices are mixed and published. That is 200 versions of 20 parts. Between
the waves stand the nightly runs: 4,700 versions of one part over 117 names. A tenth of the answers has a second parent;
1 % of the slots is rejected, 0.5 % fails; the judges refuse a few per cent. Text is short. All of it is deterministic
by seed but for the times in the records. `--scale` s takes √s of the waves and nights and √s of the rows of each.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from warehouse import Warehouse
from warehouse.catalog import tidy
from warehouse.content import EMPTY, ContentHash, hash_frame, hash_rows, row_keys
from warehouse.dataset import pack_schema
from warehouse.ids import claim_namespace, mint_ids
from warehouse.lineage.roots import row_roots
from warehouse.parts import write_part
from warehouse.records import Counts, InputRef, Manifest, Part, RunEnd, RunRecord, StepReport, Usage, now
from warehouse.tables import FAILURES, LINEAGE, PROVENANCE, REJECTIONS, SELECTION, SHARDS

PROMPT_SETS, PUBLISHED = 4, 6
JUDGES = (("correct", "verify.math", "equal", "different"), ("format", "verify.format", "well_formed", "no_answer"))
REJECTED, FAILED, REFUSED, SECOND_PARENTS = 0.01, 0.005, 0.04, 0.10


@dataclass(frozen=True)
class Shape:
    """How much of everything."""

    scale: float = 1.0
    seed: int = 7
    parts: int = 20

    @property
    def root(self) -> float:
        return float(self.scale**0.5)

    @property
    def rows(self) -> int:
        """Content rows in all."""
        return int(10_000_000 * self.scale)

    @property
    def seeds(self) -> int:
        return max(self.parts, int(40_000 * self.root))

    @property
    def prompts(self) -> int:
        """Prompts in each of the four datasets."""
        return max(self.parts * 10, int(100_000 * self.root))

    @property
    def waves(self) -> int:
        return max(PUBLISHED, round(95 * self.root))

    @property
    def second_judged(self) -> int:
        """Waves that both judges see; of the others, one sees each."""
        return max(1, round(5 * self.root))

    @property
    def nights(self) -> int:
        """Each makes answers, verdicts and a choice, of one part each."""
        return max(3, round(1568 * self.root))

    @property
    def nightly_rows(self) -> int:
        answered = self.waves * self.prompts * (1 - REJECTED - FAILED)
        return max(8, int((self.rows - self.seeds - PROMPT_SETS * self.prompts - answered) / self.nights))


@dataclass(frozen=True)
class Rows:
    """A committed version and what is made from it needs: ids and keys, in order."""

    manifest: Manifest
    ids: pl.Series
    keys: pl.Series


class Builder:
    """Builds one warehouse at `root`, or goes on in one that was built before (`attach`)."""

    def __init__(self, root: Path, shape: Shape):
        self.warehouse, self.shape = Warehouse(root, create=True), shape
        self.store = self.warehouse.store
        self.rng = np.random.default_rng(shape.seed)
        self.run = ""
        self.reports: list[StepReport] = []

    def build(self) -> Manifest:
        """Everything; the published version."""
        shape = self.shape
        self.start_run("main", "main-000")
        seeds = self.seeds()
        self.prompts = [self.make_prompts(number, seeds) for number in range(PROMPT_SETS)]
        self.end_run()
        chosen: list[tuple[Manifest, pl.DataFrame]] = []
        done = 0
        for wave in range(shape.waves):
            self.start_run(f"wave-{wave % 19:02d}", f"wave-{wave:03d}")
            chosen.append(self.wave(f"wave-{wave % 19:02d}", wave, self.prompts[wave % PROMPT_SETS],
                                    shape.parts))
            self.end_run()
            chosen = chosen[:PUBLISHED]
            upto = shape.nights * (wave + 1) // shape.waves
            for night in range(done, upto):
                self.night(night)
            done = upto
            tidy(self.warehouse)
        self.start_run("main", "main-001")
        receipt = self.publish(chosen)
        self.end_run()
        tidy(self.warehouse)
        self.store.clear_scratch()
        return receipt

    def night(self, night: int) -> Manifest:
        """One nightly run; the version it chose."""
        recipe = f"nightly-{night % 39:02d}"
        self.start_run(recipe, f"night-{night:05d}")
        found, _ = self.wave(recipe, self.shape.waves + night, self._asked(night), 1)
        self.end_run()
        return found

    def attach(self) -> None:
        """Go on in a warehouse that was built before."""
        self.prompts = []
        for number in range(PROMPT_SETS):
            found = self.warehouse.dataset(f"main/prompts-{number}")
            rows = found.table("rows").select("row_id", "row_key").collect()
            self.prompts.append(Rows(found.manifest, rows["row_id"], rows["row_key"]))
        self.rng = np.random.default_rng(time.time_ns())

    def one_version(self, night: int) -> Manifest:
        """One more small version of nightly answers."""
        self.recipe, self.run = f"nightly-{night % 39:02d}", f"extra-{time.time_ns()}"
        asked = self._asked(night)
        return self.make(f"{self.recipe}/samples", "generate.sample", self._answers(asked, 1), asked).manifest

    def _asked(self, night: int) -> Rows:
        """A few prompts, chosen anew each night."""
        source = self.prompts[night % PROMPT_SETS]
        count = min(source.ids.len(), max(1, round(self.shape.nightly_rows / (1 - REJECTED - FAILED))))
        start = int(self.rng.integers(0, source.ids.len() - count + 1))
        return Rows(source.manifest, source.ids[start : start + count], source.keys[start : start + count])

    # -- runs --------------------------------------------------------------------------------------------------------

    def start_run(self, recipe: str, run_id: str) -> None:
        self.run, self.recipe, self.reports = run_id, recipe, []
        self.warehouse.start_run(RunRecord(
            run_id=run_id, recipe=recipe, recipe_version=1, recipe_text="", argv=["factory", "run", recipe],
            host="bench", user="bench", git_commit=None, seed=self.shape.seed, started_at=now(), executor="local"))

    def end_run(self) -> None:
        self.warehouse.end_run(RunEnd(run_id=self.run, status="succeeded", ended_at=now(), steps=self.reports))

    # -- versions ----------------------------------------------------------------------------------------------------

    def commit(self, dataset: str, kind: str, op: str, tables: dict[str, list[Part]], schemas: dict[str, Any], *,
               counts: Counts, content: ContentHash, inputs: Sequence[Manifest] = (), roles: Sequence[str] = (),
               rows: int, usage: Usage | None = None, from_inputs: int = 1, **facts: Any) -> Manifest:
        """Commit one version and report it to the run."""
        step = dataset.partition("/")[2]
        name = hashlib.sha256(f"{dataset} {self.run} {self.shape}".encode()).hexdigest()
        made = self.warehouse.commit(Manifest(
            dataset=dataset, version=0, commit_id="", kind=kind, op=op, op_version=1, recipe=self.recipe, step=step,
            run_id=self.run, fingerprint=name, family=name, identity={"op": op}, work_key=name,
            content_hash=str(content), row_count=rows, bytes=sum(p.bytes for parts in tables.values() for p in parts),
            columns={table: {name: str(dtype) for name, dtype in schema.items()} for table, schema in schemas.items()},
            schemas={table: pack_schema(pl.DataFrame(schema=schema)) for table, schema in schemas.items()},
            tables=tables, counts=counts, usage=usage or Usage(), license=["mit"],
            inputs=[InputRef(dataset=each.dataset, version=each.version, role=role, content_hash=each.content_hash,
                             parts_digest=each.parts_digest, fingerprint=each.fingerprint)
                    for each, role in zip(inputs, roles or ["from"] * len(inputs), strict=True)],
            facts={"from_inputs": from_inputs, "inherits": False, "model": None, "by_checkpoint": None, **facts}))
        self.reports.append(StepReport(step=step, op=op, status="done", ref=made.ref, fingerprint=name, kind=kind,
                                       counts=counts, usage=made.usage))
        return made

    def make(self, dataset: str, op: str, shards: Iterable[Shard], source: Rows | None = None,
             **facts: Any) -> Rows:
        """Store a version of new rows, shard by shard."""
        step = dataset.partition("/")[2]
        namespace = claim_namespace(self.store, {"dataset": dataset, "step": step, "op": op, "work_key": self.run})
        tables: dict[str, list[Part]] = {}
        schemas: dict[str, Any] = {}
        counts, content, told, ids, keys = Counts(), EMPTY, [], [], []
        for number, shard in enumerate(shards):
            frames, own, own_keys, counted = shard.tables(namespace, number, step, op, self.run)
            for name, frame in frames.items():
                schemas[name] = frame.schema
                if frame.height or name == "rows":
                    tables.setdefault(name, []).append(write_part(self.store, frame))
            counts, content = counts + counted, content + hash_rows(own_keys)
            ids.append(own)
            keys.append(pl.Series("row_key", own_keys, dtype=pl.Binary))
            told.append((f"{number:05d}", self.run, "bench:1", now(), counted.owed, counted.kept, counted.rejected,
                         counted.failed, 0, 0, 0, 0, 0.1, None, None))
        tables["shards"] = [write_part(self.store, pl.DataFrame(told, schema=SHARDS, orient="row"))]
        usage = Usage(tokens_in=80 * counts.owed, tokens_out=200 * counts.kept, requested=counts.owed, seconds=1.0)
        made = self.commit(dataset, "rows", op, tables, schemas, counts=counts, content=content, rows=counts.kept,
                           inputs=[source.manifest] if source else [], usage=usage, inherits=source is not None,
                           **facts)
        return Rows(made, pl.concat(ids), pl.concat(keys))

    def seeds(self) -> Rows:
        """Source rows, with where they were found."""
        count = self.shape.seeds
        return self.make("main/seeds", "source.files", (
            Shard(pl.DataFrame({"question": pl.Series(at).cast(pl.String)}).select(
                pl.format("How many ways are there to make {} from coins?", "question").alias("question")),
                lines=pl.Series(at)) for at in np.array_split(np.arange(count), self.shape.parts)))

    def make_prompts(self, number: int, seeds: Rows) -> Rows:
        """Ten prompts, or fewer, from each of the seeds."""
        def shards() -> Iterable[Shard]:
            for at in np.array_split(np.arange(self.shape.prompts), self.shape.parts):
                parent = at * seeds.ids.len() // self.shape.prompts
                frame = pl.DataFrame({"n": pl.Series(at)}).select(
                    pl.format("Variant {} of problem {}: show your work.", "n", pl.lit(number)).alias("prompt"))
                yield Shard(frame, Parents(seeds.ids.gather(parent), seeds.keys.gather(parent),
                                           pl.Series(at - np.searchsorted(parent, parent) - at[0]), "seed"))
        return self.make(f"main/prompts-{number}", "generate.synthesize", shards(), seeds, model="teacher")

    def wave(self, recipe: str, number: int, asked: Rows, parts: int) -> tuple[Manifest, pl.DataFrame]:
        """Answers to prompts, their verdicts, and a choice from them: (the choice, its row_id and row_key)."""
        answers = self.make(f"{recipe}/samples", "generate.sample", self._answers(asked, parts), asked,
                            model="policy", by_checkpoint=f"main/policy@{number // 19 + 1}" if parts > 1 else None)
        both = number < self.shape.second_judged
        judges = JUDGES if both else JUDGES[number % 3 == 0 :][:1]
        scored = [self.judge(f"{recipe}/{judge[0]}", judge, answers) for judge in judges]
        return self.choose(f"{recipe}/reasoning", answers, scored)

    def _answers(self, asked: Rows, parts: int) -> Iterable[Shard]:
        rng = self.rng
        text = pl.format("<think>{} plus {} is what is asked.</think> <answer>{}</answer>", "a", "b", "c")
        for at in np.array_split(np.arange(asked.ids.len()), parts):
            if not len(at):
                continue
            fate = rng.random(len(at))
            kept = at[fate >= REJECTED + FAILED]
            numbers = rng.integers(0, 10_000, (2, len(kept)))
            frame = pl.DataFrame({"a": numbers[0], "b": numbers[1], "c": numbers.sum(axis=0)}).select(
                text.alias("response"), pl.lit("stop").alias("finish_reason"),
                pl.lit(80, pl.Int32).alias("tokens_in"), (pl.col("a") % 400).cast(pl.Int32).alias("tokens_out"),
                pl.lit(0, pl.Int32).alias("sample_index"))
            second = rng.random(len(kept)) < SECOND_PARENTS
            others = rng.integers(0, asked.ids.len(), int(second.sum()))
            slots = pl.zeros(len(kept), pl.Int32, eager=True)
            parents = Parents(asked.ids.gather(kept), asked.keys.gather(kept), slots, "prompt",
                              pl.Series(np.flatnonzero(second)), asked.ids.gather(others))
            yield Shard(frame, parents, answer_keys=_random_bytes(rng, len(kept), 32),
                        rejected=asked.ids.gather(at[fate < REJECTED]),
                        failed=asked.ids.gather(at[(fate >= REJECTED) & (fate < REJECTED + FAILED)]))

    def judge(self, dataset: str, judge: tuple[str, str, str, str], answers: Rows) -> tuple[Manifest, pl.Series]:
        """One judge's verdicts: (the version, which rows it refused)."""
        step, op, good, bad = judge
        tables: dict[str, list[Part]] = {"scores": []}
        content, refused, start = EMPTY, [], 0
        schema: Any = {}
        for part in answers.manifest.tables["rows"]:
            ids, keys = answers.ids[start : start + part.rows], answers.keys[start : start + part.rows]
            start += part.rows
            passed = pl.Series(self.rng.random(part.rows) >= REFUSED)
            found = pl.Series(self.rng.integers(0, 20_000, part.rows))
            right = pl.when("passed")
            frame = pl.DataFrame({"row_id": ids, "row_key": keys, "passed": passed, "found": found}).with_columns(
                label=right.then(pl.lit("correct")).otherwise(pl.lit("incorrect")),
                score=pl.col("passed").cast(pl.Float64),
                reason_code=right.then(pl.lit(good)).otherwise(pl.lit(bad)),
                reason=right.then(None).otherwise(pl.format("the answer {} is not the reference", "found")),
                extracted=pl.col("found").cast(pl.String)).drop("found")
            content += hash_frame(frame, columns=frame.columns[2:])
            frame = frame.drop("row_key")
            schema = frame.schema
            tables["scores"].append(write_part(self.store, frame, of=part.sha256))
            refused.append(ids.filter(~passed))
        rows, bad_rows = answers.ids.len(), pl.concat(refused)
        counts = Counts(owed=rows, kept=rows, reasons={"passed": rows - bad_rows.len(), bad: bad_rows.len()})
        made = self.commit(dataset, "scores", op, tables, {"scores": schema}, counts=counts, content=content, rows=rows,
                           inputs=[answers.manifest])
        return made, bad_rows.alias(f"{step}.{bad}")

    def choose(self, dataset: str, answers: Rows,
               scored: list[tuple[Manifest, pl.Series]]) -> tuple[Manifest, pl.DataFrame]:
        """A version of the answers that no judge refused."""
        listed = [pl.DataFrame({"row_id": ids}).with_columns(gate=pl.lit(ids.name.partition(".")[0]),
                                                             reason_code=pl.lit(ids.name)) for _, ids in scored]
        refused = pl.concat(listed).sort("row_id", maintain_order=True).with_columns(
            primary=pl.col("row_id").is_first_distinct(), slot=pl.lit(0), step=pl.lit(dataset.partition("/")[2]))
        rows = pl.DataFrame({"row_id": answers.ids, "row_key": answers.keys})
        kept = rows.filter(~pl.col("row_id").is_in(refused["row_id"].implode()))
        made = self._select(dataset, "select.rejection", [answers.manifest], kept, conform(refused, REJECTIONS),
                            rows.height, [found for found, _ in scored])
        return made, kept

    def _select(self, dataset: str, op: str, sources: list[Manifest], kept: pl.DataFrame, refused: pl.DataFrame,
                owed: int, scored: Sequence[Manifest] = ()) -> Manifest:
        chosen = conform(kept.with_columns(weight=pl.lit(1)), SELECTION).sort("row_id")
        tables = {"selection": [write_part(self.store, chosen)]}
        if refused.height:
            tables["rejections"] = [write_part(self.store, refused)]
        content = hash_frame(kept.with_columns(weight=pl.lit(1, pl.Int32)), columns=["weight"])
        reasons = dict(refused.filter("primary")["reason_code"].value_counts().iter_rows())
        counts = Counts(owed=owed, kept=kept.height, rejected=owed - kept.height, reasons=reasons)
        return self.commit(dataset, "selection", op, tables, {"selection": SELECTION}, counts=counts, content=content,
                           rows=kept.height, inputs=[*sources, *scored], from_inputs=len(sources), weighted=False,
                           roles=["from"] * len(sources) + ["where"] * len(scored))

    def publish(self, chosen: list[tuple[Manifest, pl.DataFrame]]) -> Manifest:
        """The mix of some choices, and its receipt, which holds the roots of every row."""
        rows = pl.concat([frame for _, frame in chosen])
        mix = self._select("main/sft", "select.mix", [found for found, _ in chosen], rows,
                           pl.DataFrame(schema=REJECTIONS), rows.height)
        roots = [write_part(self.store, frame) for frame in row_roots(self.warehouse.any_dataset(mix.ref))]
        return self.commit("main/published", "receipt", "publish.folder", {"row_roots": roots}, {}, inputs=[mix],
                           counts=Counts(owed=rows.height, kept=rows.height), rows=rows.height,
                           content=ContentHash.parse(mix.content_hash), receipt={
                               "path": "published/sft", "rows": rows.height, "source": mix.ref})


@dataclass(frozen=True)
class Parents:
    """The parent of each row, its key and slot; `also` holds second parents of the rows numbered `of`."""

    ids: pl.Series
    keys: pl.Series
    slots: pl.Series
    role: str
    of: pl.Series | None = None
    also: pl.Series | None = None


@dataclass(frozen=True)
class Shard:
    """New rows of one shard: `frame` holds their own columns."""

    frame: pl.DataFrame
    parents: Parents | None = None
    lines: pl.Series | None = None
    answer_keys: pl.Series | None = None
    rejected: pl.Series | None = None
    failed: pl.Series | None = None

    def tables(self, namespace: int, number: int, step: str, op: str,
               run: str) -> tuple[dict[str, pl.DataFrame], pl.Series, list[bytes], Counts]:
        """(stored tables, ids, keys, counts)."""
        frame, parents = self.frame, self.parents
        ids = mint_ids(namespace, number, frame.height)
        keys = row_keys(frame, frame.columns, parents.keys.to_list() if parents else None)
        head = [ids, pl.Series("row_key", keys, dtype=pl.Binary)]
        found = {"rows": pl.DataFrame([*head, *([] if self.answer_keys is None else [self.answer_keys]),
                                       *frame.get_columns()])}
        if parents is not None:
            found["row_lineage"] = self._edges(ids, parents, op)
        if self.lines is not None:
            found["provenance"] = conform(pl.DataFrame({"row_id": ids, "line": self.lines}).with_columns(
                origin=pl.lit("data/seeds.jsonl")), PROVENANCE)
        for name, lost, schema, told in (
                ("rejections", self.rejected, REJECTIONS, {"gate": op, "reason_code": "content_filter",
                                                           "reason": "the model refused", "primary": True}),
                ("failures", self.failed, FAILURES, {"error_type": "timeout", "message": "no answer in 60 s",
                                                     "attempts": 2, "run_id": run})):
            if lost is not None:
                found[name] = conform(pl.DataFrame({"row_id": lost}).with_columns(
                    slot=pl.lit(0), step=pl.lit(step), **{key: pl.lit(value) for key, value in told.items()}), schema)
        rejected, failed = (found[name].height if name in found else 0 for name in ("rejections", "failures"))
        reasons = {"content_filter": rejected, "failed:timeout": failed}
        counts = Counts(owed=len(keys) + rejected + failed, kept=len(keys), rejected=rejected, failed=failed,
                        reasons={reason: count for reason, count in reasons.items() if count})
        return found, ids, keys, counts

    @staticmethod
    def _edges(ids: pl.Series, parents: Parents, op: str) -> pl.DataFrame:
        edges = pl.DataFrame({"child_row_id": ids, "parent_row_id": parents.ids, "slot": parents.slots}).with_columns(
            role=pl.lit(parents.role), op=pl.lit(op))
        if parents.of is None or parents.also is None:
            return conform(edges, LINEAGE)
        second = pl.DataFrame({"child_row_id": ids.gather(parents.of), "parent_row_id": parents.also}).with_columns(
            role=pl.lit("context"), op=pl.lit(op), slot=pl.lit(0))
        return pl.concat([conform(edges, LINEAGE), conform(second, LINEAGE)]).sort("child_row_id", maintain_order=True)


def conform(frame: pl.DataFrame, schema: dict[str, pl.DataType]) -> pl.DataFrame:
    """A frame with exactly the columns of a schema; missing ones are null."""
    return frame.select((pl.col(name) if name in frame.columns else pl.lit(None)).cast(dtype).alias(name)
                        for name, dtype in schema.items())


def _random_bytes(rng: np.random.Generator, count: int, size: int) -> pl.Series:
    drawn = pa.FixedSizeBinaryArray.from_buffers(pa.binary(size), count, [None, pa.py_buffer(rng.bytes(count * size))])
    return pl.Series("answer_key", drawn.cast(pa.large_binary()))


@contextlib.contextmanager
def unsynced() -> Iterator[None]:
    """No fsync in this process: what a power cut would take of a benchmark is built again, in half the time."""
    real, os.fsync = os.fsync, lambda fd: None
    try:
        yield
    finally:
        os.fsync = real


if __name__ == "__main__":
    with unsynced():
        print(Builder(Path(sys.argv[1]), Shape(float(sys.argv[2]) if len(sys.argv) > 2 else 1.0)).build().ref)
