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


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def all_of(descriptor: int) -> bytes:
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    return os.pread(descriptor, 2 * SIZE, 0)


@pytest.mark.parametrize("lost", ["volume.json", "everything"])
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


def test_a_list_that_is_another_one_is_not_served(headrace: Headrace, bucket: Bucket) -> None:
    """Whatever brings it about: who only trusts a path serves one file's bytes as another's."""
    bucket.put("m/f0", SIZE)
    directory = headrace.mount(bucket.uri("m"))
    mounted = store(headrace).path("v1")
    other = headrace.base / "other"
    with (directory / "f0").open("rb", buffering=0) as file:
        bucket.put("m/a", SIZE)
        headrace.mount(bucket.uri("m"), "other")
        shutil.copyfile(store(headrace).path("v2"), mounted)
        node = headrace.node_pid()
        os.kill(node, signal.SIGKILL)
        with pytest.raises(OSError, match=r"not connected|connection abort"):
            all_of(file.fileno())
    log = wait_until("the reason", lambda: log if "can't go on" in (log := headrace.log()) else None)
    assert "another list than the one that was shown (v1)" in log
    assert sorted(os.listdir(other)) == ["a", "f0"]
    headrace.run("umount", str(directory), check=False)


@pytest.mark.parametrize("how", ["damaged", "gone"])
def test_a_refused_rollback_changes_nothing(headrace: Headrace, bucket: Bucket, how: str) -> None:
    """The keeper was told first and not told otherwise: status named the other version, and a successor ended the mount for want of its list."""
    old = bucket.put("m/f0", SIZE)
    directory = headrace.mount(bucket.uri("m"))
    headrace.run("umount", str(directory))
    new = bucket.put("m/a", SIZE)
    headrace.mount(bucket.uri("m"))
    path = store(headrace).path("v1")
    damage(path) if how == "damaged" else path.unlink()
    done = headrace.run("rollback", str(directory), "v1", check=False)
    assert done.returncode != 0
    assert str(path) in done.stderr
    for _ in range(2):
        assert headrace.status()["mounts"][0]["snapshot"] == "v2"
        assert (directory / "a").read_bytes() == new
        assert (directory / "f0").read_bytes() == old
        kill(headrace)


@pytest.mark.parametrize("how", ["damaged", "gone"])
def test_a_mount_goes_on_without_a_list_that_it_shows_no_more(headrace: Headrace, bucket: Bucket, how: str) -> None:
    """Files still open of that version answer ESTALE, never other bytes; everything else is as before."""
    bucket.put("m/f0", SIZE)
    bucket.put("m/large", 3 << 20)
    directory = headrace.mount(bucket.uri("m"))
    with (directory / "f0").open("rb", buffering=0) as small, (directory / "large").open("rb", buffering=0) as large:
        new = [bucket.put(name, SIZE, seed=1) for name in ("m/a", "m/f0", "m/large")]
        headrace.run("refresh", str(directory))
        path = store(headrace).path("v1")
        damage(path) if how == "damaged" else path.unlink()
        for _ in range(2):
            kill(headrace)
            for file in (small, large):
                with pytest.raises(OSError, match="Stale file handle"):
                    all_of(file.fileno())
            assert [(directory / name).read_bytes() for name in ("a", "f0", "large")] == new
    assert "answer ESTALE" in headrace.log()
    bucket.put("m/b", SIZE)
    headrace.run("refresh", str(directory))
    assert sorted(os.listdir(directory)) == ["a", "b", "f0", "large"]


@pytest.mark.parametrize("how", ["damaged", "gone"])
def test_the_bucket_is_listed_again_when_the_list_to_compare_with_can_not_be_read(headrace: Headrace, bucket: Bucket, how: str) -> None:
    """What the error said to do, to list again, failed for the same reason, and so did every mount."""
    data = bucket.put("m/f0", SIZE)
    directory = headrace.mount(bucket.uri("m"))
    headrace.run("umount", str(directory))
    path = store(headrace).path("v1")
    damage(path) if how == "damaged" else path.unlink()
    headrace.mount(bucket.uri("m"))
    assert (directory / "f0").read_bytes() == data
    assert headrace.status()["mounts"][0]["snapshot"] == "v2"


def test_going_back_and_forth_needs_no_more_lists_in_memory(headrace: Headrace, bucket: Bucket) -> None:
    old = bucket.put("m/f0", SIZE)
    directory = headrace.mount(bucket.uri("m"))
    with (directory / "f0").open("rb", buffering=0) as file:
        assert all_of(file.fileno()) == old
        new = bucket.put("m/f0", SIZE, seed=1)
        headrace.run("refresh", str(directory))
        for turn in range(4):
            headrace.run("rollback", str(directory), "v1" if turn % 2 == 0 else "v2")
            assert (directory / "f0").read_bytes() == (old if turn % 2 == 0 else new)
            assert headrace.status()["mounts"][0]["current_slot"] == (1 if turn % 2 == 0 else 2)
            if turn == 1:
                kill(headrace)
        assert all_of(file.fileno()) == old
    maps = Path(f"/proc/{headrace.node_pid()}/maps").read_text()
    assert len([line for line in maps.splitlines() if line.endswith(".snap")]) == 2


def test_versions_name_no_files(headrace: Headrace, bucket: Bucket) -> None:
    """How they are called on the disk is nobody's concern."""
    bucket.put("m/f0", SIZE)
    directory = headrace.mount(bucket.uri("m"))
    told = json.loads(headrace.run("snapshots", str(directory), "--json").stdout)
    assert "file" not in told["versions"][0]
