"""Every way in which bytes reach a program, compared with a plain ranged GET of the same range."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

import headrace as door
from campaign.model import ways
from support.bucket import Bucket
from support.headrace import Headrace, wait_until

KIB, MIB = 1 << 10, 1 << 20
SIZES = sorted({size for border in (4 * KIB, 16 * KIB, 64 * KIB, MIB, 2 * MIB, 4 * MIB) for size in (border - 1, border, border + 1)} | {1})
WAYS: dict[str, Callable[[int, int, int], bytes]] = {"pread": ways.pread, "sendfile": ways.send, "mapped": ways.mapped, "direct": ways.direct}


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

    def compare(self, root: Path, way: str) -> None:
        for key, offset, length in self.ranges:
            descriptor = os.open(root / key.removeprefix("m/"), os.O_RDONLY | (os.O_DIRECT if way == "direct" else 0))
            try:
                assert WAYS[way](descriptor, offset, length) == self.answers[key, offset, length], f"{key}: {length} bytes from {offset}, {way}"
            finally:
                os.close(descriptor)


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
    plain.compare(root, way)  # answered by the node, from the network
    plain.compare(root, way)  # ... and from the cache
    headrace.run("warm", str(root))
    headrace.wait_durable(len(SIZES))
    plain.compare(root, way)  # read by the kernel, from one megabyte on
    assert headrace.status()["mounts"][0]["passthrough"]


def test_requests_that_a_successor_answers(headrace: Headrace, plain: Plain) -> None:
    """Each read is on its way when the node is killed."""
    root = headrace.mount(plain.bucket.uri("m"))
    chance = random.Random(1)
    for key, offset, length in chance.sample(plain.ranges, 8):
        headrace.run("cache", "evict", "--all")
        node = headrace.node_pid()
        os.kill(node, signal.SIGSTOP)
        child = os.fork()
        if child == 0:
            descriptor = os.open(root / key.removeprefix("m/"), os.O_RDONLY)
            right = ways.pread(descriptor, offset, length) == plain.answers[key, offset, length]
            os._exit(0 if right else 1)
        wait_until("the reader waits", lambda pid=child: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "SD")
        os.kill(node, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == 0, f"{key}: {length} bytes from {offset}"


def test_descriptors_handed_over(headrace: Headrace, plain: Plain, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in headrace.environment.items():
        if name.startswith(("AWS_", "HEADRACE_")):
            monkeypatch.setenv(name, value)
    with door.Volume(plain.bucket.uri("m")) as volume:
        for _ in ("over the socket", "through the cache file's descriptor"):
            for key, offset, length in plain.ranges:
                with volume.open(key.removeprefix("m/"), buffering=0) as file:
                    file.seek(offset)
                    assert file.read(length) == plain.answers[key, offset, length], f"{key}: {length} bytes from {offset}"
            volume.warm()
        for key in plain.sizes:
            assert bytes(volume.map(key.removeprefix("m/"))) == plain.bucket.objects[key]
