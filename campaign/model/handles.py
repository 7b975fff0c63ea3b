"""What programs hold open of a mount, and how they read it."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from campaign.model import ways
from campaign.model.truth import Object

# Ways to read what is open, and the calls behind them: through a descriptor, and through one with O_DIRECT. A way of
# `TOUCHING` is only gone by a process of its own.
WAYS: dict[str, Callable[[int, int, int], bytes]] = {"pread": ways.pread, "sendfile": ways.send, "mapped": ways.touch}
DIRECT_WAYS = {"direct pread": ways.direct, "sendfile": ways.send_direct, "mapped": ways.touch}
HELD = "held mapping"
TOUCHING = ("mapped", HELD)
KINDS = ["plain", "mapped", "direct"]  # of what programs hold open


@dataclass
class Mounted:
    directory: Path
    snapshot: str


@dataclass
class Handle:
    """A descriptor, or one and a mapping of it, and the version both must show for as long as they are held."""

    mount: Mounted
    descriptor: int
    name: str
    version: Object
    direct: bool
    view: mmap.mmap | None = None

    @property
    def ways(self) -> list[str]:
        """How it can be read."""
        return [*(DIRECT_WAYS if self.direct else WAYS), *([HELD] if self.view else [])]

    def call(self, way: str, offset: int, length: int) -> Callable[[], bytes]:
        """A read, for whoever may be killed by it."""
        if way == HELD and self.view is not None:
            return partial(ways.look, self.view, offset, length)
        return partial((DIRECT_WAYS if self.direct else WAYS)[way], self.descriptor, offset, length)

    def read(self, way: str, offset: int, length: int) -> bytes:
        call = self.call(way, offset, length)
        return ways.apart(call, self.descriptor) if way in TOUCHING else call()

    def forget(self) -> None:
        """Has the kernel give up what it keeps of the file, so that it must ask for it again."""
        os.posix_fadvise(self.descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        if self.view is not None:
            self.view.close()
        os.close(self.descriptor)


@dataclass(frozen=True)
class Read:
    """What a program reads: of which open file, from where, how much, by which of its ways."""

    index: int
    place: float
    length: int
    way: int

    def of(self, handle: Handle) -> tuple[str, int, int]:
        """Way, offset and length."""
        return handle.ways[self.way % len(handle.ways)], int(self.place * handle.version.size), self.length


def opened(mount: Mounted, name: str, version: Object, kind: str) -> Handle:
    """Opens a file. `version` is what it must show; an empty file can't be mapped."""
    descriptor = os.open(mount.directory / name, os.O_RDONLY | (os.O_DIRECT if kind == "direct" else 0))
    view = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ) if kind == "mapped" and version.size else None
    return Handle(mount, descriptor, name, version, kind == "direct", view)
