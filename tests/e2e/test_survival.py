"""Node and keeper may be killed: mounts stay, readers notice nothing."""

from __future__ import annotations

import os
import random
import signal
import threading
from pathlib import Path

import pytest

from support.bucket import Bucket
from support.headrace import Headrace, wait_until

MIB = 1 << 20
SIZE = 24 * MIB
KILLS = 20


class Reader(threading.Thread):
    """Reads at random or in order until told to stop; remembers what went wrong."""

    def __init__(self, path: Path, data: bytes, seed: int, stop: threading.Event) -> None:
        super().__init__()
        self.path, self.data, self.stop = path, data, stop
        self.random = random.Random(seed)
        self.failures: list[str] = []
        self.reads = 0

    def run(self) -> None:
        while not self.stop.is_set():
            try:
                self._pass()
            except OSError as error:
                self.failures.append(repr(error))
                return

    def _pass(self) -> None:
        with self.path.open("rb", buffering=0) as file:
            for index in range(24):
                at = index * MIB if self.random.random() < 0.5 else self.random.randrange(SIZE)
                if os.pread(file.fileno(), 70_000, at) != self.data[at : at + 70_000]:
                    self.failures.append(f"wrong bytes at {at}")
                self.reads += 1
                # Paced, so that the readers don't take the processors from the node that is to come back.
                if self.stop.wait(0.004):
                    return


@pytest.mark.parametrize(("victim", "evicting"), [("pid", True), ("keeper_pid", False)], ids=["node", "keeper"])
def test_twenty_kills_under_eight_readers(headrace: Headrace, bucket: Bucket, victim: str, evicting: bool) -> None:
    data = bucket.put("m/big", SIZE)
    path = headrace.mount(bucket.uri("m")) / "big"
    stop = threading.Event()
    readers = [Reader(path, data, seed, stop) for seed in range(8)]
    for reader in readers:
        reader.start()
    try:
        for kill in range(KILLS):
            pid = headrace.status()["node"][victim]
            if evicting and kill % 3 == 0:
                headrace.run("cache", "evict", "--all")
            os.kill(pid, signal.SIGKILL)
            wait_until("its successor", lambda dead=pid: headrace.status()["node"][victim] != dead)
    finally:
        stop.set()
        for reader in readers:
            reader.join(60)
    assert [f for r in readers for f in r.failures] == []
    assert all(not r.is_alive() and r.reads > 0 for r in readers)
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
