"""Older kernels, by doing without what newer ones have: the same promises, by other means."""

from __future__ import annotations

import os
import signal

import pytest

from support.bucket import Bucket
from support.headrace import EVERYTHING, FEATURES, Headrace, wait_until
from support.promises import SIZE, keeps_every_promise
from support.readers import under_readers


@pytest.fixture(params=[*FEATURES, EVERYTHING])
def masked(headrace: Headrace, request: pytest.FixtureRequest) -> Headrace:
    headrace.environment["HEADRACE_KERNEL_MASK"] = request.param
    return headrace


def test_every_promise_without_a_feature(masked: Headrace, bucket: Bucket) -> None:
    keeps_every_promise(masked, bucket)


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
