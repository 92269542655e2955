"""`source.hub` against a Hub on the loopback interface: real `datasets` and `huggingface_hub`, no network.

Both libraries fix the endpoint and their caches when they are imported, so the source runs in processes of its own.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from loopback_hub import Hub

from factory.engine.errors import DataError
from factory.engine.op import PlanContext
from factory.sources.hub import HubParams, HubSource

ROOT = Path(__file__).parents[2]
OLD, NEW = "a" * 40, "b" * 40
TRAIN = [{"question": f"What is {i} + {i}?", "answer": str(2 * i), "uid": i, "steps": [i, 2 * i]} for i in range(10)]
TEST = [{"question": "q", "answer": None, "uid": 1, "steps": []},
        {"question": "r", "answer": "a", "uid": 2, "steps": []}]
CARD = """---
configs:
- config_name: main
  data_files: [{split: train, path: main/train.jsonl}]
- config_name: extra
  data_files: [{split: train, path: extra/train.jsonl}]
---
"""
DRIVER = """
import json, sys
from pathlib import Path
from factory.engine.errors import FactoryError
from factory.engine.op import PlanContext
from factory.sources.hub import HubParams, HubSource
for case in json.load(sys.stdin):
    source, params = HubSource(shard_rows=4), HubParams.model_validate(case["params"])
    try:
        plan = source.plan(params, PlanContext(Path(), limit=case.get("limit"), offline=case.get("offline", False)))
        splits = json.loads(json.dumps(plan.splits))
        rows = [[r.values, r.origin, r.line, r.native_id, r.rejected or r.failed]
                for split in splits for r in HubSource().read(split, params)]
        result = {"identity": plan.identity, "splits": len(splits), "rows": rows,
                  "schema": {name: str(dtype) for name, dtype in plan.schema.items()}}
    except FactoryError as error:
        result = {"error": f"{type(error).__name__}: {error}"}
    print("RESULT " + json.dumps(result))
"""


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def parquet(rows: list[dict[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    pl.DataFrame(rows).write_parquet(buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    repos = {"me/sums": {OLD: {"train.jsonl": jsonl(TRAIN[:3])},
                         NEW: {"train.jsonl": jsonl(TRAIN), "test.jsonl": jsonl(TEST)}},
             "me/table": {NEW: {"data/train-00000-of-00001.parquet": parquet(TRAIN)}},
             "me/many": {NEW: {"README.md": CARD.encode(), "main/train.jsonl": jsonl(TRAIN),
                               "extra/train.jsonl": jsonl(TEST)}},
             "me/nothing": {NEW: {"notes.txt.zip.unknown": b"x"}}}
    tags = {"me/sums": {"v1": OLD, "main": NEW}, "me/table": {"main": NEW}, "me/many": {"main": NEW},
            "me/nothing": {"main": NEW}}
    server = Hub(repos, tags)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def ask(endpoint: str, home: Path, *cases: dict[str, Any]) -> list[dict[str, Any]]:
    """Run the cases in one process against an endpoint, with the caches in `home`."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    env |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1",
            "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    done = subprocess.run([sys.executable, "-c", DRIVER], input=json.dumps(cases), capture_output=True, text=True,
                          env=env, cwd=ROOT, timeout=300)
    results = [json.loads(line.removeprefix("RESULT ")) for line in done.stdout.splitlines()
               if line.startswith("RESULT ")]
    assert len(results) == len(cases), done.stderr
    return results


def endpoint_of(hub: Hub) -> str:
    return f"http://127.0.0.1:{hub.server_address[1]}"


def test_rows_of_a_pinned_split(hub: Hub, tmp_path: Path) -> None:
    mapped = {"columns": {"prompt": "question", "answer": "answer"}, "id": "uid", "constants": {"verifier": "math"}}
    tag, commit, limited, table, config, nulls = ask(
        endpoint_of(hub), tmp_path,
        {"params": {"repo": "me/sums", "revision": "v1"}},
        {"params": {"repo": "me/sums", "revision": NEW, **mapped}},
        {"params": {"repo": "me/sums", "revision": NEW, **mapped}, "limit": 5},
        {"params": {"repo": "me/table", "revision": NEW}},
        {"params": {"repo": "me/many", "revision": NEW, "config": "main"}},
        {"params": {"repo": "me/sums", "revision": NEW, "split": "test", "columns": {"a": "answer"}}})
    assert [row[0] for row in tag["rows"]] == TRAIN[:3]
    assert tag["identity"]["commit"] == OLD
    assert tag["schema"] == {"question": "String", "answer": "String", "uid": "Int64", "steps": "List(Int64)"}
    expected = [[{"prompt": row["question"], "answer": row["answer"], "verifier": "math"}, "me/sums", i,
                 str(row["uid"]), None] for i, row in enumerate(TRAIN, 1)]
    assert commit["rows"] == expected
    assert commit["splits"] == 3
    assert limited["rows"] == expected[:5]
    assert limited["identity"] == {**commit["identity"], "limit": 5}
    assert "error" not in table, table
    assert [row[0] for row in table["rows"]] == [row[0] for row in config["rows"]] == TRAIN
    assert [row[4] for row in nulls["rows"]] == ["null_value: me/sums: row 1: column 'answer' is null", None]


def test_offline_uses_the_pinned_copy_and_no_other(hub: Hub, tmp_path: Path) -> None:
    old = {"params": {"repo": "me/sums", "revision": OLD}}
    online = ask(endpoint_of(hub), tmp_path, old)[0]
    asked = len(hub.requests)
    again, absent, tag = ask(endpoint_of(hub), tmp_path, {**old, "offline": True},
                             {"params": {"repo": "me/sums", "revision": NEW}, "offline": True},
                             {"params": {"repo": "me/sums", "revision": "v1"}, "offline": True})
    assert again == online
    assert "DataError" in absent["error"]
    assert NEW in absent["error"]
    assert "'v1'" in tag["error"]
    assert "40 hex digits" in tag["error"]
    assert len(hub.requests) == asked


def test_errors_name_what_is_wrong(hub: Hub, tmp_path: Path) -> None:
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({"repo": "me/absent", "revision": NEW}, ["no dataset 'me/absent'", "check `repo`"]),
        ({"repo": "me/sums", "revision": "v9"}, ["me/sums has no revision 'v9'"]),
        ({"repo": "me/a/b", "revision": "v9"}, ["'me/a/b' is no repo name"]),
        ({"repo": "me/sums", "revision": NEW, "split": "dev"}, ["'dev'", "test", "train", "`split`"]),
        ({"repo": "me/many", "revision": NEW}, ["main", "extra", "`config`"]),
        ({"repo": "me/many", "revision": NEW, "config": "mian"}, ["'mian'", "main", "extra"]),
        ({"repo": "me/sums", "revision": NEW, "columns": {"p": "qestion"}}, ["no column 'qestion'", "'question'?"]),
        ({"repo": "me/nothing", "revision": NEW}, ["me/nothing", "`revision`"]),
    ]
    results = ask(endpoint_of(hub), tmp_path, *({"params": params} for params, _ in cases))
    for (_, needles), result in zip(cases, results, strict=True):
        for needle in ["DataError", *needles]:
            assert needle in result["error"]


def test_an_unreachable_hub(tmp_path: Path) -> None:
    (result,) = ask("http://127.0.0.1:9", tmp_path, {"params": {"repo": "me/sums", "revision": NEW}})
    assert "DataError: the Hub cannot be reached for me/sums" in result["error"]
    assert "HF_ENDPOINT" in result["error"]


def test_offline_needs_a_commit() -> None:
    with pytest.raises(DataError, match="40 hex digits"):
        HubSource().plan(HubParams(repo="me/sums", revision="main"), PlanContext(ROOT, offline=True))
