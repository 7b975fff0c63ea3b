"""Thousands of opens, closes, mappings, refreshes and mounts leave no descriptor, thread or memory behind."""

from __future__ import annotations

import json
import mmap
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from headrace import settings as configuration
from headrace.cli.mounting import MountRequest
from headrace.node.client import connect
from headrace.node.resolver import captured
from support.bucket import Bucket
from support.headrace import Headrace, wait_until

MIB = 1 << 20
ROUNDS = 100  # each with a refresh, a mount and its end, and opens
OPENS = 60  # a round
# What the second half of the rounds may add to a process: far less than a thread's stack a round, and more than an allocator's mood.
GROWTH_MIB = 6


@dataclass(frozen=True)
class Taken:
    """What a process holds."""

    descriptors: int
    threads: int
    anonymous_mib: float

    @classmethod
    def by(cls, pid: int) -> Taken:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        return cls(len(links(pid)), int(status["Threads"]), int(status["RssAnon"].split()[0]) / 1024)

    @classmethod
    def at_rest(cls, pids: tuple[int, ...]) -> list[Self]:
        """What processes hold once no cached file is being written, synced or read any more."""
        wait_until("no work with cached files", lambda: not any(link.endswith(".data") for pid in pids for link in links(pid)))
        return [cls.by(pid) for pid in pids]


def links(pid: int) -> list[str]:
    """What the descriptors of a process lead to."""
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found.append(os.readlink(descriptor))
    return found


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


class Asking:
    """Commands without their processes: each is a connection of its own, as a command's is, and takes milliseconds."""

    def __init__(self, headrace: Headrace) -> None:
        self._environment = captured(headrace.environment)
        self._settings = configuration.load(environ=headrace.environment)
        # Told, so that nobody builds a client to find it out.
        self._origin = {"endpoint": headrace.environment["AWS_ENDPOINT_URL"], "region": "us-east-1"}

    def call(self, method: str, **params: Any) -> Any:
        client = connect(self._settings)
        assert client is not None
        with client:
            return client.call(method, **params)

    def mount(self, source: str, directory: Path) -> None:
        client = connect(self._settings)
        assert client is not None
        with client:
            MountRequest(source, str(directory), origin=self._origin, environment=self._environment).ask(client)


def test_nothing_leaks(headrace: Headrace, bucket: Bucket) -> None:
    names = [f"d{index % 3}/{index}" for index in range(30)]
    for index, name in enumerate(names):
        bucket.put(f"m/{name}", MIB + 4096 if index % 2 else 50_000)
    # How many connections are kept for a while is a matter of luck: of one there is one.
    headrace.environment["HEADRACE_CONNECTIONS"] = "1"
    directory = headrace.mount(bucket.uri("m"))
    other = headrace.base / "other"
    asking = Asking(headrace)

    def everything(rounds: int) -> None:
        for number in range(rounds):
            use(directory, names, OPENS)
            bucket.put("m/changing", os.urandom(5000))
            assert asking.call("refresh", directory=str(directory))["switched"]
            if number % 10 == 0:
                asking.call("cache.evict", paths=[str(directory / names[1])])
            asking.mount(bucket.uri("m"), other)
            assert (other / names[0]).stat().st_size > 0
            asking.call("umount", directory=str(other))

    everything(10)
    status = json.loads(headrace.run("status", "--json").stdout)["node"]
    pids = (status["pid"], status["keeper_pid"])
    before = Taken.at_rest(pids)
    everything(ROUNDS // 2)
    middle = Taken.at_rest(pids)
    everything(ROUNDS // 2)

    after = Taken.at_rest(pids)
    assert [(each.descriptors, each.threads) for each in after] == [(each.descriptors, each.threads) for each in before]
    for now, then in zip(after, middle, strict=True):
        assert now.anonymous_mib <= then.anonymous_mib + GROWTH_MIB, (now, then)
