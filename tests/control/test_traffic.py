"""What real nodes tell of the bytes they moved: as many as the server sent, whatever is replaced, restarted or released in between."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from control.conftest import Origins, Place
from headrace.control.nodes import service as nodes
from headrace.testing.seaweed import Seaweed
from support.fleet import Fleet, until
from support.headrace import Headrace
from support.jobs import Jobs
from support.relay import address, front

MIB = 1 << 20
SIZE = 3 * MIB + 1
BOTH = 256 + 2  # what the bucket has besides
READING = ("sh", "-c", 'echo begun; while read file; do cat "$file" | wc -c; done')


@pytest.fixture
def database() -> None:
    """SQLite: what a node tells does not depend on the database."""
    return


@pytest.fixture
def fleet(place: Place, tmp_path: Path, server: Seaweed, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    # What was moved is told after every sixth of them.
    monkeypatch.setattr(nodes, "HEARTBEAT_SECONDS", 1)
    place.admin.create_region({"name": "zj-1"})
    with ExitStack() as stack:
        yield Fleet(place, tmp_path, stack, server)


@dataclass
class Counted:
    """An active volume on a node, and what is counted of it."""

    fleet: Fleet
    own: Headrace
    origins: Origins
    before: int

    def sent(self) -> int:
        """By the server's own account."""
        return self.fleet.sent(self.origins.bucket) - self.before

    def moved(self) -> tuple[int, int]:
        """Received from the origin; read, in either way."""
        found = list(self.fleet.place.admin.usage(volume="qwen", region="zj-1"))
        return sum(hour["origin_bytes"] for hour in found), sum(hour["served_bytes"] + hour["opened_bytes"] for hour in found)

    def until_told(self, received: int, read: int) -> None:
        """Waits for exactly that, which is what the server has sent too."""
        until(f"{received} and {read} bytes are counted", lambda: self.moved() == (received, read))
        assert self.sent() == received

    def replace_keys(self) -> None:
        """By the same: the volume gets another revision. What the check of the connection reads is the control plane's."""
        before = self.sent()
        access = self.origins.access
        self.fleet.place.admin.rotate_credentials("qwen", {"access_key": access.access_key, "secret_key": access.secret_key})
        self.before += self.sent() - before

    def refresh(self, name: str, content: bytes) -> None:
        """A new object, pulled."""
        version = self.fleet.shown()["current"] + 1
        self.origins.access.put(self.origins.bucket, f"qwen/{name}", content)
        self.fleet.place.admin.refresh("qwen", "zj-1")
        until(f"version {version}", lambda: (self.fleet.shown()["current"], self.fleet.shown()["state"]) == (version, "active"))


@pytest.fixture
def counted(fleet: Fleet, origins: Origins, tmp_path: Path) -> Counted:
    own = fleet.node("gpu-1", HEADRACE_TASK_PATHS=str(tmp_path / "models"))
    (tmp_path / "models").mkdir()
    origins.access.put(origins.bucket, "qwen/big", os.urandom(SIZE))
    fleet.volume(origins)
    counted = Counted(fleet, own, origins, fleet.sent(origins.bucket))
    fleet.start()
    fleet.until("active")
    return counted


def test_a_pull_counts_what_the_server_sent_and_reads_what_was_read(counted: Counted, tmp_path: Path) -> None:
    counted.until_told(SIZE + BOTH, 0)
    target = tmp_path / "models/qwen"
    job = Jobs(counted.fleet, counted.own, counted.fleet.stack).run(f"qwen:{target}", command=READING).begun()
    assert int(job.ask(f"{target}/model.safetensors")) == 256
    counted.until_told(SIZE + BOTH, 256)
    # A large file that the disk has is read without the node where the kernel can: by its size then, at each opening. Otherwise it is
    # answered once, and kept by the kernel.
    counted.own.wait_durable(3)
    for times in (1, 2) if counted.own.passthrough else (1,):
        assert int(job.ask(f"{target}/big")) == SIZE
        counted.until_told(SIZE + BOTH, times * SIZE + 256)
    opened = sum(hour["opened_bytes"] for hour in counted.fleet.place.admin.usage())
    assert opened == (2 * SIZE if counted.own.passthrough else 0)
    assert job.end() == (0, "", "")


def test_what_a_revision_had_counted_stays_when_its_keys_are_replaced(counted: Counted) -> None:
    counted.replace_keys()
    counted.refresh("new", b"12345")
    counted.until_told(SIZE + BOTH + 5, 0)
    counted.replace_keys()
    counted.refresh("newer", b"1234567")
    counted.until_told(SIZE + BOTH + 12, 0)
    # So it does at a release, and what is pulled anew is counted anew.
    counted.fleet.place.admin.release("qwen", "zj-1")
    until("nothing is cached", lambda: json.loads(counted.own.run("cache", "ls", "--json").stdout) == [])
    counted.fleet.start()
    counted.fleet.until("active")
    counted.until_told(2 * (SIZE + BOTH + 12), 0)


def test_a_node_that_ends_tells_first_and_one_that_begins_counts_from_nothing(counted: Counted) -> None:
    counted.refresh("new", b"12345")
    counted.own.stop()
    assert counted.moved() == (SIZE + BOTH + 5, 0)
    counted.fleet.start_again(counted.own)
    counted.refresh("newer", b"1234567")
    counted.until_told(SIZE + BOTH + 12, 0)
    # Killed, it loses what it had not told; here that is nothing.
    os.kill(counted.own.node_pid(), signal.SIGKILL)
    counted.refresh("newest", b"123")
    counted.until_told(SIZE + BOTH + 15, 0)


def test_what_was_moved_while_the_control_plane_was_away_is_counted_afterwards(fleet: Fleet, origins: Origins, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    with front(address(fleet.place.control.url)) as way:
        own = fleet.node("gpu-1", join=False, HEADRACE_TASK_PATHS=str(tmp_path / "models"))
        fleet.join(own, "gpu-1", url=way.url)
        fleet.volume(origins)
        counted = Counted(fleet, own, origins, fleet.sent(origins.bucket))
        fleet.start(selection={"kind": "metadata"})
        fleet.until("active")
        target = tmp_path / "models/qwen"
        job = Jobs(fleet, own, fleet.stack).run(f"qwen:{target}", command=READING).begun()
        way.shut()
        until("the node notices", lambda: own.status()["control"]["error"])
        assert int(job.ask(f"{target}/model.safetensors")) == 256
        assert counted.sent() == 256
        assert counted.moved() == (0, 0)
        way.open()
        counted.until_told(256, 256)
        assert job.end() == (0, "", "")
