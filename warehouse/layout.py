"""The path grammar: the only place where a path inside a warehouse is spelled.

    warehouse.json                          format, id                                   written once
    ids/00000017.json                       row-id namespace 17 and who owns it           written once
    parts/ab/ab34….parquet                  immutable; the name is the sha256 of its bytes
    feed/00000017.json                      what somebody is about to commit              written once
    datasets/<name>/v00000003.json          THE COMMIT: manifest of version 3             written once
    datasets/<name>/v00000003.tomb.json     version 3 is deleted (its manifest stays)     written once
    checkpoints/<name>/v00000003.json       model checkpoint record                       written once
    checkpoints/files/ab/ab34…              a checkpoint's files, by sha256
    refs/<name>/<tag>.json                  tag -> version                                replaced
    work/<key>/plan.json                    frozen shards and namespace of one increment  written once
    work/<key>/shards/<shard>.json          one finished shard                            written once
    work/<key>/journal/<writer>.journal     finished answers, appended
    runs/<run_id>/{run,heartbeat,end}.json  one attempt
    gc/<time>.json                          what nothing needed then (the first phase of gc)
    catalog/                                derived and disposable: views.sql, state.json, compacted tables
    tmp/                                    scratch of running writers

Keys are POSIX paths relative to the root, so a copied warehouse reads itself.
"""

from __future__ import annotations

import re

ROOT_RECORD = "warehouse.json"
CATALOG = "catalog"
TMP = "tmp"
VIEWS_SQL = f"{CATALOG}/views.sql"
GC_LOCK = "gc/lock"

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
_REF = re.compile(r"(?P<name>[^@]+)(@(?P<version>[^@]+))?")


def check_name(name: str) -> str:
    """A dataset or checkpoint name: letters, digits, `_ . -` and `/`. Raises ValueError."""
    if not _NAME.fullmatch(name) or len(name) > 200 or ".." in name:
        raise ValueError(f"{name!r} cannot name a dataset: use letters, digits, '_', '.', '-' and '/' (at most 200)")
    return name


def split_ref(ref: str) -> tuple[str, str | None]:
    """`name@3` -> (name, "3"); `name` -> (name, None); `name@prod` -> (name, "prod")."""
    match = _REF.fullmatch(ref)
    if match is None:
        raise ValueError(f"{ref!r} is not a dataset reference: write name, name@3 or name@tag")
    return match["name"], match["version"]


def part(sha256: str) -> str:
    return f"parts/{sha256[:2]}/{sha256}.parquet"


def manifest(dataset: str, version: int) -> str:
    return f"datasets/{dataset}/v{version:08d}.json"


def tombstone(key: str) -> str:
    """Where the deletion of a manifest or checkpoint record is noted."""
    return f"{key.removesuffix('.json')}.tomb.json"


def feed(position: int) -> str:
    return f"feed/{position:08d}.json"


def gc_list(name: str) -> str:
    return f"gc/{name}.json"


def checkpoint(name: str, version: int) -> str:
    return f"checkpoints/{name}/v{version:08d}.json"


def checkpoint_file(sha256: str) -> str:
    return f"checkpoints/files/{sha256[:2]}/{sha256}"


def version_of(key: str) -> tuple[str, int] | None:
    """(name, version) of a manifest or checkpoint key, None for any other key."""
    match = re.fullmatch(r"(?:datasets|checkpoints)/(.+)/v(\d{8})\.json", key)
    return (match[1], int(match[2])) if match else None


def namespace(number: int) -> str:
    return f"ids/{number:08d}.json"


def ref(dataset: str, tag: str) -> str:
    return f"refs/{dataset}/{tag}.json"


def work_plan(key: str) -> str:
    return f"work/{key}/plan.json"


def work_shard(key: str, shard: str | int) -> str:
    return f"work/{key}/shards/{shard if isinstance(shard, str) else f'{shard:05d}'}.json"


def work_lock(key: str) -> str:
    return f"work/{key}/lock"


def journal(key: str, writer: str = "") -> str:
    return f"work/{key}/journal/{writer}.journal" if writer else f"work/{key}/journal"


def run(run_id: str, record: str = "run") -> str:
    return f"runs/{run_id}/{record}.json"
