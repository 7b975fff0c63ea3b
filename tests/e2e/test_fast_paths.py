"""Every way in which bytes reach a program, compared with a plain ranged GET of the same range."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from itertools import zip_longest
from pathlib import Path

import pytest

import headrace as door
from campaign.model import ways
from headrace.testing.origin import Origin, failing_origin
from support.bucket import Bucket
from support.headrace import Headrace, beside, wait_until
from support.threads import waits_for_bytes

KIB, MIB = 1 << 10, 1 << 20
SIZES = sorted({size for border in (4 * KIB, 16 * KIB, 64 * KIB, MIB, 2 * MIB, 4 * MIB) for size in (border - 1, border, border + 1)} | {1})
WAYS: dict[str, Callable[[int, int, int], bytes]] = {"pread": ways.pread, "sendfile": ways.send, "mapped": ways.mapped, "direct": ways.direct}
# The same, where they may leave a process of their own waiting.
ALONE = WAYS | {"mapped": ways.touch}


class Plain:
    """What the server answers to ranged GETs."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.sizes = {f"m/{size}": size for size in SIZES}
        for key, size in self.sizes.items():
            bucket.put(key, size)
        self.ranges = [(key, at, length) for key, size in self.sizes.items() for at, length in _ranges(size)]
        self.answers = {part: self._get(*part) for part in self.ranges}

    def _get(self, key: str, offset: int, length: int) -> bytes:
        answer = self.bucket.client.get_object(Bucket=self.bucket.name, Key=key, Range=f"bytes={offset}-{offset + length - 1}")
        return bytes(answer["Body"].read())

    def of(self, large: bool) -> list[tuple[str, int, int]]:
        """Ranges of files that the kernel may read itself once they are complete, or of the others."""
        return [part for part in self.ranges if (self.sizes[part[0]] >= MIB) == large]

    def in_turn(self) -> list[tuple[str, int, int]]:
        """All ranges, no two of one file one after the other: what the kernel reads ahead has come, and can be forgotten."""
        files = [[part for part in self.ranges if part[0] == key] for key in self.sizes]
        return [part for row in zip_longest(*files) for part in row if part]

    def compare(self, root: Path, way: str, ranges: list[tuple[str, int, int]], forgetting: bool = False) -> None:
        """Reads each range through a descriptor of its own; `forgetting`, without what the kernel keeps of the file."""
        for key, offset, length in ranges:
            descriptor = os.open(root / key.removeprefix("m/"), os.O_RDONLY | (os.O_DIRECT if way == "direct" else 0))
            try:
                if forgetting:
                    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                assert WAYS[way](descriptor, offset, length) == self.answers[key, offset, length], f"{key}: {length} bytes from {offset}, {way}"
            finally:
                os.close(descriptor)


class Passing:
    """What passes through the node while something is read."""

    def __init__(self, headrace: Headrace) -> None:
        self._headrace = headrace
        self._before = headrace.counters()

    def __getitem__(self, name: str) -> float:
        return self._headrace.counters()[name] - self._before[name]

    @property
    def opens(self) -> tuple[int, int]:
        """Files opened, and of these, files that the kernel reads itself."""
        return int(self["mount_opens_total"]), int(self["mount_opens_passthrough_total"])


def _ranges(size: int) -> list[tuple[int, int]]:
    """The start, the end, around each border of a megabyte, and some places by chance."""
    chance = random.Random(size)
    places = [0, size - 1, size // 2, *(chance.randrange(size) for _ in range(2)), *(border - 1 for border in range(MIB, size, MIB))]
    return [(place, min(chance.choice([1, 4097, 100_000]), size - place)) for place in places]


@pytest.fixture
def plain(bucket: Bucket) -> Plain:
    return Plain(bucket)


@pytest.mark.parametrize("way", sorted(WAYS))
def test_cold_then_complete(headrace: Headrace, plain: Plain, way: str) -> None:
    root = headrace.mount(plain.bucket.uri("m"))
    cold = Passing(headrace)
    plain.compare(root, way, plain.ranges)  # answered by the node, from memory: the bytes are on their way from the network
    assert cold["mount_reads_total"] >= len(SIZES)
    assert cold["cache_miss_bytes_total"] > 0
    headrace.run("warm", str(root))
    headrace.wait_durable(len(SIZES))
    large = Passing(headrace)
    plain.compare(root, way, plain.of(large=True), forgetting=True)  # read by the kernel itself
    opened = len(plain.of(large=True))
    assert large.opens == (opened, opened if headrace.passthrough else 0)
    assert (large["mount_reads_total"] == 0) == headrace.passthrough
    small = Passing(headrace)
    plain.compare(root, way, plain.of(large=False), forgetting=True)
    assert small.opens == (len(plain.of(large=False)), 0)
    assert large["origin_body_bytes_total"] == 0


@pytest.mark.parametrize("way", sorted(WAYS))
def test_answered_by_the_node_from_the_cache(headrace: Headrace, plain: Plain, way: str) -> None:
    """Nothing but the cache file can be where the bytes come from: neither the kernel, nor a buffer, nor the network."""
    headrace.mask("passthrough")
    root = headrace.mount(plain.bucket.uri("m"))
    headrace.run("warm", str(root))
    headrace.wait_durable(len(SIZES))
    wait_until("no buffer holds what was fetched", lambda: headrace.counters()["buffer_used_bytes"] == 0)
    passing = Passing(headrace)
    plain.compare(root, way, plain.in_turn(), forgetting=True)
    assert passing["mount_reads_total"] >= len(plain.ranges)
    assert passing["cache_hit_bytes_total"] >= sum(length for _, _, length in plain.ranges)
    assert passing.opens == (len(plain.ranges), 0)
    assert (passing["cache_miss_bytes_total"], passing["origin_body_bytes_total"]) == (0, 0)


@pytest.fixture
def origin() -> Iterator[Origin]:
    with failing_origin() as running:
        yield running


@pytest.mark.parametrize("taken", [True, False], ids=["taken by the node", "not yet taken"])
@pytest.mark.parametrize("way", sorted(ALONE))
def test_reads_that_a_successor_answers(tmp_path: Path, origin: Origin, way: str, taken: bool) -> None:
    """Each READ has no answer when the node is killed: the bucket holds the bytes back, or the node stands still before the read begins."""
    plain = Plain(Bucket.create(origin.access, "successors"))
    with beside(tmp_path, origin) as headrace:
        root = headrace.mount(plain.bucket.uri("m"))
        chance = random.Random(way)
        for each in chance.sample(sorted(plain.sizes), 3):
            # Nothing of this file has been read before, so the kernel has none of it.
            key, offset, length = chance.choice([part for part in plain.ranges if part[0] == each])
            headrace.run("cache", "evict", "--all")
            node = headrace.node_pid()
            with ExitStack() as held, ExitStack() as open_:
                descriptor = os.open(root / key.removeprefix("m/"), os.O_RDONLY | (os.O_DIRECT if way == "direct" else 0))
                open_.callback(os.close, descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                if taken:
                    held.enter_context(origin.holding())
                else:
                    os.kill(node, signal.SIGSTOP)
                    # Whatever happens: closing a file waits for a node that stands still.
                    open_.callback(_end, node)
                reader = open_.enter_context(ways.Apart(partial(ALONE[way], descriptor, offset, length), descriptor))
                if taken:
                    wait_until("the node has taken it", lambda: headrace.counters()["reads_waiting"] > 0)
                wait_until("the read waits in the kernel", lambda pid=reader.pid: waits_for_bytes(pid))
                os.kill(node, signal.SIGKILL)
                held.close()
                assert reader.result() == plain.answers[key, offset, length], f"{key}: {length} bytes from {offset}"


def _end(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def test_descriptors_handed_over(headrace: Headrace, plain: Plain, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in headrace.environment.items():
        if name.startswith(("AWS_", "HEADRACE_")):
            monkeypatch.setenv(name, value)
    with door.Volume(plain.bucket.uri("m")) as volume:
        for complete in (False, True):
            passing = Passing(headrace)
            for key, offset, length in plain.ranges:
                with volume.open(key.removeprefix("m/"), buffering=0) as file:
                    file.seek(offset)
                    assert file.read(length) == plain.answers[key, offset, length], f"{key}: {length} bytes from {offset}"
            # Complete files are read through the cache file's own descriptor, the others over the socket.
            if complete:
                assert (passing["cache_doors_opened_total"], passing["reads_total"]) == (len(plain.ranges), 0)
            else:
                assert passing["reads_total"] > 0
            volume.warm()
        for key in plain.sizes:
            assert bytes(volume.map(key.removeprefix("m/"))) == plain.bucket.objects[key]
