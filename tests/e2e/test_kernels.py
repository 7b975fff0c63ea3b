"""Older kernels, by doing without what newer ones have: the same promises, by other means."""

from __future__ import annotations

import mmap
import os
import signal
from pathlib import Path

import pytest

from support.bucket import Bucket
from support.headrace import Headrace, wait_until
from support.readers import under_readers

MIB = 1 << 20
SIZE = 6 * MIB + 77
EVERYTHING = "passthrough,resend,direct-mmap,large-reads,epoch"


@pytest.fixture(params=["passthrough", "resend", "direct-mmap", "large-reads", "epoch", EVERYTHING])
def masked(headrace: Headrace, request: pytest.FixtureRequest) -> Headrace:
    headrace.environment["HEADRACE_KERNEL_MASK"] = request.param
    return headrace


def mapped(path: Path) -> bytes:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
        return view[:]


def test_every_promise_without_a_feature(masked: Headrace, bucket: Bucket) -> None:
    old = bucket.put("m/sub/a", SIZE)
    bucket.put("m/small", 10_000)
    directory = masked.mount(bucket.uri("m"))
    path = directory / "sub/a"
    with path.open("rb") as held, path.open("rb") as viewed, mmap.mmap(viewed.fileno(), 0, prot=mmap.PROT_READ) as view:
        assert held.read(10) == old[:10]
        assert (path.read_bytes(), mapped(path)) == (old, old)
        masked.wait_durable(1)
        assert (path.read_bytes(), mapped(path), view[:]) == (old, old, old)
        assert (directory / "small").read_bytes() == bucket.objects["m/small"]
        new = bucket.put("m/sub/a", SIZE - 5, seed=1)
        masked.run("refresh", str(directory))
        assert (path.read_bytes(), mapped(path)) == (new, new)
        assert held.read() == old[10:]
    # One request for each byte, whatever the kernel can do.
    assert masked.counters()["origin_body_bytes_total"] == len(old) + len(new) + 10_000


@pytest.mark.parametrize("mask", ["resend", EVERYTHING])
def test_kills_where_the_kernel_sends_nothing_again(headrace: Headrace, bucket: Bucket, mask: str) -> None:
    headrace.environment["HEADRACE_KERNEL_MASK"] = mask
    data = bucket.put("m/a", SIZE)
    path = headrace.mount(bucket.uri("m")) / "a"
    with under_readers(path, data, 8):
        for kill in range(10):
            pid = headrace.node_pid()
            if kill % 2 == 0:
                headrace.run("cache", "evict", "--all")
            os.kill(pid, signal.SIGKILL)
            wait_until("its successor", lambda dead=pid: headrace.node_pid() != dead)
    assert path.read_bytes() == data


def test_an_unknown_feature_is_refused(headrace: Headrace, bucket: Bucket) -> None:
    headrace.environment["HEADRACE_KERNEL_MASK"] = "sendfile"
    done = headrace.run("mount", bucket.uri("m"), str(headrace.base / "mnt"), check=False)
    assert done.returncode == 2
    assert "sendfile" in done.stderr
    assert "passthrough" in done.stderr
