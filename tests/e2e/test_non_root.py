"""A user without privileges mounts through fusermount3: no passthrough, the same bytes."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.testing.access import Access
from support.bucket import Bucket
from support.headrace import Headrace

MIB = 1 << 20
NOBODY = 65534
# A user of its own, who may find the way to this repository wherever it lies, and nothing else.
AS_NOBODY = [
    "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all,+dac_read_search",
    "--ambient-caps=-all,+dac_read_search", "--",
]  # fmt: skip


@pytest.fixture
def nobody(server: Access) -> Iterator[Headrace]:
    # Every distribution opens the device to all users; a bare container may not.
    mode = os.stat("/dev/fuse").st_mode & 0o777
    os.chmod("/dev/fuse", 0o666)
    # Not below pytest's own directory, which is closed to others: fusermount3 must find its way.
    with tempfile.TemporaryDirectory(prefix="headrace-") as base:
        own = Headrace(Path(base), server.environment())
        own.prefix = AS_NOBODY
        for path in (own.base, own.base / "run"):
            os.chown(path, NOBODY, NOBODY)
        yield own
        own.stop()
    os.chmod("/dev/fuse", mode)


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
