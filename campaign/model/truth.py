"""What is right: buckets, snapshots and what may be read of them. No engine, no cache, no time."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from headrace.testing.content import content


@dataclass(frozen=True)
class Object:
    """One version of an object: no two have the same number, and so none the same bytes."""

    number: int
    size: int

    @property
    def data(self) -> bytes:
        return _data(self.number, self.size)


@lru_cache(64)
def _data(number: int, size: int) -> bytes:
    return content(number, 0, size)


Snapshot = dict[str, Object]
"""Paths and the version each had when the bucket was listed."""


@dataclass
class Truth:
    """A bucket without versions, and the snapshots that were taken of it."""

    bucket: Snapshot = field(default_factory=dict)
    snapshots: dict[str, Snapshot] = field(default_factory=dict)

    def listed(self, snapshot: str) -> None:
        """The bucket was listed. A snapshot that is already known must be what the bucket holds."""
        assert self.snapshots.setdefault(snapshot, dict(self.bucket)) == self.bucket, f"snapshot {snapshot} is not what is in the bucket"

    def stale(self, name: str, version: Object) -> bool:
        """True when the bucket no longer has this version: it can be read from where it is held, or not at all."""
        return self.bucket.get(name) != version

    def whole(self, snapshot: str) -> bool:
        """True when the bucket still has every version of a snapshot."""
        return not any(self.stale(name, version) for name, version in self.snapshots[snapshot].items())


def directories(snapshot: Snapshot) -> set[str]:
    """Every directory that the paths of a snapshot make."""
    return {path[:at] for path in snapshot for at in range(len(path)) if path[at] == "/"}
