"""The cache's room, shared out among accelerations, and what fits into a share."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from headrace._engine import Engine
from headrace.node.space import room

# Records, digests and the file system's own: not all of a cache's limit is for bytes.
_SHARE_FOR_BYTES = 31 / 32


@dataclass(frozen=True)
class Plan:
    """What of a version is to be held. No paths stand for everything."""

    paths: Sequence[str]
    pulled: Sequence[str] | None  # what fits; None is all of `paths`
    bytes: int


@dataclass
class Room:
    """The cache's room, shared out: what one acceleration plans to hold another one can't."""

    engine: Engine
    reserve_bytes: int
    lock: threading.Lock = field(default_factory=threading.Lock)
    planned: dict[str, int] = field(default_factory=dict)

    def unused(self) -> int:
        """Bytes that can be kept without displacing any."""
        directories = self.engine.cache_usage()["directories"]
        return sum(max(0, room(directory, self.reserve_bytes) - directory["allocated_bytes"]) for directory in directories)

    def left(self, identifier: str) -> int:
        """Bytes for one acceleration; to be called with the lock."""
        directories = self.engine.cache_usage()["directories"]
        whole = sum(max(0, room(directory, self.reserve_bytes)) for directory in directories)
        return max(0, int(whole * _SHARE_FOR_BYTES) - sum(planned for other, planned in self.planned.items() if other != identifier))


def fitting(sizes: Sequence[tuple[str, int]], paths: Sequence[str], bytes_left: int) -> Plan:
    """As many whole files of those with these sizes as fit, in their order: the same ones each time, so that another try goes on with them."""
    pulled, total = [], 0
    for path, size in sizes:
        if total + size <= bytes_left:
            pulled.append(path)
            total += size
    return Plan(paths, pulled, total)
