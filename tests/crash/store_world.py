"""What the store's crash tests share: drafts of versions, children that die at a named moment, what must hold after.

Children are forked from a server that has imported everything, so a test may start a hundred of them. A child reads
`FACTORY_TEST_KILL` ("point:nth", see `warehouse.faults`) and kills itself there; with `FACTORY_TEST_POINTS` it writes
down every point that it passes instead.
"""

from __future__ import annotations

import contextlib
import multiprocessing as mp
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import polars as pl

import warehouse
from warehouse import Warehouse, faults, layout
from warehouse.content import hash_frame, row_keys
from warehouse.dataset import pack_schema
from warehouse.errors import NotInWarehouse
from warehouse.parts import write_part
from warehouse.records import Counts, InputRef, Manifest
from warehouse.upkeep.fsck import check

KILL, POINTS_TO, PATIENCE = "FACTORY_TEST_KILL", "FACTORY_TEST_POINTS", 120.0
DAY = 86400.0
READABLE = ("rows", "selection", "scores")
KILLED = -signal.SIGKILL
_SERVED = ("factory.cli", "factory.api", "factory.engine.run", "factory.publish", "factory.verifiers.math", "polars",
           "duckdb", "pyarrow.parquet", "reasoning_gym", "warehouse.catalog.asking", "warehouse.upkeep.fsck",
           "warehouse.upkeep.gc", "warehouse.lineage")
_CONTEXT = mp.get_context("forkserver")
_CONTEXT.set_forkserver_preload(list(_SERVED))

_SOURCES = [path for path in Path(warehouse.__file__).parent.rglob("*.py") if path.parent.name != "export"]
POINTS = sorted({name for path in _SOURCES for name in re.findall(r'faults\.point\("([^"]+)"\)', path.read_text())})
"""Every moment that the store names, but those of exports, which write elsewhere."""


# -- children --------------------------------------------------------------------------------------------------------

def child(work: Callable[..., Any], *args: Any, kill: str | None = None, points: Path | None = None) -> BaseProcess:
    """Start `work(*args)` in a process of its own. It dies at the point `kill`, or notes the points it passes."""
    process = _CONTEXT.Process(target=_serve, args=(work, args, kill, points))
    process.start()
    return process


def ended(process: BaseProcess) -> int:
    """How a child ended: 0, an exit status, or minus the signal that killed it."""
    process.join(PATIENCE)
    if process.exitcode is None:
        process.kill()
        raise AssertionError("a child hangs")
    return process.exitcode


def passed(work: Callable[..., Any], *args: Any, points: Path) -> Counter[str]:
    """How often an undisturbed child passes each point."""
    assert ended(child(work, *args, points=points)) == 0
    return Counter(points.read_text().split())


def _serve(work: Callable[..., Any], args: Sequence[Any], kill: str | None, points: Path | None) -> None:
    os.environ.pop(KILL, None)
    os.environ.pop(POINTS_TO, None)
    if kill is not None:
        os.environ[KILL] = kill
    if points is not None:
        os.environ[POINTS_TO] = str(points)
    arm()
    work(*args)


def arm() -> None:
    """Watch the points as the environment asks."""
    name, _, nth = os.environ.get(KILL, "").rpartition(":")
    noted, seen = os.environ.get(POINTS_TO), Counter[str]()

    def at(point: str) -> None:
        seen[point] += 1
        if noted is not None:
            with open(noted, "a") as file:
                file.write(f"{point}\n")
        if name == point and seen[point] == int(nth):
            os.kill(os.getpid(), signal.SIGKILL)

    faults.arm(at if name or noted else None)


def factory(*argv: str, out: Path | None = None) -> None:
    """The `factory` command as a child's work; it ends the process with the command's exit status."""
    from factory.cli import main

    if out is not None:
        sys.stdout = sys.stderr = open(out, "a")  # noqa: SIM115 (open until the child ends)
    with contextlib.suppress(BrokenPipeError):
        main(list(argv))


# -- drafts ----------------------------------------------------------------------------------------------------------

def draft(warehouse: Warehouse, name: str, ids: Sequence[int], **fields: Any) -> Manifest:
    """A version of content with these row ids, not committed yet; equal ids are equal content."""
    frame = pl.DataFrame({"row_id": sorted(ids)}, schema={"row_id": pl.Int64})
    frame = frame.with_columns(text=pl.format("the text of row {}", "row_id"))
    frame = frame.with_columns(row_key=pl.Series(row_keys(frame, ["text"]), dtype=pl.Binary))
    part = write_part(warehouse.store, frame)
    return _manifest(name, "rows", frame, {"rows": [part]}, f"rows {sorted(ids)}", str(hash_frame(frame)), **fields)


def selection(warehouse: Warehouse, name: str, source: Manifest, ids: Sequence[int], **fields: Any) -> Manifest:
    """A selection of rows of a committed version, not committed yet."""
    frame = pl.DataFrame({"row_id": sorted(ids)}, schema={"row_id": pl.Int64})
    frame = frame.with_columns(weight=pl.lit(1, dtype=pl.Int32))
    part = write_part(warehouse.store, frame)
    keyed = frame.with_columns(row_key=pl.Series(row_keys(
        frame.select(text=pl.format("the text of row {}", "row_id")), ["text"]), dtype=pl.Binary))
    pinned = InputRef(dataset=source.dataset, version=source.version, role="from", content_hash=source.content_hash,
                      parts_digest=source.parts_digest, fingerprint=source.fingerprint)
    return _manifest(name, "selection", frame, {"selection": [part]}, f"selection {sorted(ids)} of {source.ref}",
                     str(hash_frame(keyed, columns=["weight"])), inputs=[pinned], **fields)


def _manifest(name: str, kind: str, frame: pl.DataFrame, tables: dict[str, Any], fingerprint: str, content: str,
              **fields: Any) -> Manifest:
    made: dict[str, Any] = {
        "dataset": name, "version": 0, "commit_id": "", "kind": kind, "op": "test.op", "op_version": 1,
        "recipe": "test", "step": name, "run_id": "", "fingerprint": fingerprint, "family": name, "identity": {},
        "work_key": fingerprint, "content_hash": content, "row_count": frame.height,
        "bytes": sum(part.bytes for parts in tables.values() for part in parts), "columns": {},
        "schemas": {kind: pack_schema(frame)}, "tables": tables, "inputs": [],
        "counts": Counts(owed=frame.height, kept=frame.height)}
    return Manifest(**{**made, **fields})


# -- what must hold --------------------------------------------------------------------------------------------------

def records_on_disk(root: Path) -> dict[str, bytes]:
    """Everything that is committed, as it lies on disk: manifests and checkpoint records by key."""
    found = [*root.glob("datasets/**/v*.json"), *root.glob("checkpoints/**/v*.json")]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found if ".tomb." not in path.name}


def assert_sound(root: Path) -> None:
    """No damage; the catalog opens and every view answers; every version that lives can be read in full."""
    if not (root / layout.ROOT_RECORD).exists():
        return
    opened = Warehouse(root)
    report = check(opened)
    assert report.clean, [str(damage) for damage in report.damage]
    assert_views(opened)
    for manifest in opened.manifests():
        if manifest.kind in READABLE:
            assert opened.dataset(manifest.ref).scan().collect().height == manifest.row_count, manifest.ref


def assert_views(opened: Warehouse) -> None:
    """Every view of the warehouse answers, and tells of the versions that lie on disk, no more and no fewer."""
    views = opened.sql("SELECT view_name FROM duckdb_views() WHERE NOT internal AND schema_name = 'main'")["view_name"]
    readable = [name for name in opened.latest_versions() if opened.manifest(name).kind in READABLE]
    assert views.len()
    opened.sql(" UNION ALL ".join(f'SELECT count(*) FROM "{name}"' for name in [*views, *readable]))
    told = opened.sql("SELECT ref, deleted FROM datasets")
    lie = {f"{found[0]}@{found[1]}": (opened.root / layout.tombstone(key)).exists()
           for key in records_on_disk(opened.root) if key.startswith("datasets/") and (found := layout.version_of(key))}
    assert dict(told.iter_rows()) == lie
    live = {found.ref: found.row_count for found in opened.manifests() if found.kind in ("rows", "selection")}
    if live:
        counts = " UNION ALL ".join(f"SELECT '{ref}', count(*) FROM members('{ref}')" for ref in live)
        assert dict(opened.sql(counts).iter_rows()) == live


def plain_duckdb(root: Path) -> dict[str, tuple[bool, int]]:
    """What a user without this program sees: every view of `catalog/views.sql` answers in plain DuckDB, from inside the
    warehouse, by relative paths. Gives (deleted, rows) of every version in the view `datasets`."""
    import duckdb

    with contextlib.chdir(root), duckdb.connect(":memory:") as connection:
        connection.execute(Path(layout.VIEWS_SQL).read_text())
        names = connection.sql("SELECT view_name FROM duckdb_views() WHERE NOT internal AND schema_name = 'main'")
        connection.sql(" UNION ALL ".join(f'SELECT count(*) FROM "{name}"' for (name,) in names.fetchall())).fetchall()
        rows = connection.sql("SELECT ref, deleted, row_count FROM datasets").fetchall()
    return {ref: (deleted, count) for ref, deleted, count in rows}


def age_files(root: Path, days: float) -> None:
    """Make every file look as if it had been written so long ago."""
    for path in root.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file():
                then = path.stat().st_mtime - days * DAY
                os.utime(path, (then, then))


# -- two workloads ---------------------------------------------------------------------------------------------------

RECIPE = """
recipe: small
version: 1
seed: 7
vars: {n: 2, to: published}
models:
  rules:
    replay:
      rules:
        - {weight: 5, text: "<think>{{ prompt }} is {{ answer }}.</think><answer>{{ answer }}</answer>"}
        - {weight: 2, text: "<think>A guess.</think><answer>{{ rng.integer(0, 99) }}</answer>"}
steps:
  problems:
    op: source.procedural
    params: {tasks: [{task: arithmetic, count: 6, config: {terms: 2}}]}
  samples:
    op: generate.sample
    from: problems
    model: rules
    params: {template: r1_zero, n: "${n}", temperature: 1.0, max_tokens: 64}
    runtime: {shard_rows: 3}
  form: {op: verify.format, from: samples, params: {form: r1_zero}}
  chosen: {op: select.rejection, from: samples, where: [form], params: {keep_per_prompt: 2}}
  published: {op: publish.folder, from: chosen, params: {to: "${to}"}}
"""


def run_recipe(folder: Path, n: int = 2) -> None:
    """A user's command: make the small recipe's datasets in `folder/warehouse`."""
    recipe = folder / "small.yaml"
    if not recipe.exists():
        recipe.write_text(RECIPE)
    factory("run", str(recipe), "--warehouse", str(folder / "warehouse"), "--executor", "inline", "--quiet", "--vars",
            f"n={n}", "--vars", f"to={folder / 'published'}", out=folder / "out.txt")


def run_store(folder: Path) -> None:
    """A program that does everything a store can; it may be started again at any time and ends in the same state. Each
    thing that is finished is noted in `folder/done.txt`."""
    from warehouse.upkeep.gc import collect

    root = folder / "warehouse"
    opened = Warehouse(root, create=True)

    def done(what: str) -> None:
        with open(folder / "done.txt", "a") as file:
            file.write(f"{what}\n")

    def commit(made: Callable[[], Manifest], name: str, version: int) -> None:
        if not opened.store.exists(layout.manifest(name, version)):
            assert opened.commit(made()).ref == f"{name}@{version}"
        done(f"{name}@{version}")

    commit(lambda: draft(opened, "a", range(1, 6)), "a", 1)
    commit(lambda: draft(opened, "a", range(1, 9)), "a", 2)
    commit(lambda: selection(opened, "s", opened.manifest("a@2"), [1, 3, 8]), "s", 1)
    opened.set_tag("a@1", "prod")
    done("a@prod")
    opened.sql("SELECT count(*) FROM datasets")
    commit(lambda: draft(opened, "b", range(20, 25)), "b", 1)
    with contextlib.suppress(NotInWarehouse):  # a start before this one did it
        opened.delete("b@1", "for a while")
    opened.restore("b@1")
    commit(lambda: draft(opened, "gone", range(30, 39)), "gone", 1)
    opened.sql('SELECT count(*) FROM "gone@1"') if opened.versions("gone") else None
    with contextlib.suppress(NotInWarehouse):
        opened.delete("gone@1", "for good")
    done("no gone@1")
    (folder / "trained").mkdir(exist_ok=True)
    (folder / "trained" / "weights").write_bytes(b"weights" * 1000)
    made = opened.commit_checkpoint("m", folder / "trained", {"base": None, "dataset_ref": "a@2", "fingerprint": "f"})
    done(f"checkpoint {made.ref}")
    for _ in range(2):
        age_files(root, 30)
        collect(opened, grace=DAY)
    commit(lambda: selection(opened, "s", opened.manifest("a@2"), [2, 4]), "s", 2)
    opened.sql("SELECT * FROM members('s@2')")
    done("the end")


def state_of(root: Path) -> dict[str, Any]:
    """What a warehouse holds, without what may differ between two ways to the same state: content by version and
    whether it is deleted, tags, checkpoints and their files."""
    opened = Warehouse(root)
    versions = {}
    for key, data in records_on_disk(root).items():
        named = layout.version_of(key)
        if named is not None and key.startswith("datasets/"):
            record = Manifest.model_validate_json(data)
            content = record.content_hash if record.kind != "receipt" else ""  # published files hold row ids
            versions[record.ref] = content, opened.store.exists(layout.tombstone(key))
    return {"versions": versions, "tags": {name: opened.tags(name) for name in opened.latest_versions()},
            "checkpoints": {found.ref: found.files for found in opened.checkpoints()}}
