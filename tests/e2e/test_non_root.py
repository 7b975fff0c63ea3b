"""A user without privileges mounts through fusermount3: no passthrough, the same bytes."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.testing.access import Access
from support.bucket import Bucket
from support.headrace import EVERYTHING, Headrace
from support.nobody import AS_NOBODY, NOBODY, fuse_for_everybody

MIB = 1 << 20
_START, _END = "import sys, hashlib, mmap; file = open(sys.argv[1], 'rb'); data = ", "; print(hashlib.sha256(data).hexdigest())"
WAYS = {"read": f"{_START}file.read(){_END}", "mapped": f"{_START}mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ){_END}"}


@pytest.fixture
def nobody(server: Access) -> Iterator[Headrace]:
    # Not below pytest's own directory, which is closed to others: fusermount3 must find its way.
    with fuse_for_everybody(), tempfile.TemporaryDirectory(prefix="headrace-") as base:
        own = Headrace(Path(base), server.environment())
        own.prefix = AS_NOBODY
        for path in (own.base, own.base / "run"):
            os.chown(path, NOBODY, NOBODY)
        yield own
        own.stop()


def test_a_user_mounts_and_reads(nobody: Headrace, bucket: Bucket) -> None:
    data = bucket.put("m/a", 5 * MIB + 3)
    directory = nobody.mount(bucket.uri("m"))
    reading = [*AS_NOBODY, "sha256sum", str(directory / "a")]
    first = subprocess.run(reading, check=True, capture_output=True).stdout
    nobody.wait_durable(1)
    assert subprocess.run(reading, check=True, capture_output=True).stdout == first
    assert first.split()[0].decode() == hashlib.sha256(data).hexdigest()
    assert nobody.counters()["origin_body_bytes_total"] == len(data)
    # Others, root included, are kept out by the kernel unless the mount says otherwise.
    with pytest.raises(PermissionError):
        os.listdir(directory)
    nobody.run("umount", str(directory))


def read_as_nobody(path: Path, way: str) -> str:
    """The digest of a file that nobody else may enter, read in requests as large as the kernel makes them, or mapped."""
    done = subprocess.run([*AS_NOBODY, sys.executable, "-c", WAYS[way], str(path)], check=True, capture_output=True, text=True, timeout=60)
    return done.stdout.strip()


@pytest.mark.parametrize("mask", ["", "large-reads", EVERYTHING])
def test_a_user_without_a_feature_of_the_kernel(nobody: Headrace, bucket: Bucket, mask: str) -> None:
    nobody.environment["HEADRACE_KERNEL_MASK"] = mask
    data = bucket.put("m/a", 5 * MIB + 3)
    path = nobody.mount(bucket.uri("m")) / "a"
    right = hashlib.sha256(data).hexdigest()
    assert read_as_nobody(path, "read") == right
    if "large-reads" in mask:
        counters = nobody.counters()
        assert counters["mount_read_bytes_total"] / counters["mount_reads_total"] <= 128 * 1024
    nobody.wait_durable(1)
    assert [read_as_nobody(path, way) for way in ("mapped", "read")] == [right, right]
    nobody.run("cache", "evict", "--all")
    os.kill(nobody.node_pid(), signal.SIGKILL)
    assert [read_as_nobody(path, way) for way in ("mapped", "read")] == [right, right]
    new = bucket.put("m/a", 2 * MIB, seed=1)
    nobody.run("refresh", str(path.parent))
    assert read_as_nobody(path, "mapped") == hashlib.sha256(new).hexdigest()


def test_without_fusermount_the_message_names_the_other_doors(nobody: Headrace, bucket: Bucket) -> None:
    bucket.put("m/a", 1)
    tools = nobody.base / "bin"
    tools.mkdir()
    for name in ("setpriv", "env"):
        (tools / name).symlink_to(str(shutil.which(name)))
    nobody.environment["PATH"] = str(tools)
    done = nobody.run("mount", bucket.uri("m"), str(nobody.base / "mnt"), check=False)
    assert done.returncode == 1
    assert "fusermount3" in done.stderr
    assert "headrace.open" in done.stderr
