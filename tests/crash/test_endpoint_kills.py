"""kill -9 of a run that asks a server: no finished sample is asked for again, and none is lost.

The whole process group of the driver is killed at seeded moments, from its first import to its commit, and the same
command is started again. A sample is finished when its answer is whole in the journal; the server's log tells what was
asked. In the end the rows are those of an uninterrupted run.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from endpoint_kills import KillRun

pytest.importorskip("aiohttp", reason="the extra `endpoint` is not installed")


@pytest.mark.parametrize(("kills", "samples"), [
    (5, 300), pytest.param(20, 2000, marks=pytest.mark.exhaustive)])
def test_killed_driver(tmp_path: Path, kills: int, samples: int) -> None:
    found = KillRun(tmp_path, kills, samples).run()
    assert found["repeated"] == 0
    assert found["lost"] == 0
    assert found["same_rows"]
    assert found["kills"] == kills
    assert found["in_flight_at_kills"] > 0  # some did fall while the server wrote
    assert found["kept"] > found["sent"] / 4  # and the journal is no empty one
