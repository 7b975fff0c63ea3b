"""The real agent in real nodes: what the control plane says should be comes about, with bytes from a real S3 server."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from control.conftest import MASTER_KEY, Origins, Place
from headrace.testing.control import control_plane
from headrace.testing.seaweed import Seaweed
from support.headrace import Headrace, wait_until

MIB = 1 << 20
WAIT = 30.0
CONFIG, MODEL = b"{}", bytes(range(256))
SMALL = len(CONFIG) + len(MODEL)


@pytest.fixture
def database() -> None:
    """SQLite: what the agent sees of the control plane does not depend on the database."""
    return


@dataclass
class Fleet:
    """Nodes of a region, beside a control plane."""

    place: Place
    base: Path
    stack: ExitStack
    server: Seaweed

    def node(self, name: str, *, join: bool = True, **environment: str) -> Headrace:
        """A node that has joined; of the origin it knows only what the control plane says."""
        base = self.base / name
        base.mkdir()
        own = Headrace(base, environment)
        own.environment |= environment
        self.stack.callback(own.stop)
        if join:
            self.join(own, name)
        return own

    def join(self, own: Headrace, name: str, *options: str, check: bool = True) -> str:
        own.environment["HEADRACE_JOIN_TOKEN"] = self.place.admin.create_join_token("zj-1")["token"]
        done = own.run("node", "join", self.place.control.url, "--name", name, *options, check=check)
        del own.environment["HEADRACE_JOIN_TOKEN"]
        return done.stdout + done.stderr

    def volume(self, origins: Origins, name: str = "qwen", **changes: object) -> None:
        self.place.admin.create_volume(origins.volume(name, **changes))

    def start(self, name: str = "qwen", **more: object) -> None:
        self.place.admin.start_acceleration(name, {"region": "zj-1", **more})

    def shown(self, name: str = "qwen") -> dict[str, Any]:
        return dict(self.place.admin.acceleration(name, "zj-1"))

    def until(self, state: str, name: str = "qwen", seconds: float = WAIT) -> dict[str, Any]:
        """Waits for a state."""
        return dict(_until(f"{name} is {state}", lambda: shown if (shown := self.shown(name))["state"] == state else None, seconds))

    def sent(self, bucket: str) -> int:
        return self.server.sent_bytes(bucket)


def _until(what: str, condition: Callable[[], Any], seconds: float = WAIT) -> Any:
    return wait_until(what, condition, seconds)


@pytest.fixture
def fleet(place: Place, tmp_path: Path, server: Seaweed) -> Iterator[Fleet]:
    place.admin.create_region({"name": "zj-1"})
    with ExitStack() as stack:
        yield Fleet(place, tmp_path, stack, server)


def _cached(own: Headrace) -> dict[str, int]:
    """Bytes held of each key."""
    own_status = own.run("cache", "ls", "--json").stdout
    import json

    return {entry["key"]: entry["allocated"] for entry in json.loads(own_status)}


def test_the_whole_way(fleet: Fleet, origins: Origins) -> None:
    own = fleet.node("gpu-1")
    fleet.volume(origins)
    before = fleet.sent(origins.bucket)
    fleet.start()
    shown = fleet.until("active")
    assert (shown["bytes_held"], shown["bytes_total"], shown["files"], shown["files_total"]) == (SMALL, SMALL, 2, 2)
    assert fleet.sent(origins.bucket) - before == SMALL
    # Any door reads what was pulled, and the origin hears nothing of it.
    own.environment |= origins.access.environment()
    mounted = own.mount(f"s3://{origins.bucket}/qwen")
    assert (mounted / "model.safetensors").read_bytes() == MODEL
    assert (mounted / "config.json").read_bytes() == CONFIG
    assert fleet.sent(origins.bucket) - before == SMALL
    own.run("umount", str(mounted))
    # A refresh finds what has changed, and pulls only that.
    origins.access.put(origins.bucket, "qwen/config.json", b'{"a": 1}')
    fleet.place.admin.refresh("qwen", "zj-1")
    _until("version 2", lambda: fleet.shown()["current"] == 2 and fleet.shown()["state"] == "active")
    assert fleet.sent(origins.bucket) - before == SMALL + 8
    assert fleet.shown()["bytes_held"] == len(MODEL) + 8
    # One that finds nothing new makes no version.
    fleet.place.admin.refresh("qwen", "zj-1")
    fleet.until("active")
    assert [version["number"] for version in fleet.place.admin.versions("qwen", "zj-1")] == [1, 2]
    fleet.place.admin.release("qwen", "zj-1")
    _until("nothing is cached", lambda: not _cached(own))
    _until("no list is kept", lambda: not list((own.base / "cache/snapshots/control").iterdir()))
