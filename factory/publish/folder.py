"""publish.folder: a dataset version as a folder that `datasets.load_dataset(path)` reads.

Hub layout: `data/<config>/train-00000-of-0000N.parquet`, a card with YAML metadata, the recipe. The folder is written
beside its destination and moved there whole, so a reader sees the old or the new one. Rows keep their `row_id`, so any
published row can be traced. Column order: row_id, prompt, response, then the others by name.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import Field

from factory.engine.errors import DataError, GateNotMet
from factory.engine.op import Job, Kind, OpContext, Params, op
from factory.publish.card import write_card

_HIDDEN = ("row_key", "answer_key", "parent_row_id", "entry")
_FIRST = ("row_id", "prompt", "response", "answer")
MARK = ".dataset-factory.json"


class FolderParams(Params):
    """`to` is the destination, from the folder where the command is run. `config` names the Hub configuration;
    `columns` limits and orders what is published (None: all but internal ones); `messages` adds an SFT `messages`
    column made of `prompt` and `response`; fewer than `min_rows` rows fail the step."""

    to: str
    config: str = Field(default="default", pattern=r"^[A-Za-z0-9_-]+$")
    columns: list[str] | None = None
    messages: bool = True
    shard_rows: int = Field(default=100_000, ge=1)
    min_rows: int = Field(default=1, ge=0)


@op("publish.folder", version=1, kind=Kind.PUBLISH, params=FolderParams)
def publish_folder(job: Job, params: FolderParams, ctx: OpContext) -> dict[str, Any]:
    """Write the rows to a folder in Hub layout, with a card and the recipe.

    Writing the same version to the same folder again changes nothing. A folder that this op did not write is refused.

    Returns:
        receipt: `path`, `rows`, `files` {name: sha256}, `source` (dataset ref).
    Raises:
        GateNotMet: fewer rows than `min_rows`.
        DataError: the destination holds something else, or a column does not exist.
    """
    ((name, rows),) = job.inputs.items()
    target = Path(params.to).expanduser().absolute()
    _check_target(target)
    frame = _arrange(rows.collect(), params)
    if frame.height < params.min_rows:
        raise GateNotMet(f"{job.refs[name]} has {frame.height} rows and at least {params.min_rows} were wanted: "
                         "nothing was published. `factory why` on a sample tells what was rejected; sample more or "
                         "loosen `where`.")
    staged = job.workdir / "folder"
    _write_parquet(frame, staged / "data" / params.config, params.shard_rows)
    (staged / "README.md").write_text(write_card(frame, params.config, job.refs[name], job.facts), encoding="utf-8")
    (staged / "recipe.yaml").write_text(job.facts["recipe_text"], encoding="utf-8")
    files = {p.relative_to(staged).as_posix(): _sha256(p) for p in sorted(staged.rglob("*")) if p.is_file()}
    mark = {"source": job.refs[name], "content_hash": job.facts["content_hash"], "files": files}
    (staged / MARK).write_text(json.dumps(mark, indent=1, sort_keys=True), encoding="utf-8")
    if not _is_same(target, files):
        _move_into_place(staged, target)
    return {"path": str(params.to), "rows": frame.height, "files": files, "source": job.refs[name]}


def _check_target(target: Path) -> None:
    blocked = next((folder for folder in target.parents if folder.exists() and not folder.is_dir()), None)
    if blocked is not None:
        raise DataError(f"{target} cannot be made: {blocked} is a file; name another folder")
    if target.exists() and not (target / MARK).is_file() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f"{target} exists and was not written by publish.folder: name another folder, or remove it")


def _arrange(frame: pl.DataFrame, params: FolderParams) -> pl.DataFrame:
    if params.messages and {"prompt", "response"} <= set(frame.columns) and frame.schema["prompt"] == pl.String:
        turn = [pl.struct(pl.lit("user").alias("role"), pl.col("prompt").alias("content")),
                pl.struct(pl.lit("assistant").alias("role"), pl.col("response").alias("content"))]
        frame = frame.with_columns(pl.concat_list(turn).alias("messages"))
    if params.columns is not None:
        missing = [name for name in params.columns if name not in frame.columns]
        if missing:
            raise DataError(f"publish.folder: there is no column {missing[0]!r}; there are {', '.join(frame.columns)}")
        return frame.select("row_id", *(name for name in params.columns if name != "row_id"))
    shown = [name for name in frame.columns if name not in _HIDDEN]
    first = [name for name in _FIRST if name in shown]
    return frame.select(*first, *sorted(name for name in shown if name not in first))


def _write_parquet(frame: pl.DataFrame, folder: Path, shard_rows: int) -> None:
    folder.mkdir(parents=True)
    count = max(1, -(-frame.height // shard_rows))
    for index in range(count):
        path = folder / f"train-{index:05d}-of-{count:05d}.parquet"
        frame.slice(index * shard_rows, shard_rows).write_parquet(path, compression="zstd", compression_level=3)


def _is_same(target: Path, files: dict[str, str]) -> bool:
    return (target / MARK).is_file() and all(
        (target / name).is_file() and _sha256(target / name) == digest for name, digest in files.items())


def _move_into_place(staged: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.new-{os.getpid()}")
    old = target.with_name(f".{target.name}.old-{os.getpid()}")
    shutil.copytree(staged, fresh)
    if target.exists():
        target.rename(old)
    fresh.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
