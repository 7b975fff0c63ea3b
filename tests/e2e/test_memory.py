"""A container with little memory: its limit counts the node, its readers, and the page cache of every byte they touch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.testing.content import content
from headrace.testing.origin import failing_origin
from support.control_group import MemoryGroup, memory_limit
from support.headrace import Headrace

MIB = 1 << 20
BUDGET = 64 * MIB
LIMIT = BUDGET + 512 * MIB
FILES = 8
SIZE = 96 * MIB + 4097  # of each: together more than the limit
COMPARING, MAPPING = 48, 16

# Maps a file and its reference, and compares them a piece at a time, in as many threads as asked for.
MAPPED = """
import mmap, sys
from concurrent.futures import ThreadPoolExecutor

def same(paths, start):
    with open(paths[0], "rb") as one, open(paths[1], "rb") as other:
        with mmap.mmap(one.fileno(), 0, prot=mmap.PROT_READ) as a, mmap.mmap(other.fileno(), 0, prot=mmap.PROT_READ) as b:
            pieces = list(range(0, len(b), 1 << 18))
            return len(a) == len(b) and all(a[at : at + (1 << 18)] == b[at : at + (1 << 18)] for at in pieces[start:] + pieces[:start])

mount, reference, threads, files = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
with ThreadPoolExecutor(threads) as pool:
    work = [pool.submit(same, [f"{where}/f{n % files}" for where in (mount, reference)], 37 * n) for n in range(threads)]
    sys.exit(not all(each.result() for each in work))
"""


@pytest.fixture
def group() -> Iterator[MemoryGroup]:
    with memory_limit(LIMIT) as made:
        yield made


def reading(group: MemoryGroup, mount: Path, reference: Path) -> list[subprocess.Popen[bytes]]:
    """64 readers, all in the group: programs that read, and a program whose threads map."""
    commands = [["cmp", "--", str(mount / f"f{n % FILES}"), str(reference / f"f{n % FILES}")] for n in range(COMPARING)]
    commands.append([sys.executable, "-c", MAPPED, str(mount), str(reference), str(MAPPING), str(FILES)])
    return [subprocess.Popen([*group.enter, *command]) for command in commands]


def test_64_readers_within_the_budget_and_512_mib(tmp_path: Path, group: MemoryGroup) -> None:
    reference = tmp_path / "reference"
    reference.mkdir()
    with failing_origin("models") as origin:
        for number in range(FILES):
            (reference / f"f{number}").write_bytes(content(number, 0, SIZE))
        origin.bucket("models").put_tree(reference, "m/")
        headrace = Headrace(tmp_path, origin.access.environment())
        headrace.environment["HEADRACE_MEMORY"] = str(BUDGET)
        headrace.prefix = group.enter
        try:
            mount = headrace.mount("s3://models/m")
            node = headrace.node_pid()
            for _ in ("cold", "warm"):
                assert [reader.wait(120) for reader in reading(group, mount, reference)] == [0] * (COMPARING + 1)
            status = headrace.status()
        finally:
            headrace.stop()
    assert group.killed() == 0
    assert status["node"]["pid"] == node
    assert group.pages_missed() > 0, "the limit was never felt: this proves nothing"
    assert status["counters"]["buffer_peak_bytes"] <= BUDGET
