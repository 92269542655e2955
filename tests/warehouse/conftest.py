"""Every test that asks for `warehouse` or `new_root` runs on a local folder and on an S3 server."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from s3_server import BUCKET, S3Server

from warehouse import Warehouse


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """An S3 server; the environment names it from now on."""
    pytest.importorskip("moto", reason="moto[server] is not installed")
    pytest.importorskip("obstore", reason="the extra `cloud` is not installed")
    server = S3Server()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment().items():
            patch.setenv(name, value)
        yield server
    server.stop()


@pytest.fixture(scope="module", params=["local", "s3"])
def new_root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path | str]:
    """Makes roots where nothing is yet."""
    if request.param == "local":
        return lambda: tmp_path_factory.mktemp("store") / "w"
    request.getfixturevalue("s3")
    return lambda: f"s3://{BUCKET}/{uuid.uuid4().hex}/w"


@pytest.fixture
def warehouse(new_root: Callable[[], Path | str]) -> Warehouse:
    """A new warehouse, local and in a bucket."""
    return Warehouse(new_root(), create=True)


@pytest.fixture
def local_warehouse(tmp_path: Path) -> Warehouse:
    """A new warehouse in a folder, for tests that look at its files."""
    return Warehouse(tmp_path / "w", create=True)
