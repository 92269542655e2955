"""Writing parts: the name is the hash of the bytes, a killed or refused writer leaves nothing with a name, and keys of
rows depend on nothing but the rows."""

from __future__ import annotations

import hashlib
import multiprocessing as mp
import os
import resource
import signal
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warehouse import Warehouse, WarehouseError, faults
from warehouse.content import SLICE_ROWS, encode_columns, hash_frame, row_keys
from warehouse.ids import first_id, mint_ids
from warehouse.objectstore import LocalStore
from warehouse.parts import WRITE_BEHIND_BYTES, read_part, write_part
from warehouse.tables import LINEAGE

SPAWN = mp.get_context("spawn")


def noise(megabytes: int, rows: int = 64) -> pl.DataFrame:
    """Text that does not compress much."""
    drawn = np.random.default_rng(megabytes).bytes(megabytes << 19).hex()
    size = len(drawn) // rows
    texts = [drawn[at * size : (at + 1) * size] for at in range(rows)]
    return pl.DataFrame({"row_id": mint_ids(1, 0, rows), "text": texts})


def parts_of(root: Path) -> list[Path]:
    return sorted((root / "parts").rglob("*.parquet"))


def scratch_of(root: Path) -> list[Path]:
    return [path for path in (root / "tmp").rglob("*") if path.is_file()]


@pytest.mark.parametrize("megabytes", [0, 1, 40])
def test_a_part_is_named_by_its_bytes(megabytes: int, tmp_path: Path) -> None:
    """The largest goes to the disk while it is being written."""
    store = Warehouse(tmp_path / "w", create=True).store
    frame = noise(megabytes) if megabytes else noise(1).head(0)
    part = write_part(store, frame, of="x")
    data = store.path(part.path).read_bytes()
    assert part.sha256 == hashlib.sha256(data).hexdigest()
    assert part.path == f"parts/{part.sha256[:2]}/{part.sha256}.parquet"
    assert (part.bytes, part.rows, part.of) == (len(data), frame.height, "x")
    assert (part.bytes > 2 * WRITE_BEHIND_BYTES) == (megabytes == 40)
    bounds = (first_id(1, 0), first_id(1, 0) + frame.height - 1) if frame.height else (None, None)
    assert (part.min_row_id, part.max_row_id) == bounds
    assert read_part(store, part).equals(frame)
    assert write_part(store, frame, of="x") == part
    assert scratch_of(tmp_path / "w") == []


def _write_limited(root: str, limit: int, out: Any) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    store = LocalStore(Path(root))
    try:
        write_part(store, noise(40))
        out.put("written")
    except WarehouseError as error:
        out.put(str(error))


@pytest.mark.parametrize("limit", [4096, 18 << 20])
def test_a_disk_that_takes_no_more_leaves_nothing_behind(limit: int, tmp_path: Path) -> None:
    """It fills up at the first page, or after part of the file is on it already."""
    Warehouse(tmp_path / "w", create=True)
    out = SPAWN.Queue()
    child = SPAWN.Process(target=_write_limited, args=(str(tmp_path / "w"), limit, out))
    child.start()
    told = out.get(timeout=60)
    child.join()
    assert str(tmp_path / "w") in told
    assert "run again" in told
    assert parts_of(tmp_path / "w") == []
    assert scratch_of(tmp_path / "w") == []


def _die_at(root: str, point: str) -> None:
    faults.arm(lambda name: os.kill(os.getpid(), signal.SIGKILL) if name == point else None)
    write_part(LocalStore(Path(root)), noise(1))


@pytest.mark.parametrize(("point", "named"), [("part.written", 0), ("part.adopted", 1)])
def test_a_killed_writer_leaves_a_whole_part_or_none(point: str, named: int, tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "w", create=True)
    child = SPAWN.Process(target=_die_at, args=(str(tmp_path / "w"), point))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert len(parts_of(tmp_path / "w")) == named
    part = write_part(warehouse.store, noise(1))
    assert parts_of(tmp_path / "w") == [warehouse.store.path(part.path)]
    assert read_part(warehouse.store, part).equals(noise(1))


def _write(root: str, barrier: Any, out: Any) -> None:
    barrier.wait()
    out.put(write_part(LocalStore(Path(root)), noise(4)).model_dump())


def test_writers_of_the_same_rows_make_one_part(tmp_path: Path) -> None:
    Warehouse(tmp_path / "w", create=True)
    barrier, out = SPAWN.Barrier(4), SPAWN.Queue()
    writers = [SPAWN.Process(target=_write, args=(str(tmp_path / "w"), barrier, out)) for _ in range(4)]
    for writer in writers:
        writer.start()
    told = [out.get(timeout=60) for _ in writers]
    for writer in writers:
        writer.join()
    assert told == [told[0]] * 4
    assert len(parts_of(tmp_path / "w")) == 1


def test_an_edge_takes_at_most_four_bytes(tmp_path: Path) -> None:
    """Whatever parents the rows have: here any of 400,000, and a second one for a tenth of them."""
    store, rng, count = Warehouse(tmp_path / "w", create=True).store, np.random.default_rng(5), 50_000
    children = np.sort(np.concatenate([np.arange(count), rng.choice(count, count // 10, replace=False)]))
    edges = pl.DataFrame({"child_row_id": first_id(9, 3) + children,
                          "parent_row_id": first_id(8, 0) + rng.integers(0, 400_000, len(children)),
                          "role": rng.choice(["prompt", "context"], len(children), p=[0.9, 0.1]),
                          "op": ["generate.sample"] * len(children), "slot": rng.integers(0, 16, len(children))})
    part = write_part(store, edges.cast(LINEAGE))  # type: ignore[arg-type]
    assert part.bytes / part.rows <= 4


VALUES: dict[str, tuple[Any, Any]] = {
    "text": (pl.String(), st.text(max_size=6)), "int": (pl.Int64(), st.integers(-(2**63), 2**63 - 1)),
    "small": (pl.UInt8(), st.integers(0, 255)), "float": (pl.Float64(), st.floats()),
    "bool": (pl.Boolean(), st.booleans()), "bytes": (pl.Binary(), st.binary(max_size=4)),
    "day": (pl.Date(), st.dates(date(1900, 1, 1), date(2100, 1, 1))),
    "list": (pl.List(pl.String()), st.lists(st.none() | st.text(max_size=3), max_size=3)),
    "choice": (pl.Enum(["a", "b=;"]), st.sampled_from(["a", "b=;"]))}


@settings(max_examples=40, deadline=None)
@given(st.data(), st.sampled_from([1, 2, 5]))
def test_a_row_has_one_key_whatever_stands_around_it(data: st.DataObject, height: int) -> None:
    frame = pl.DataFrame({name: pl.Series(data.draw(st.lists(st.none() | value, min_size=height, max_size=height)),
                                          dtype=dtype) for name, (dtype, value) in VALUES.items()})
    parents = [bytes([at]) * 16 for at in range(height)]
    alone = [row_keys(frame[at], frame.columns, [parents[at]])[0] for at in range(height)]
    assert row_keys(frame, frame.columns[::-1], parents) == alone
    repeats = 2 * SLICE_ROWS // height + 1
    assert row_keys(pl.concat([frame] * repeats), frame.columns, parents * repeats) == alone * repeats


def test_keys_need_a_parent_for_each_row() -> None:
    frame = pl.DataFrame({"a": ["x"] * (SLICE_ROWS + 1)})
    for parents in ([b"p"] * SLICE_ROWS, [b"p"] * (SLICE_ROWS + 2)):
        with pytest.raises(ValueError, match="zip"):
            row_keys(frame, ["a"], parents)
    assert encode_columns(frame, []) == [b""] * frame.height


def test_every_type_is_spelt_as_it_always_was() -> None:
    frame = pl.DataFrame({
        "bool": [True], "bytes": [b"\x00="], "day": [date(2024, 2, 29)], "at": [datetime(2024, 1, 2, 3, 4, 5)],
        "choice": pl.Series(["b"], dtype=pl.Enum(["a", "b"])), "float": [0.1], "whole": [1.0], "nan": [float("nan")],
        "big": [2**63 - 1], "negative": pl.Series([-5], dtype=pl.Int8), "map": [{"z": 1, "a": "é"}], "text": ["a\n𝄞"],
        "money": pl.Series([Decimal("1.50")], dtype=pl.Decimal(10, 2)), "none": pl.Series([None], dtype=pl.Int64)})
    spelt = ('at=j21:"2024-01-02 03:04:05"big=j19:9223372036854775807bool=j4:truebytes=b2:\x00=choice=s1:b'
             'day=j12:"2024-02-29"float=j3:0.1map=j16:{"a":"é","z":1}money=j6:"1.50"nan=j3:NaNnegative=j2:-5none=n;'
             "text=s6:a\n𝄞whole=j3:1.0")
    assert encode_columns(frame, frame.columns) == [spelt.encode()]
    keyed = frame.with_columns(row_key=pl.Series(row_keys(frame, frame.columns), dtype=pl.Binary))
    total = hashlib.sha256(hashlib.sha256(spelt.encode()).digest()[:16] + b"bool=j4:true").hexdigest()
    assert str(hash_frame(keyed, columns=["bool"])) == f"mset256:1:{total}"
