"""The generator of the benchmark warehouse: as large as it says, the same every time, sound in every row."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from warehouse import Warehouse, lineage
from warehouse.upkeep.fsck import check

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def big() -> Any:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import big_warehouse
    finally:
        sys.path.remove(str(BENCHMARKS))
    return big_warehouse


@pytest.fixture(scope="module")
def built(big: Any, tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    root = tmp_path_factory.mktemp("big") / "w"
    big.Builder(root, big.Shape(0.0002, parts=3)).build()
    return Warehouse(root)


def test_the_full_shape_is_the_promised_one(big: Any) -> None:
    shape = big.Shape()
    assert 1 + big.PROMPT_SETS + 2 * shape.waves + shape.second_judged == 200
    assert shape.waves + 3 * shape.nights >= 4_790
    answers = shape.waves * shape.prompts * (1 - big.REJECTED - big.FAILED) + shape.nights * shape.nightly_rows
    rows = shape.seeds + big.PROMPT_SETS * shape.prompts + answers
    assert rows == pytest.approx(10_000_000, rel=0.001)
    assert (shape.prompts * big.PROMPT_SETS) + answers * (1 + big.SECOND_PARENTS) == pytest.approx(11_000_000, rel=0.01)
    assert answers + shape.second_judged * shape.prompts >= 10_000_000


def test_every_row_part_and_edge_is_sound(built: Warehouse) -> None:
    report = check(built)
    assert report.damage == []
    kinds = dict(built.sql("SELECT kind, count(*) FROM datasets GROUP BY 1").iter_rows())
    assert kinds["selection"] == kinds["scores"] == kinds["rows"] - 4
    assert built.sql("SELECT count(*) FROM rejections").item() > 0


def test_a_published_row_comes_from_a_seed_and_the_seed_knows_it(built: Warehouse) -> None:
    row = built.sql("SELECT min(row_id) FROM selections WHERE ref = 'main/sft@1'").item()
    hops = lineage.trace_up(built, row)
    assert hops[0].dataset.partition("@")[0].endswith("/samples")
    assert {hop.op for hop in hops} == {"generate.sample", "generate.synthesize", "source.files"}
    roots = [hop.row_id for hop in hops if hop.op == "source.files"]
    for root in roots:
        assert row in {hop.row_id for hop in lineage.trace_down(built, root)}
        assert built.sql("SELECT count(*) FROM row_roots WHERE root_row_id = ? AND row_id = ?", [root, row]).item() == 1
    assert {finding.kind for finding in lineage.why(built, row)} >= {"created", "scored", "kept"}


def test_the_same_seed_gives_the_same_warehouse(big: Any, built: Warehouse, tmp_path: Path) -> None:
    big.Builder(tmp_path / "again", big.Shape(0.0002, parts=3)).build()
    query = "SELECT ref, kind, content_hash, rows_in, rows_kept, rows_rejected, rows_failed FROM datasets ORDER BY ref"
    assert built.sql(query).equals(Warehouse(tmp_path / "again").sql(query))
