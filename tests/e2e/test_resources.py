"""Thousands of opens, closes, mappings, refreshes and mounts leave no descriptor, thread or memory behind."""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from pathlib import Path

from support.bucket import Bucket
from support.headrace import Headrace, wait_until

MIB = 1 << 20


@dataclass(frozen=True)
class Taken:
    """What a process holds."""

    descriptors: int
    threads: int
    anonymous_mib: float

    @classmethod
    def by(cls, pid: int) -> Taken:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        return cls(len(os.listdir(f"/proc/{pid}/fd")), int(status["Threads"]), int(status["RssAnon"].split()[0]) / 1024)


def use(directory: Path, names: list[str], rounds: int) -> None:
    for number in range(rounds):
        path = directory / names[number % len(names)]
        with path.open("rb", buffering=0) as file:
            if number % 3 == 0:
                with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
                    assert len(view[-100:]) == 100
            else:
                assert len(os.pread(file.fileno(), 4096, 0)) == 4096
        if number % 10 == 0:
            os.listdir(path.parent)


def test_nothing_leaks(headrace: Headrace, bucket: Bucket) -> None:
    names = [f"d{index % 3}/{index}" for index in range(30)]
    for index, name in enumerate(names):
        bucket.put(f"m/{name}", MIB + 4096 if index % 2 else 50_000)
    directory = headrace.mount(bucket.uri("m"))
    other = headrace.base / "other"

    def everything(rounds: int) -> None:
        use(directory, names, rounds)
        for _ in range(3):
            bucket.put("m/changing", os.urandom(5000))
            headrace.run("refresh", str(directory))
            headrace.run("cache", "evict", str(directory / names[1]))
            headrace.mount(bucket.uri("m"), "other")
            assert (other / names[0]).stat().st_size > 0
            headrace.run("umount", str(other))

    everything(300)
    status = headrace.status()["node"]
    pids = (status["pid"], status["keeper_pid"])
    before = [Taken.by(pid) for pid in pids]
    everything(6000)

    def settled() -> bool:
        after = [Taken.by(pid) for pid in pids]
        return all(a.descriptors <= b.descriptors + 4 and a.threads <= b.threads + 2 for a, b in zip(after, before, strict=True))

    wait_until(f"no more descriptors and threads than {before}", settled)
    for now, then in zip((Taken.by(pid) for pid in pids), before, strict=True):
        assert now.anonymous_mib <= then.anonymous_mib + 24, (now, then)
