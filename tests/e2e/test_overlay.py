"""In a container's root, which is an overlay: cache, sockets and mount point lie there, and everything but passthrough is the same."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.testing.access import Access
from support.bucket import Bucket
from support.headrace import EVERYTHING, Headrace, wait_until
from support.overlay import overlay
from support.promises import SIZE, keeps_every_promise
from support.readers import under_readers


@pytest.fixture(params=["", "passthrough", "resend", EVERYTHING])
def contained(tmp_path: Path, server: Access, request: pytest.FixtureRequest) -> Iterator[Headrace]:
    with overlay(tmp_path) as root:
        own = Headrace(root, server.environment())
        own.environment["HEADRACE_KERNEL_MASK"] = request.param
        yield own
        own.stop()


def test_every_promise_on_an_overlay(contained: Headrace, bucket: Bucket) -> None:
    keeps_every_promise(contained, bucket)
    assert not contained.status()["mounts"][0]["passthrough"]
    assert contained.counters()["mount_opens_passthrough_total"] == 0
    if not contained.environment["HEADRACE_KERNEL_MASK"]:
        # Found out once, and told once.
        assert contained.log().count("no passthrough for") == 1


@pytest.mark.parametrize("contained", ["", EVERYTHING], indirect=True)
def test_kills_on_an_overlay(contained: Headrace, bucket: Bucket) -> None:
    data = bucket.put("m/a", SIZE)
    path = contained.mount(bucket.uri("m")) / "a"
    with under_readers(path, data, 4):
        for _ in range(3):
            pid = contained.node_pid()
            contained.run("cache", "evict", "--all")
            os.kill(pid, signal.SIGKILL)
            wait_until("its successor", lambda dead=pid: contained.node_pid() != dead)
    assert path.read_bytes() == data
