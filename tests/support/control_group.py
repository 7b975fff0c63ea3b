"""A control group with a memory limit, version 1 or 2: what a container is given."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.headrace import wait_until

_ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class MemoryGroup:
    """Programs in it share one limit, which counts their memory and the page cache of what they read and wrote."""

    directory: Path
    unified: bool

    @property
    def enter(self) -> list[str]:
        """A command line's first words: what follows runs in the group."""
        return ["sh", "-c", f'echo $$ > {self.directory}/cgroup.procs && exec "$@"', "sh"]

    def pages_missed(self) -> int:
        """Pages of files that were dropped because the limit was reached, and wanted again."""
        return self._figure("memory.stat", "workingset_refault_file")

    def killed(self) -> int:
        """Processes that were killed for want of memory."""
        return self._figure("memory.events" if self.unified else "memory.oom_control", "oom_kill")

    def _figure(self, file: str, name: str) -> int:
        return int(dict(line.split() for line in (self.directory / file).read_text().splitlines())[name])


@contextmanager
def memory_limit(limit: int) -> Iterator[MemoryGroup]:
    """A group of at most `limit` bytes, and no swap, until the end of the `with`; its programs must have ended by then."""
    unified = not (_ROOT / "memory").is_dir()
    top = _ROOT if unified else _ROOT / "memory"
    if unified:
        (top / "cgroup.subtree_control").write_text("+memory")
    group = MemoryGroup(top / f"headrace-{os.getpid()}-{uuid.uuid4().hex[:8]}", unified)
    group.directory.mkdir()
    try:
        (group.directory / ("memory.max" if unified else "memory.limit_in_bytes")).write_text(str(limit))
        swap = group.directory / ("memory.swap.max" if unified else "memory.memsw.limit_in_bytes")
        if swap.exists():
            swap.write_text("0" if unified else str(limit))
        yield group
    finally:
        wait_until("the end of the group's programs", lambda: not (group.directory / "cgroup.procs").read_text())
        group.directory.rmdir()
