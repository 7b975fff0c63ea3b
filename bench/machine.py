"""The machine under the figures: what it is, its page cache, and what processes take from it.

Everything that is read here is read for a process, never for a disk or the whole machine, so that what neighbours do
isn't counted.
"""

from __future__ import annotations

import mmap
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
_CLAIMED_ENOUGH = 1.5e9  # bytes per second: faster than any host gives pages out for the first time


def drop_caches() -> None:
    """Empties the page cache of the machine. PermissionError for others than root."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def claim_memory(size: int, tries: int = 4) -> None:
    """Touches `size` bytes of free memory.

    A virtual machine with a balloon gives freed pages back to its host, which it then pays for at the first touch of each:
    a price of dropping the page cache, several times that of the copy measured. Pages that were touched a moment ago are
    taken first when memory is wanted. Repeated until the host no longer shows, `tries` times at most.
    """
    import time

    for _ in range(tries):
        began = time.monotonic()
        with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE):
            taken = time.monotonic() - began
        if size / taken > _CLAIMED_ENOUGH:
            return


@dataclass(frozen=True)
class Cpu:
    """CPU-seconds of a process, its threads included."""

    user: float
    system: float

    @property
    def total(self) -> float:
        return self.user + self.system

    def __sub__(self, earlier: Cpu) -> Cpu:
        return Cpu(self.user - earlier.user, self.system - earlier.system)


def cpu(*pids: int) -> Cpu:
    """Of processes, and of those of their children that have ended."""
    user = system = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        user += int(fields[11]) + int(fields[13])
        system += int(fields[12]) + int(fields[14])
    return Cpu(user / _CLOCK_TICKS, system / _CLOCK_TICKS)


def family(pid: int) -> list[int]:
    """A process and all that descend from it and live."""
    found = [pid]
    for each in found:
        for thread in _listed(f"/proc/{each}/task"):
            found += map(int, _contents(f"{thread}/children").split())
    return found


def memory(pid: int) -> int:
    """Anonymous and shared memory of a process in bytes; pages of mapped files, which the kernel may drop, are not in it."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return sum(int(fields[name].split()[0]) for name in ("RssAnon", "RssShmem")) << 10


def disk_bytes_read(pid: int) -> int:
    """Bytes that a process made the kernel read from a disk, since it began."""
    fields = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(fields["read_bytes"])


def allocated(directory: Path, pids: list[int]) -> int:
    """Bytes of disk that files below `directory` take, also those unlinked but still held by one of the processes."""
    seen: dict[int, int] = {}
    for folder, _, names in os.walk(directory):
        for name in names:
            _note(seen, os.path.join(folder, name))
    for pid in pids:
        for held in _listed(f"/proc/{pid}/fd"):
            link = _link(held)
            if link.startswith(f"{directory}/") and link.endswith(" (deleted)"):
                _note(seen, held)
    return sum(seen.values())


def _listed(folder: str) -> list[str]:
    try:
        return [os.path.join(folder, name) for name in os.listdir(folder)]
    except FileNotFoundError:  # the process has ended
        return []


def _contents(path: str) -> str:
    try:
        return Path(path).read_text()
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return ""


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except FileNotFoundError:  # closed meanwhile
        return ""


def _note(seen: dict[int, int], path: str) -> None:
    try:
        stat = os.stat(path)
    except FileNotFoundError:  # removed meanwhile
        return
    seen[stat.st_ino] = stat.st_blocks * 512


def describe(directory: Path) -> dict[str, Any]:
    """What a reader of the results needs to know of the machine."""
    from headrace import _engine

    return {
        "kernel": platform.release(),
        "cpu": _first("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "virtual": "hypervisor" in _first("/proc/cpuinfo", "flags").split(),
        "congestion_control": Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip(),
        "load_before": os.getloadavg(),
        "file_system": _file_system(directory),
        "versions": {
            "headrace": _engine.__version__,
            "python": platform.python_version(),
            "seaweedfs": _seaweed_version(),
            "commit": _commit(),
        },
    }


def _first(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _file_system(directory: Path) -> str:
    """Kind and options of the file system that a directory is on."""
    asked = ["findmnt", "--noheadings", "--output", "SOURCE,FSTYPE,OPTIONS", "--target", str(directory)]
    return " ".join(subprocess.run(asked, check=True, capture_output=True, text=True).stdout.split())


def _seaweed_version() -> str:
    from headrace.testing.seaweed import program

    return subprocess.run([program(), "version"], check=True, capture_output=True, text=True).stdout.strip()


def _commit() -> str:
    """The commit measured, with a mark where files differ from it; empty outside a checkout."""
    asked = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(asked, check=False, capture_output=True, text=True, cwd=Path(__file__).parent).stdout.strip()
