"""A node killed with 100,000 cached files (1 TB in sparse files): how soon its mount answers again.

Each file has one chunk in the cache, brought through the mount. Names and attributes are dropped from the kernel, the
node is killed, and what is timed is opening a file and reading its chunk: the successor has to resume the mount, look
the name up, and trust what it finds. Nothing may come from the origin. What the new node read from the disk is told,
too: records of what is present, never the data itself.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench import machine
from bench.measure import Figure, at_most
from bench.objects import GIB, MIB
from bench.place import Place
from bench.seats import Route
from bench.systems.headrace import Headrace
from headrace.testing.content import content
from headrace.testing.origin import failing_origin
from headrace.testing.store import Body

TITLE = "restart with 100,000 cached files"
FILES = 100_000
SIZE = 10 * MIB
AT = 5 * MIB  # in the middle, where nothing is read ahead
CHUNK = 16 << 10
SEED = 5
READERS = 16
_LIBC = ctypes.CDLL(None, use_errno=True)


def run(place: Place) -> list[Figure]:
    files = place.plan.count(FILES)
    names = [f"{number // 1000:03}/{number:06}.bin" for number in range(files)]
    with failing_origin("bench") as origin, place.headrace(cache_size=2048 * GIB, route=Route(origin.access)) as system:
        for name in names:
            origin.bucket("bench").put(f"m/{name}", Body(SIZE, seed=SEED), etag='"0123456789abcdef0123456789abcdef"')
        directory = system.mount("s3://bench/m")
        with ThreadPoolExecutor(READERS) as readers:
            for _ in readers.map(lambda name: _read(directory / name), names):
                pass
        requests = origin.counters.requests["range"]
        order = random.Random(place.seed)
        data = order.sample(sorted(system.cache.rglob("*.data")), 1000)
        rounds = [_killed(system, directory, order.choice(names), data) for _ in range(place.plan.repeats.short)]
        again = origin.counters.requests["range"] - requests
    return [
        Figure("killed → a cached chunk is read through the mount", "s", tuple(r[0] for r in rounds), at_most(2.0)),
        Figure("requests to the origin after the kills", "", (float(again),), at_most(0.0)),
        Figure("data files of a thousand looked at that the new node has read", "", tuple(r[2] for r in rounds), at_most(0.0), worst=True),
        Figure("read from the disk by the new node: programs, and what is present (counted in the background)", "MiB", tuple(r[1] for r in rounds)),
        Figure("cached", "GB", (files * SIZE / 1e9,)),
    ]


def _read(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        if os.pread(file.fileno(), CHUNK, AT) != content(SEED, AT, CHUNK):
            raise RuntimeError(f"wrong bytes in {path}")


def _killed(system: Headrace, directory: Path, name: str, data: list[Path]) -> tuple[float, float, float]:
    """Seconds until the mount gives a cached chunk, MiB that the new node has read a moment later, data files among them."""
    pid = system.pid()
    machine.drop_caches()
    before = {path for path in data if _in_memory(path)}  # not written out yet
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    _read(directory / name)
    took = time.monotonic() - began
    read = sum(path not in before and _in_memory(path) for path in data)
    # The file that was asked for may be among them.
    return took, _read_bytes(system.pid()), float(max(0, read - 1))


def _in_memory(path: Path) -> bool:
    """Whether a page of the chunk lies in the page cache; asking (mincore(2)) reads nothing."""
    pages = (ctypes.c_ubyte * (CHUNK // mmap.PAGESIZE))()
    with path.open("rb") as file, mmap.mmap(file.fileno(), CHUNK, access=mmap.ACCESS_COPY, offset=AT) as view:
        place = ctypes.c_char.from_buffer(view)
        failed = _LIBC.mincore(ctypes.c_void_p(ctypes.addressof(place)), ctypes.c_size_t(CHUNK), pages)
        del place  # or the mapping could not be closed
    if failed:
        raise OSError(ctypes.get_errno(), f"mincore of {path}")
    return any(page & 1 for page in pages)


def _read_bytes(pid: int) -> float:
    fields = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(fields["read_bytes"]) / MIB
