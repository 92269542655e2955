"""When things go wrong: networks that lose answers, gateways that ignore conditions, full and read-only disks."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_proxy import (
    Fault,
    FaultProxy,
    answers,
    answers_after,
    hangs,
    ignores_conditions,
    loses_answer,
    loses_request,
)
from s3_server import S3Server

from warehouse import Warehouse, WarehouseError, faults, layout
from warehouse.objectstore import CloudStore, LocalStore, selftest


@pytest.fixture(scope="module")
def module_proxy(s3: S3Server) -> Iterator[FaultProxy]:
    made = FaultProxy(s3.endpoint)
    yield made
    made.stop()


@pytest.fixture
def proxy(module_proxy: FaultProxy, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> FaultProxy:
    for name, value in s3.environment(module_proxy.endpoint).items():
        monkeypatch.setenv(name, value)
    module_proxy.method, module_proxy.plan, module_proxy.always = "PUT", [], None
    module_proxy.seen.clear()
    return module_proxy


@pytest.fixture
def store(proxy: FaultProxy) -> CloudStore:
    return CloudStore(f"s3://bucket/{uuid.uuid4().hex}", patience=20, timeout=1)


PASSING: dict[str, list[Fault | None]] = {
    "500": [answers(500)], "503 twice": [answers(503), answers(503)], "too many requests": [answers(429)],
    "a broken connection": [loses_request], "done but 500": [answers_after(500)], "done but lost": [loses_answer],
    "done but lost, then 500": [loses_answer, answers(500)], "done but late": [hangs(1.5)],
    "409 while nobody is there": [answers(409)], "done but 409 then": [loses_answer, answers(409)],
}


@pytest.mark.parametrize("trouble", PASSING)
def test_our_own_success_counts_as_ours(trouble: str, proxy: FaultProxy, store: CloudStore) -> None:
    proxy.plan = list(PASSING[trouble])
    assert store.put_if_absent("datasets/d/v1.json", b"ours")
    assert proxy.plan == []
    assert store.get("datasets/d/v1.json") == b"ours"


@pytest.mark.parametrize("trouble", PASSING)
def test_anothers_success_stays_theirs(trouble: str, proxy: FaultProxy, store: CloudStore) -> None:
    store.put_if_absent("datasets/d/v1.json", b"theirs")
    proxy.plan = list(PASSING[trouble])
    assert not store.put_if_absent("datasets/d/v1.json", b"ours")
    assert store.get("datasets/d/v1.json") == b"theirs"


def test_equal_bytes_are_not_ours_without_a_doubt(proxy: FaultProxy, store: CloudStore) -> None:
    store.put_if_absent("ids/1.json", b"same")
    assert not store.put_if_absent("ids/1.json", b"same")
    proxy.plan = [answers(409)]
    assert not store.put_if_absent("ids/1.json", b"same")


def test_a_false_412_is_looked_into(proxy: FaultProxy, store: CloudStore) -> None:
    proxy.plan = [answers(412)]
    assert store.put_if_absent("ids/1.json", b"ours")
    assert store.get("ids/1.json") == b"ours"


@pytest.mark.parametrize("fault", [answers(500), answers(503), loses_request, loses_answer, hangs(1.5)])
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "POST"])
def test_everything_else_is_asked_again(method: str, fault: Fault, proxy: FaultProxy, store: CloudStore,
                                        tmp_path: Path) -> None:
    proxy.method, proxy.plan = method, [fault]
    store.replace("a/b", b"one")
    assert (store.get("a/b"), store.size("a/b"), store.exists("a/c")) == (b"one", 3, False)
    assert (store.names("a"), list(store.keys("a"))) == (["b"], ["a/b"])
    store.fetch("a/b", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"one"
    store.delete("a/b")
    assert not store.exists("a/b")
    assert [name.name for name in tmp_path.iterdir()] == ["b"]


def test_large_files_survive_lost_pieces(proxy: FaultProxy, store: CloudStore, tmp_path: Path) -> None:
    source = tmp_path / "weights"
    source.write_bytes(os.urandom(40 << 20))
    proxy.plan = [answers(500), None, loses_answer]
    slow = CloudStore(store.root, patience=60, timeout=30)
    assert slow.copy_if_absent("checkpoints/files/ab/x", source)
    assert slow.get("checkpoints/files/ab/x") == source.read_bytes()


@pytest.mark.parametrize("fault", [answers(500), loses_request])
def test_patience_ends_and_the_store_is_named(fault: Fault, proxy: FaultProxy, store: CloudStore) -> None:
    brief = CloudStore(store.root, patience=0.5, timeout=1)
    proxy.always = fault
    for act in (lambda: brief.put_if_absent("a", b"x"), lambda: brief.get("a"), lambda: list(brief.keys("a")),
                lambda: brief.replace("a", b"x"), lambda: brief.exists("a")):
        with pytest.raises(WarehouseError, match=store.root):
            act()


@pytest.mark.parametrize("status", [400, 401, 403])
def test_what_a_person_must_mend_is_said_at_once(status: int, proxy: FaultProxy, store: CloudStore) -> None:
    proxy.always = answers(status)
    with pytest.raises(WarehouseError, match=store.root):
        store.put_if_absent("a", b"x")
    assert len(proxy.seen) == 1


def test_a_gateway_that_ignores_conditions_is_refused(proxy: FaultProxy) -> None:
    proxy.always = ignores_conditions
    root = f"s3://bucket/{uuid.uuid4().hex}"
    with pytest.raises(WarehouseError, match=root):
        Warehouse(root, create=True)
    proxy.always = None
    assert list(CloudStore(root).keys("")) == []
    selftest(CloudStore(root))


def test_a_gateway_that_knows_no_conditions_is_refused(proxy: FaultProxy, store: CloudStore) -> None:
    proxy.always = answers(501)
    with pytest.raises(WarehouseError, match="conditional"):
        selftest(store)


def test_a_bucket_that_does_not_exist_is_named(s3: S3Server) -> None:
    with pytest.raises(WarehouseError, match="s3://no-bucket/w"):
        Warehouse("s3://no-bucket/w", create=True)


def test_http_without_leave_is_said_at_once(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    with pytest.raises(WarehouseError, match="AWS_ALLOW_HTTP"):
        CloudStore("s3://bucket/w").exists("a")


def test_a_store_keeps_the_settings_it_was_opened_with(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    store = CloudStore(f"s3://bucket/{uuid.uuid4().hex}")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert store.put_if_absent("a", b"x")


# -- local disks -----------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("no leave to mount a file system here")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_full_disk_is_named_and_nothing_is_left(small_disk: Path, tmp_path: Path) -> None:
    store = LocalStore(small_disk)
    assert store.put_if_absent("a/first", b"x")
    large = tmp_path / "large"
    large.write_bytes(bytes(2 << 20))
    for act in (lambda: store.put_if_absent("a/b", bytes(2 << 20)), lambda: store.copy_if_absent("a/b", large),
                lambda: store.replace("a/first", bytes(2 << 20))):
        with pytest.raises(WarehouseError, match=str(small_disk)):
            act()
        assert sorted(store.keys("")) == ["a/first"]
    assert store.get("a/first") == b"x"
    assert store.put_if_absent("a/b", b"small")


def test_a_read_only_disk_is_named_and_still_read(small_disk: Path) -> None:
    made = Warehouse(small_disk / "w", create=True)
    made.store.put_if_absent("a/b", b"x")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    store = LocalStore(small_disk / "w")
    for act in (lambda: store.put_if_absent("a/c", b"x"), lambda: store.replace("a/b", b"y"),
                lambda: store.delete("a/b"), lambda: store.touch("a/b"),
                lambda: store.lease("catalog/lock").__enter__()):
        with pytest.raises(WarehouseError, match=str(small_disk)):
            act()
    assert store.get("a/b") == b"x"
    assert Warehouse(small_disk / "w").sql("SELECT count(*) AS n FROM datasets")["n"].to_list() == [0]
    with pytest.raises(WarehouseError, match=str(small_disk)):
        Warehouse(small_disk / "other", create=True)


@pytest.mark.parametrize("name", ["put.written", "put.linked"])
def test_a_put_that_stops_halfway_is_whole_or_not_there(name: str, tmp_path: Path) -> None:
    class Stopped(BaseException):
        pass

    def stop(at: str) -> None:
        if at == name:
            raise Stopped

    store = LocalStore(tmp_path)
    faults.arm(stop)
    try:
        with pytest.raises(Stopped):
            store.put_if_absent("a/b", json.dumps({"n": 1}).encode())
    finally:
        faults.arm(None)
    assert store.exists("a/b") == (name == "put.linked")
    again = LocalStore(tmp_path)
    assert again.put_if_absent("a/b", b'{"n": 1}') == (name == "put.written")
    assert json.loads(again.get("a/b")) == {"n": 1}


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put_if_absent("a", b"file")
    assert not store.exists("a/b")
    assert store.size("a/b") is None
    with pytest.raises(WarehouseError, match=str(tmp_path)):
        store.put_if_absent("a/b", b"x")
    assert list(store.keys(layout.TMP)) == []


def test_a_local_lease_is_alone_or_shared(tmp_path: Path) -> None:
    store, other = LocalStore(tmp_path), LocalStore(tmp_path)
    tries: list[tuple[bool, bool, bool]] = [(False, False, False), (False, True, False), (True, False, False),
                                            (True, True, True)]
    for first, second, expected in tries:
        with store.lease("lock", shared=first) as held, other.lease("lock", wait=False, shared=second) as also:
            assert held
            assert also is expected


