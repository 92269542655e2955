"""A dataset of the Hugging Face Hub, at one commit, as a source.

Planning resolves the revision to a commit; repo, commit, config and split are the identity. Rows are read through
`datasets`, which downloads the split once and keeps it as Arrow on disk, so that any run of rows can be read alone.
Each commit has a cache folder of its own: when the Hub cannot be reached, `datasets` falls back to whatever version
of the repo its cache holds, and with a folder per commit that can only be the pinned one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from factory.engine.errors import DataError
from factory.engine.op import Kind, PlanContext, Record, SourcePlan, op
from factory.sources.shape import RecordParams, Shape, Survey
from factory.sources.tables import as_schema, declared, rows

SHARD_ROWS = 2048
_COMMIT = re.compile(r"[0-9a-f]{40}")


class HubParams(RecordParams):
    """Which split. `revision` is a commit or a tag; branches are taken too, but name another commit tomorrow.
    `config` (a subset of the repo) may be left out where there is only one."""

    repo: str
    revision: str
    config: str | None = None
    split: str = "train"


@op("source.hub", version=1, kind=Kind.SOURCE, params=HubParams, provenance=("revision", "license"))
class HubSource:
    """Read records from a dataset of the Hugging Face Hub, pinned to a commit."""

    def __init__(self, shard_rows: int = SHARD_ROWS):
        self.shard_rows = shard_rows

    def plan(self, params: HubParams, ctx: PlanContext) -> SourcePlan:
        """Resolve the commit, fetch the split and cut it by rows.

        Raises:
            DataError: no such repo, revision, config, split or column; the Hub cannot be reached; the split is empty.
        """
        commit = _pinned(params) if ctx.offline else _resolve(params.repo, params.revision)
        table = _load(params.repo, params.config, params.split, commit, ctx.offline)
        total = len(table) if ctx.limit is None else min(len(table), ctx.limit)
        source = f"{params.repo} ({params.split})"
        if not total:
            raise DataError(f"{source} holds no records: expected at least one.")
        survey = Survey(params)
        schema = as_schema(table.data.table.schema.empty_table())
        for name, kind in declared(schema, source, survey.wanted).items():
            survey.declare(name, kind)
        shape = survey.finish(source)
        identity: dict[str, Any] = {"repo": params.repo, "commit": commit, "config": params.config,
                                    "split": params.split}
        if ctx.limit is not None:
            identity["limit"] = ctx.limit
        splits = tuple({"commit": commit, "offline": ctx.offline, "shape": shape.to_json(), "start": start,
                        "stop": min(start + self.shard_rows, total)} for start in range(0, total, self.shard_rows))
        return SourcePlan(identity, splits, shape.schema(), params.license)

    def read(self, split: dict[str, Any], params: HubParams) -> Iterator[Record]:
        """The records of one split, fetched again where this machine has no copy."""
        import polars as pl

        shape, start, stop = Shape.from_json(split["shape"]), split["start"], split["stop"]
        table = _load(params.repo, params.config, params.split, split["commit"], split["offline"])
        wanted = {*shape.columns.values(), *([shape.id] if shape.id is not None else [])}
        part = table.select_columns([name for name in table.column_names if name in wanted])
        frame = pl.from_arrow(part.with_format("arrow")[start:stop])
        assert isinstance(frame, pl.DataFrame)
        for row in rows(frame, params.repo, start, stop):
            yield shape.record(row.values or {}, params.repo, row.line, f"{params.repo}: row {row.line}")


def _pinned(params: HubParams) -> str:
    if not _COMMIT.fullmatch(params.revision):
        raise DataError(f"offline, the revision {params.revision!r} of {params.repo} cannot be resolved: give the "
                        "commit (40 hex digits).")
    return params.revision


def _resolve(repo: str, revision: str) -> str:
    """The commit a revision names."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    api = HfApi()
    try:
        commit = api.dataset_info(repo, revision=revision).sha
    except RevisionNotFoundError:
        raise DataError(f"{repo} has no revision {revision!r} on {api.endpoint}: give a commit or a tag of the "
                        "dataset.") from None
    except RepositoryNotFoundError:
        raise DataError(f"there is no dataset {repo!r} on {api.endpoint}, or it is private or gated: check `repo`, or "
                        "log in with `hf auth login`.") from None
    except HFValidationError as error:
        raise DataError(f"{repo!r} is no repo name: {error}. Expected owner/name.") from None
    except Exception as error:  # the HTTP library differs between versions of huggingface_hub
        raise _unreachable(repo, error) from None
    if commit is None:
        raise DataError(f"{api.endpoint} names no commit for {repo} at {revision!r}: give a commit (40 hex digits).")
    return commit


def _unreachable(repo: str, error: Exception) -> DataError:
    return DataError(f"the Hub cannot be reached for {repo} ({type(error).__name__}: {str(error).strip()}): check the "
                     "network and HF_ENDPOINT; with a commit as `revision`, a plan made offline uses the local copy.")


@contextmanager
def _offline(on: bool) -> Iterator[None]:
    """Keep `datasets` off the network; it has no argument for that."""
    import datasets

    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = before or on
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before


@lru_cache(maxsize=4)
def _load(repo: str, config: str | None, split: str, commit: str, offline: bool) -> Any:
    """The split as a memory-mapped `datasets.Dataset`."""
    import datasets

    cache = Path(datasets.config.HF_DATASETS_CACHE) / "pinned" / commit / (config or "default")
    try:
        with _offline(offline):
            return datasets.load_dataset(repo, config, split=split, revision=commit, cache_dir=str(cache))
    except FileNotFoundError as error:  # also the classes of `datasets` for no dataset and no data files
        raise DataError(f"{repo} at {commit}: {error}. Check `repo` and `revision`.") from None
    except ValueError as error:  # unknown split, unknown or missing config, no cached copy: the text lists the choices
        raise DataError(f"{repo} at {commit}, config {config!r}, split {split!r}: {error} Check `config` and "
                        "`split`.") from None
    except datasets.exceptions.DatasetGenerationError as error:
        raise DataError(f"{repo} at {commit}: its files cannot be read as a table: {error.__cause__ or error}. Check "
                        "`config`, or fetch the files and read them with source.files.") from None
    except Exception as error:
        if offline:
            raise DataError(f"offline, and this machine has no copy of {repo} at {commit}, split {split!r}: plan it "
                            "once with the network.") from None
        raise _unreachable(repo, error) from None
