"""Node and keeper may be killed: mounts stay, readers notice nothing."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from support.bucket import Bucket
from support.headrace import Headrace, wait_until
from support.readers import under_readers

MIB = 1 << 20
SIZE = 24 * MIB
KILLS = 20


@pytest.mark.parametrize(("victim", "evicting"), [("pid", True), ("keeper_pid", False)], ids=["node", "keeper"])
def test_twenty_kills_under_eight_readers(headrace: Headrace, bucket: Bucket, victim: str, evicting: bool) -> None:
    data = bucket.put("m/big", SIZE)
    path = headrace.mount(bucket.uri("m")) / "big"
    with under_readers(path, data, 8):
        for kill in range(KILLS):
            pid = headrace.status()["node"][victim]
            if evicting and kill % 3 == 0:
                headrace.run("cache", "evict", "--all")
            os.kill(pid, signal.SIGKILL)
            wait_until("its successor", lambda dead=pid: headrace.status()["node"][victim] != dead)
    assert path.read_bytes() == data


def test_a_killed_keeper_is_replaced_and_the_mount_survives_the_next_kill(headrace: Headrace, bucket: Bucket) -> None:
    data = bucket.put("m/big", SIZE)
    path = headrace.mount(bucket.uri("m")) / "big"
    for _ in range(3):
        status = headrace.status()["node"]
        os.kill(status["keeper_pid"], signal.SIGKILL)
        wait_until("another keeper", lambda old=status: headrace.status()["node"]["keeper_pid"] != old["keeper_pid"])
        os.kill(status["pid"], signal.SIGKILL)
        assert path.read_bytes() == data
    assert os.path.ismount(path.parent)


def test_both_killed_at_once_is_told_and_the_next_mount_cleans_up(headrace: Headrace, bucket: Bucket) -> None:
    data = bucket.put("m/a", MIB)
    directory = headrace.mount(bucket.uri("m"))
    status = headrace.status()["node"]
    os.kill(status["keeper_pid"], signal.SIGSTOP)
    os.kill(status["pid"], signal.SIGKILL)
    os.kill(status["keeper_pid"], signal.SIGKILL)
    wait_until("the dead mount", lambda: _disconnected(directory))
    done = headrace.run("mount", bucket.uri("m"), str(directory))
    assert "dead mount" in done.stderr
    assert (directory / "a").read_bytes() == data


def _disconnected(directory: Path) -> bool:
    try:
        os.listdir(directory)
    except OSError:
        return True
    return False
