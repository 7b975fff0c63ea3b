"""Where processes of a run live: in which network namespace, on which processors, as which user.

A command is given a seat by a prefix. `nsenter --net` enters the network namespace alone; `ip netns exec` would also make
a namespace of mounts, and nobody outside would see what is mounted there.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from headrace.testing.access import Access

NOBODY = 65534


@dataclass(frozen=True)
class Seat:
    """The default is where the bench itself lives."""

    namespace: str = ""
    cores: str = ""  # as taskset has them
    user: int = 0

    def command(self, arguments: Sequence[str]) -> list[str]:
        prefix: list[str] = []
        if self.namespace:
            prefix += ["nsenter", f"--net=/run/netns/{self.namespace}", "--"]
        if self.cores:
            prefix += ["taskset", "--cpu-list", self.cores]
        if self.user:
            prefix += self._as_user()
        return [*prefix, *arguments]

    def _as_user(self) -> list[str]:
        """A user of its own, who may find the way to this repository wherever it lies, and nothing else."""
        capability = "-all,+dac_read_search"
        ids = [f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups"]
        return ["setpriv", *ids, f"--inh-caps={capability}", f"--ambient-caps={capability}", "--"]


HERE = Seat()


def pin(pid: int, cores: set[int]) -> None:
    """Moves every thread of a process to these processors, and with them the threads that they will make."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(ProcessLookupError):  # it has ended meanwhile
            os.sched_setaffinity(int(thread.name), cores)


@dataclass(frozen=True)
class Route:
    """How a client reaches a server, and where it lives."""

    access: Access
    seat: Seat = HERE
    server: Access | None = None  # the server itself, where a link or a delay is before it

    @property
    def near(self) -> Route:
        """To the same server without link, delay and pinning."""
        return Route(self.server or self.access)
