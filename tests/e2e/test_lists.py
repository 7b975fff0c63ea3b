"""Lists of files that are gone, damaged or another's when a successor wants them: what is served is what was mounted, or an error."""

from __future__ import annotations

import json
import os
import shutil
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from headrace.node.volumes import VolumeStore
from support.bucket import Bucket
from support.headrace import Headrace, wait_until

SIZE = 50_000


def store(headrace: Headrace) -> VolumeStore:
    """The only volume there is."""
    (record,) = Path(headrace.environment["HEADRACE_CACHE_DIR"]).glob("snapshots/*/volume.json")
    return VolumeStore.at(record.parent)


def kill(headrace: Headrace) -> None:
    node = headrace.node_pid()
    os.kill(node, signal.SIGKILL)
    wait_until("its successor", lambda: headrace.status()["node"]["pid"] != node)


def all_of(descriptor: int) -> bytes:
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    return os.pread(descriptor, 2 * SIZE, 0)


@pytest.mark.parametrize("lost", ["volume.json"])
def test_open_files_never_become_others(headrace: Headrace, bucket: Bucket, lost: str) -> None:
    """A version's number was given again, and its list lay where a slot of the mount said: a successor took it for the one that was mounted."""
    data = [bucket.put(f"m/f{i}", SIZE) for i in range(4)]
    directory = headrace.mount(bucket.uri("m"))
    with ExitStack() as files:
        opened = [files.enter_context((directory / f"f{i}").open("rb", buffering=0)).fileno() for i in range(4)]
        shown = store(headrace).directory
        if lost == "everything":
            shutil.rmtree(shown.parent)
        else:
            (shown / lost).unlink()
        new = bucket.put("m/a", SIZE)
        headrace.run("refresh", str(directory))
        assert (directory / "a").read_bytes() == new
        assert headrace.status()["mounts"][0]["snapshot"] == "v2"
        headrace.run("cache", "evict", "--all")
        kill(headrace)
        for descriptor, wanted in zip(opened, data, strict=True):
            if lost == "everything":
                with pytest.raises(OSError, match="Stale file handle"):
                    all_of(descriptor)
            else:
                assert all_of(descriptor) == wanted
        assert (directory / "a").read_bytes() == new


def test_versions_name_no_files(headrace: Headrace, bucket: Bucket) -> None:
    """How they are called on the disk is nobody's concern."""
    bucket.put("m/f0", SIZE)
    directory = headrace.mount(bucket.uri("m"))
    told = json.loads(headrace.run("snapshots", str(directory), "--json").stdout)
    assert "file" not in told["versions"][0]
