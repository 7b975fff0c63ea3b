"""A cache far smaller than the data: right bytes, the limit kept, whatever is open or mapped meanwhile."""

from __future__ import annotations

import mmap
import os
import random
import threading
from pathlib import Path

import pytest

from support.bucket import Bucket
from support.headrace import Headrace

MIB = 1 << 20
LIMIT = 48 * MIB
# One batch of writes may be under way on each of the writer threads when the limit is looked at.
MARGIN = 4 * MIB


def allocated(headrace: Headrace, pid: int) -> int:
    """Bytes on the disk of cached files, those included that are unlinked but still held by the node."""
    seen = {}
    for path in (headrace.base / "cache").rglob("*"):
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue
        seen[status.st_dev, status.st_ino] = status.st_blocks * 512
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if str(headrace.base / "cache") in os.readlink(link):
                status = link.stat()
                seen[status.st_dev, status.st_ino] = status.st_blocks * 512
        except FileNotFoundError:
            continue
    return sum(seen.values())


class LimitWatch(threading.Thread):
    """Looks at the disk again and again; remembers the most it saw."""

    def __init__(self, headrace: Headrace) -> None:
        super().__init__()
        self.headrace, self.pid = headrace, headrace.node_pid()
        self.ended = threading.Event()
        self.most = 0

    def run(self) -> None:
        while not self.ended.wait(0.02):
            self.most = max(self.most, allocated(self.headrace, self.pid))

    def __enter__(self) -> LimitWatch:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.join()


@pytest.fixture
def small(headrace: Headrace) -> Headrace:
    headrace.environment.update(HEADRACE_CACHE_SIZE=str(LIMIT), HEADRACE_MEMORY="32Mi")
    return headrace


def test_many_files_with_some_open_and_mapped(small: Headrace, bucket: Bucket) -> None:
    for index in range(12):
        bucket.put(f"m/{index:02}", 12 * MIB + index)
    directory = small.mount(bucket.uri("m"))
    first = (directory / "00").read_bytes()
    assert first == bucket.objects["m/00"]
    small.wait_durable(1)
    with (directory / "00").open("rb") as complete, (directory / "01").open("rb") as started, LimitWatch(small) as watch:
        view = mmap.mmap(complete.fileno(), 0, prot=mmap.PROT_READ)
        assert started.read(MIB) == bucket.objects["m/01"][:MIB]
        for _ in range(2):
            for key, data in bucket.objects.items():
                assert (directory / key.removeprefix("m/")).read_bytes() == data, key
        # Whoever holds a file keeps valid bytes: of the mapping at once, of the started one by fetching.
        assert view[:] == first
        assert started.read() == bucket.objects["m/01"][MIB:]
        view.close()
    assert watch.most <= LIMIT + MARGIN
    assert small.counters()["cache_evicted_bytes_total"] > 0


@pytest.mark.parametrize("way", ["sequential", "random", "mapped"])
def test_a_file_larger_than_the_cache(small: Headrace, bucket: Bucket, way: str) -> None:
    size = 3 * LIMIT + 4097
    data = bucket.put("m/large", size)
    path = small.mount(bucket.uri("m")) / "large"
    places = list(range(0, size, MIB))
    if way != "sequential":
        random.Random(way).shuffle(places)
    with path.open("rb") as file, LimitWatch(small) as watch:
        view = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) if way == "mapped" else None
        for at in places:
            got = os.pread(file.fileno(), MIB, at) if view is None else view[at : at + MIB]
            assert got == data[at : at + MIB], f"wrong bytes at {at}"
        if view is not None:
            view.close()
    assert watch.most <= LIMIT + MARGIN
