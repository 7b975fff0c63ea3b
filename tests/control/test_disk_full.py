"""The disk under SQLite is full: told as that, nothing half-done, everything goes on when there is room. On a real file system that is small."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from headrace.client import ControlClient, ControlFailure
from headrace.testing.control import control_plane
from headrace.testing.nodes import TOLD, SimulatedNode
from headrace.testing.origin import failing_origin

STEP = 4096


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    there = tmp_path / "disk"
    there.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "headrace-test", there], check=True)
    yield there
    subprocess.run(["umount", there], check=True)


@pytest.fixture
def admin(disk: Path) -> Iterator[ControlClient]:
    with control_plane(disk / "state") as control:
        assert control.first_token is not None
        with control.client(control.first_token) as first, control.client(first.login()["token"]) as client:
            yield client
    with closing(sqlite3.connect(disk / "state" / "control.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def _fill(disk: Path) -> Path:
    """A file that takes all the room there is."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(STEP))
    return filler


def test_what_is_refused_is_not_done_and_what_is_answered_is(admin: ControlClient, disk: Path) -> None:
    done, refused = [], []
    filler = _fill(disk)
    for number in range(200):
        name = f"region-{number}"
        told = _told(lambda name=name, number=number: admin.create_region({"name": name, "title": "x" * 200}, f"key-{number}"))
        (refused if told else done).append(name)
    assert refused
    # Who reads is answered all the same.
    assert sorted(one["name"] for one in admin.regions()) == sorted(done)
    assert sorted(event["object_name"] for event in admin.events(noun="region")) == sorted(done)
    filler.unlink()
    # The keys of what failed are free: nothing of it was kept.
    for name in refused:
        assert admin.create_region({"name": name}, f"key-{name.rpartition('-')[2]}")["name"] == name
    assert len(list(admin.events(noun="region"))) == 200


def test_a_token_that_could_not_be_spent_is_still_good(admin: ControlClient, disk: Path) -> None:
    admin.create_region({"name": "zj-1"})
    token = admin.create_join_token("zj-1")["token"]
    filler = _fill(disk)
    _use_up(admin)
    with admin.as_bearer(token) as joining:
        assert "free space" in _told(lambda: joining.enrol("gpu-1", {}, TOLD))
        assert list(admin.nodes()) == []
        filler.unlink()
        assert joining.enrol("gpu-1", {}, TOLD)["region"] == "zj-1"


def test_what_a_node_sends_is_whole_or_not_there(admin: ControlClient, disk: Path) -> None:
    admin.create_region({"name": "zj-1"})
    with failing_origin("models") as origin:
        origin.bucket("models").put("d/x", b"{}")
        said = {"name": "m", "endpoint": origin.access.endpoint, "bucket": "models", "directory": "d", "credentials": {"anonymous": True}}
        admin.create_volume({**said, "read_only": True})
    node = SimulatedNode.join(admin, "zj-1", "gpu-1")
    admin.start_acceleration("m", {"region": "zj-1"})
    item = node.items()["m"]
    filler = _fill(disk)
    content = bytes(2**20)
    assert _told(lambda: node.client.send_snapshot_part(item["id"], item["list"], "0" * 64, 0, content))
    with pytest.raises(ControlFailure) as caught:
        node.client.snapshot_part("0" * 64, 0)
    assert caught.value.code == "not-found"
    filler.unlink()
    assert node.publish("m", b"a list") == 1


def _use_up(admin: ControlClient) -> None:
    """Room that the database already has."""
    for number in range(1000):
        if _told(lambda number=number: admin.create_region({"name": f"r{number}", "title": "x" * 250, "title_zh": "x" * 250})):
            return
    raise AssertionError("the disk is not full")


def _told(call: Callable[[], object]) -> str:
    """That the disk is full; empty where it was done."""
    try:
        call()
    except ControlFailure as failure:
        if (failure.code, failure.status) != ("database-full", 507):
            raise
        return failure.message
    return ""
