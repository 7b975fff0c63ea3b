"""From incomplete to complete while descriptors and mappings are open: every way of reading gives the same bytes."""

from __future__ import annotations

import mmap
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from support.bucket import Bucket
from support.headrace import Headrace

MIB = 1 << 20
SIZE = 9 * MIB + 4097


def _pread(path: Path, _: Path) -> bytes:
    with path.open("rb") as file:
        return b"".join(os.pread(file.fileno(), 100_003, at) for at in range(0, SIZE, 100_003))


def _mapped(path: Path, _: Path) -> bytes:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
        return view[:]


def _sendfile(path: Path, _: Path) -> bytes:
    ours, theirs = socket.socketpair()
    got = bytearray()
    with path.open("rb") as file, ours, theirs:
        at = 0
        while at < SIZE:
            sent = os.sendfile(ours.fileno(), file.fileno(), at, 65536)
            at += sent
            while sent:
                part = theirs.recv(sent)
                sent -= len(part)
                got += part
    return bytes(got)


def _splice(path: Path, _: Path) -> bytes:
    read, write = os.pipe()
    got = bytearray()
    with path.open("rb") as file:
        while count := os.splice(file.fileno(), write, 65536):
            got += os.read(read, count)
    os.close(read)
    os.close(write)
    return bytes(got)


def _copied(path: Path, scratch: Path) -> bytes:
    copy = scratch / "copy"
    shutil.copyfile(path, copy)
    return copy.read_bytes()


def _cp(path: Path, scratch: Path) -> bytes:
    subprocess.run(["cp", "--", str(path), str(scratch / "cp")], check=True)
    return (scratch / "cp").read_bytes()


def _direct(path: Path, scratch: Path) -> bytes:
    subprocess.run(["dd", f"if={path}", f"of={scratch / 'direct'}", "bs=1M", "iflag=direct", "status=none"], check=True)
    return (scratch / "direct").read_bytes()


WAYS: list[Callable[[Path, Path], bytes]] = [_pread, _mapped, _sendfile, _splice, _copied, _cp, _direct]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__.strip("_"))
def test_every_way_of_reading_cold_and_complete(headrace: Headrace, bucket: Bucket, way: Callable[[Path, Path], bytes]) -> None:
    data = bucket.put("m/a", SIZE)
    path = headrace.mount(bucket.uri("m")) / "a"
    assert way(path, headrace.base) == data
    headrace.wait_durable(1)
    assert way(path, headrace.base) == data
    assert headrace.counters()["origin_body_bytes_total"] == SIZE


def test_an_incomplete_large_file_is_read_past_the_page_cache(headrace: Headrace, bucket: Bucket) -> None:
    """Where the kernel can change over to the cache file later: no page may be left that it would have to agree with."""
    bucket.put("m/large", SIZE)
    bucket.put("m/small", MIB - 1)
    directory = headrace.mount(bucket.uri("m"))
    for name, expected in (("large", 5 if headrace.passthrough else 1), ("small", 1)):
        with (directory / name).open("rb", buffering=0) as file:
            before = headrace.counters()["mount_reads_total"]
            for _ in range(5):
                assert len(os.pread(file.fileno(), 4096, 0)) == 4096
            asked = headrace.counters()["mount_reads_total"] - before
        # Of pages the kernel may want more, ahead of the reader.
        assert asked == 5 if expected == 5 else asked < 5, f"{name}: {asked} requests for five reads of one page"


def test_descriptors_and_mappings_open_across_the_switch(headrace: Headrace, bucket: Bucket) -> None:
    data = bucket.put("m/a", SIZE)
    path = headrace.mount(bucket.uri("m")) / "a"
    with path.open("rb", buffering=0) as old, path.open("rb") as mapped, mmap.mmap(mapped.fileno(), 0, prot=mmap.PROT_READ) as old_view:
        assert old.read(10) == data[:10]
        assert old_view[SIZE - 100 :] == data[SIZE - 100 :]
        headrace.run("warm", str(path.parent))
        headrace.wait_durable(1)
        with path.open("rb", buffering=0) as new, mmap.mmap(new.fileno(), 0, prot=mmap.PROT_READ) as new_view:
            assert headrace.status()["mounts"][0]["open_by_passthrough"] == int(headrace.passthrough)
            for view in (old_view, new_view):
                assert view[:] == data
            for file in (old, new):
                assert b"".join(os.pread(file.fileno(), MIB, at) for at in range(0, SIZE, MIB)) == data
            # Opened again while both kinds are open: still the kernel's own.
            assert path.read_bytes() == data
            assert os.fstat(old.fileno()).st_ino == os.fstat(new.fileno()).st_ino
    assert headrace.counters()["origin_body_bytes_total"] == SIZE
