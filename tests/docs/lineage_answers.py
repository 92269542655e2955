"""The answers to docs/lineage.md, worked out with polars from manifests and parts: no SQL, no catalog.

`ANSWERS[n]` gives what question n should say, as tuples of the columns it names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl

from warehouse import Warehouse
from warehouse.records import Manifest

Rows = list[tuple[Any, ...]]
HELD = ("rows", "selection")
KEPT, OLD = "pico/reasoning@3", "pico/reasoning@2"


@dataclass
class World:
    """The warehouse, and the rows that the examples are about."""

    warehouse: Warehouse

    def scan(self, ref: str) -> pl.DataFrame:
        return self.warehouse.dataset(ref).scan().collect()

    def table(self, ref: str, name: str) -> pl.DataFrame:
        return self.warehouse.any_dataset(ref).table(name).collect()

    @cached_property
    def manifests(self) -> list[Manifest]:
        store = self.warehouse.store
        keys = [key for key in store.keys("datasets") if not key.endswith(".tomb.json")]
        return sorted((self.warehouse.read_manifest(key) for key in keys), key=lambda found: found.sequence)

    @cached_property
    def row(self) -> int:
        """A row that the newest choice kept, of a problem with an answer that was refused."""
        refused = set(self.primary(KEPT)["row_id"])
        samples = self.scan("pico/samples")
        problems = samples.filter(pl.col("row_id").is_in(list(refused)))["parent_row_id"]
        kept = self.scan(KEPT).filter(pl.col("parent_row_id").is_in(problems.implode()))
        return int(kept["row_id"].min())  # type: ignore[arg-type]

    @cached_property
    def seed(self) -> int:
        return int(self.scan(KEPT).filter(row_id=self.row)["parent_row_id"][0])

    @cached_property
    def problem(self) -> int:
        """A problem of the loop of which an answer was published."""
        return int(self.scan("nano/reasoning")["parent_row_id"].min())  # type: ignore[arg-type]

    def primary(self, ref: str) -> pl.DataFrame:
        return self.table(ref, "rejections").filter("primary")

    def ids(self, found: Manifest) -> set[int]:
        return set(self.warehouse.any_dataset(found.ref).scan(inherit=False).collect()["row_id"])

    def children(self, root: int) -> set[int]:
        reached, waiting = {root}, {root}
        edges = pl.concat([self.table(found.ref, "row_lineage") for found in self.manifests if
                           "row_lineage" in found.tables])
        while waiting:
            waiting = set(edges.filter(pl.col("parent_row_id").is_in(list(waiting)))["child_row_id"]) - reached
            reached |= waiting
        return reached

    def above(self, ref: str) -> set[str]:
        """A version and everything that it was made from."""
        known = {found.ref: [item.ref for item in found.inputs] for found in self.manifests}
        reached, waiting = set[str](), {ref}
        while waiting:
            reached |= waiting
            waiting = {parent for one in waiting for parent in known[one]} - reached
        return reached

    def answers(self, ref: str) -> pl.DataFrame:
        """The answers that a version holds: ids and tokens."""
        made = self.warehouse.any_dataset(ref)
        rows = made.table("rows").collect() if made.parts("rows") else pl.DataFrame()
        columns = ["row_id", "tokens_in", "tokens_out"]
        return rows.select(columns) if set(columns) <= set(rows.columns) else pl.DataFrame()

    def answers_above(self, ref: str) -> pl.DataFrame:
        """The answers behind a version, each once."""
        found = [rows for one in self.above(ref) if (rows := self.answers(one)).height]
        return pl.concat(found).unique("row_id") if found else pl.DataFrame()

    def published(self) -> list[str]:
        return sorted({found.inputs[0].ref for found in self.manifests if found.kind == "receipt"})

    def verdicts(self, op: str, version: int) -> pl.DataFrame:
        scores = [self.table(found.ref, "scores").select("row_id", "passed", "reason_code") for found in self.manifests
                  if found.op == op and found.op_version == version]
        return pl.concat(scores).unique()


ANSWERS: dict[int, tuple[tuple[str, ...], Callable[[World], Rows]]] = {}


def answer(number: int, *columns: str) -> Callable[[Callable[[World], Rows]], Callable[[World], Rows]]:
    """Register the answer to a question, in the columns it is told in."""
    def register(function: Callable[[World], Rows]) -> Callable[[World], Rows]:
        ANSWERS[number] = columns, function
        return function
    return register


@answer(1, "depth", "row_id", "dataset", "model", "line")
def origin(world: World) -> Rows:
    found = world.table("pico/problems@1", "provenance").filter(row_id=world.seed)
    return [(0, world.row, "pico/samples", "rules", None), (1, world.seed, "pico/problems", None, found["line"][0])]


@answer(2, "kind", "step", "decided_by", "passed")
def decisions(world: World) -> Rows:
    found: Rows = []
    seen = set()
    for made in world.manifests:
        for name, kind in (("scores", "verdict"), ("selection", "selected")):
            for part in made.tables.get(name, []):
                rows = world.warehouse.dataset(made.ref).table(name, [part]).filter(row_id=world.row).collect()
                if rows.height and (kind == "selected" or part.sha256 not in seen):
                    passed = rows["passed"][0] if kind == "verdict" else True
                    found.append((kind, made.step, made.op if kind == "verdict" else None, passed))
                seen.add(part.sha256)
        if made.kind == "selection" and world.table(made.ref, "rejections").filter(row_id=world.row).height:
            found += [("rejected", made.step, gate, False) for gate in
                      world.table(made.ref, "rejections").filter(row_id=world.row)["gate"]]
    return found


@answer(3, "dataset", "depth", "made", "chosen")
def outcome(world: World) -> Rows:
    made = world.children(world.seed) - {world.seed}
    chosen = {row for found in world.manifests if found.kind == "selection" for row in world.ids(found)}
    return [("pico/problems", 0, 1, 0), ("pico/samples", 1, len(made), len(made & chosen))]


@answer(4, "row_id", "gate", "reason_code")
def siblings(world: World) -> Rows:
    others = world.scan("pico/samples").filter(parent_row_id=world.seed)["row_id"]
    refused = world.primary(KEPT).filter(pl.col("row_id").is_in(others.implode()))
    return refused.select("row_id", "gate", "reason_code").rows()


@answer(5, "ref", "rows", "published")
def affected(world: World) -> Rows:
    family = world.children(world.seed)
    held = [(found.ref, len(world.ids(found) & family)) for found in world.manifests if found.kind in HELD]
    return [(ref, count, ref in world.published()) for ref, count in held if count]


@answer(6, "checkpoint", "rows")
def learned(world: World) -> Rows:
    family = world.children(world.problem)
    found = [(model.ref, len({row for ref in model.trained_on for row in world.ids(world.warehouse.manifest(ref))}
                             & family)) for model in world.warehouse.checkpoints()]
    return [(ref, count) for ref, count in found if count]


@answer(7, "row_id", "answers")
def barren(world: World) -> Rows:
    kept = set(world.scan(KEPT)["parent_row_id"])
    samples = world.scan("pico/samples")
    return [(row, samples.filter(parent_row_id=row).height) for row in world.scan("pico/problems@1")["row_id"]
            if row not in kept]


@answer(8, "problem", "checkpoint", "answers", "pass_rate")
def pass_rates(world: World) -> Rows:
    judged = []
    for scored in world.manifests:
        asked = world.warehouse.manifest(scored.inputs[0].ref) if scored.op == "verify.math" else None
        if asked is not None and asked.facts["by_checkpoint"]:
            rows = world.scan(asked.ref).select("row_id", problem="parent_row_id")
            judged.append(rows.join(world.table(scored.ref, "scores").select("row_id", "passed"), on="row_id")
                          .with_columns(checkpoint=pl.lit(asked.facts["by_checkpoint"])))
    return pl.concat(judged).group_by("problem", "checkpoint").agg(
        pl.len().alias("answers"), pl.col("passed").mean().round(3)).rows()


@answer(9, "row_id", "prompt")
def solved_later(world: World) -> Rows:
    right = {}
    for name in ("dev1", "dev2"):
        rows = world.scan(f"nano/{name}_check.greedy").select("row_id", "parent_row_id", "prompt")
        passed = world.table(f"nano/{name}_check.greedy.correct@1", "scores").filter("passed")["row_id"]
        solved = rows.filter(pl.col("row_id").is_in(passed.implode()))
        right[name] = set(solved.select("parent_row_id", "prompt").rows())
    return sorted(right["dev2"] - right["dev1"])


@answer(10, "held_out")
def leaked(world: World) -> Rows:
    keys = set(world.scan("nano/problems")["row_key"])
    return [(row,) for row, key in world.scan("nano/held_out").select("row_id", "row_key").rows() if key in keys]


@answer(11, "row_id", "tokens_out")
def longest(world: World) -> Rows:
    rows = world.scan(KEPT).sort("tokens_out", "row_id", descending=[True, False])
    return rows.select("row_id", "tokens_out").head(5).rows()


@answer(12, "rows_in", "rows_kept", "rows_rejected", "rows_failed")
def funnel(world: World) -> Rows:
    counts = world.warehouse.manifest(OLD).counts
    assert counts.kept == world.scan(OLD).height
    return [(counts.owed, counts.kept, counts.rejected, counts.failed)]


@answer(13, "gate", "first", "any", "alone")
def rules(world: World) -> Rows:
    found = world.table(OLD, "rejections").with_columns(rules=pl.len().over("row_id"))
    return found.group_by("gate", "reason_code").agg(
        first=pl.col("primary").sum(), any=pl.len(), alone=(pl.col("rules") == 1).sum()).drop("reason_code").rows()


@answer(14, "row_id", "gate")
def one_rule(world: World) -> Rows:
    found = world.table(KEPT, "rejections").group_by("row_id").agg(pl.col("gate").unique())
    return [(row, "house") for row, gates in found.rows() if gates == ["house"]]


@answer(15, "row_id", "correct", "well_formed")
def disagree(world: World) -> Rows:
    both = world.table("pico/correct@2", "scores").select("row_id", "passed").join(
        world.table("pico/form@2", "scores").select("row_id", form="passed"), on="row_id")
    return both.filter(pl.col("passed").fill_null(False) != pl.col("form").fill_null(False)).rows()


@answer(16, "ref", "rows", "passed")
def judged(world: World) -> Rows:
    seen = dict(world.verdicts("judge.house", 7).select("row_id", "passed").rows())
    held = {ref: world.ids(world.warehouse.manifest(ref)) & set(seen) for ref in world.published()}
    return [(ref, len(rows), sum(seen[row] for row in rows)) for ref, rows in held.items() if rows]


@answer(17, "row_id", "version_6", "version_7")
def changed_mind(world: World) -> Rows:
    both = world.verdicts("judge.house", 6).join(world.verdicts("judge.house", 7), on="row_id", suffix="_7")
    return both.filter(pl.col("passed") != pl.col("passed_7")).select("row_id", "passed", "passed_7").rows()


@answer(18, "gate", "row_id", "kept_row_id")
def twins(world: World) -> Rows:
    found = world.table(OLD, "rejections").drop_nulls("kept_row_id")
    assert set(found["gate"]) == {"copies", "twins"}
    return found.select("gate", "row_id", "kept_row_id").rows()


@answer(19, "run_id", "step", "error_type", "slots")
def failures(world: World) -> Rows:
    found = world.table("nano/corpus@1", "failures")
    return found.group_by("run_id", "step", "error_type").agg(pl.len()).rows()


@answer(20, "change", "gate", "rows")
def changes(world: World) -> Rows:
    old, new = set(world.scan(OLD)["row_id"]), set(world.scan(KEPT)["row_id"])
    refused = {"removed": (old - new, world.primary(KEPT)), "added": (new - old, world.primary(OLD))}
    found: Rows = []
    for change, (rows, why) in refused.items():
        gates = pl.DataFrame({"row_id": list(rows)}, schema={"row_id": pl.Int64}).join(why, on="row_id", how="left")
        found += [(change, *counted) for counted in gates.group_by("gate", "reason_code").agg(pl.len())
                  .select("gate", "len").rows()]
    return found


@answer(21, "ref", "origin", "license", "rows")
def files(world: World) -> Rows:
    found: Rows = []
    for source in [made for made in world.manifests if made.op.startswith("source.") and not made.partial]:
        for (origin,), where in world.table(source.ref, "provenance").group_by("origin"):
            family = {row for root in where["row_id"] for row in world.children(root)}
            held = [(ref, len(world.ids(world.warehouse.manifest(ref)) & family)) for ref in world.published()]
            found += [(ref, origin, source.license, count) for ref, count in held if count]
    return found


@answer(22, "ref")
def behind(world: World) -> Rows:
    models = {found.ref: found for found in world.warehouse.checkpoints()}
    reached, waiting = set(), ["nano/dev3@1"]
    while waiting:
        ref = waiting.pop()
        if ref in models:
            new = [*models[ref].trained_on, *(base for base in (models[ref].base,) if base in models)]
        else:
            made = world.warehouse.manifest(ref)
            new = [item.ref for item in made.inputs if item.role != "model"]
            new += [model for model in (made.facts.get("by_checkpoint"),) if model]
        waiting += set(new) - reached
        reached |= set(new)
    return [(ref,) for ref in reached]


@answer(23, "ref", "row_id", "weight")
def trained(world: World) -> Rows:
    (ref,) = world.warehouse.checkpoint("nano/dev3").trained_on
    return [(ref, row, weight) for row, weight in world.table(ref, "selection").rows()]


@answer(24, "tag", "ref", "latest")
def tags(world: World) -> Rows:
    return [("pico/reasoning@prod", OLD, False)]


@answer(25, "ref")
def rehearsals(world: World) -> Rows:
    return [(found.ref,) for found in world.manifests if found.partial]


@answer(26, "dataset", "bytes", "only_deleted")
def storage(world: World) -> Rows:
    sizes: dict[str, dict[str, int]] = {}
    live: set[tuple[str, str]] = set()
    for found in world.manifests:
        for part in (part for parts in found.tables.values() for part in parts):
            sizes.setdefault(found.dataset, {})[part.path] = world.warehouse.store.size(part.path) or 0
            if found.ref != "pico/copies@1":
                live.add((found.dataset, part.path))
    return [(name, sum(parts.values()), sum(size for path, size in parts.items() if (name, path) not in live))
            for name, parts in sizes.items()]


@answer(27, "ref", "asked", "accuracy", "sampled")
def figures(world: World) -> Rows:
    reports = {found.facts["checkpoint"]: found.facts["metrics"] for found in world.manifests if found.kind == "report"}
    return [(ref, "nano/held_out@1", figure["accuracy"], figure["sampled"]) for ref, figure in reports.items()]


@answer(28, "ref", "accepted", "tokens_written", "cost_per_row", "currency")
def cost(world: World) -> Rows:
    found: Rows = []
    for made in world.manifests:
        answers = world.answers_above(made.ref)
        if made.kind == "selection" and not made.partial and answers.height:
            kept, (read, written) = world.scan(made.ref).height, answers.select("tokens_in", "tokens_out").sum().row(0)
            priced = made.recipe == "pico"
            each = round(round((0.15 * read + 0.60 * written) / 1e6, 9) / kept, 9) if priced else None
            found.append((made.ref, kept, written, each, "USD" if priced else None))
    return found


@answer(29, "run_id", "recipe", "status", "steps", "reused", "answers_requested")
def runs(world: World) -> Rows:
    return [(start.run_id, start.recipe, end.status, len(end.steps), sum(step.reused for step in end.steps),
             sum(step.usage.requested for step in end.steps if not step.reused))
            for start, end, _ in world.warehouse.runs() if end]


@answer(30, "ref", "shard", "seconds")
def slow(world: World) -> Rows:
    told = [world.table(found.ref, "shards").with_columns(ref=pl.lit(found.ref)) for found in world.manifests
            if found.ref != "pico/copies@1"]
    shards = pl.concat(told)
    return shards.sort("seconds", "ref", "shard", descending=[True, False, False]).select(
        "ref", "shard", pl.col("seconds").round(3)).head(20).rows()


@answer(31, "ref", "tokens_out", "currency")
def spending(world: World) -> Rows:
    told = {ref: world.answers(ref) for ref in world.above(KEPT) if ref != "pico/copies@1"}
    return [(ref, int(rows["tokens_out"].sum()) if rows.height else 0, "USD" if rows.height else None)
            for ref, rows in told.items()]


@answer(32, "gate", "answers", "tokens_out")
def wasted(world: World) -> Rows:
    found = world.primary(KEPT).join(world.scan("pico/samples"), on="row_id")
    return found.group_by("gate", "reason_code").agg(pl.len(), pl.col("tokens_out").sum().cast(pl.Int64)).drop(
        "reason_code").rows()
