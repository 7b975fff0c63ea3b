"""The main job: a bucket's directory opens like a local one."""

from __future__ import annotations

import errno
import mmap
import os
import signal
from pathlib import Path

import pytest

from support.bucket import Bucket
from support.headrace import Headrace, wait_until

MIB = 1 << 20
# Around the borders of chunks (16 KiB), blocks (1 MiB), the passthrough threshold and the first flights.
SIZES = [0, 1, 4095, 4096, 16383, 16384, 16385, MIB - 1, MIB, MIB + 1, 2 * MIB + 5, 9 * MIB + 123]


def tree(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def test_every_byte_twice_and_from_the_cache_alone(headrace: Headrace, bucket: Bucket) -> None:
    for size in SIZES:
        bucket.put(f"m/size-{size}", size)
    bucket.put("m/sub/deep/ü name.txt", b"hello")
    bucket.put("m2/not-mine", b"no")
    expected = {key.removeprefix("m/"): data for key, data in bucket.objects.items() if key.startswith("m/")}
    directory = headrace.mount(bucket.uri("m"))
    assert tree(directory) == expected
    total = sum(map(len, expected.values()))
    assert headrace.counters()["origin_body_bytes_total"] == total
    assert tree(directory) == expected
    assert headrace.counters()["origin_body_bytes_total"] == total
    # A new node with the old cache reads nothing from the origin.
    first = headrace.node_pid()
    headrace.run("umount", str(directory))
    wait_until("the idle node's end", lambda: not Path(f"/proc/{first}").exists())
    directory = headrace.mount(bucket.uri("m"))
    assert headrace.node_pid() != first
    assert tree(directory) == expected
    assert headrace.counters()["origin_body_bytes_total"] == 0


def test_complete_files_are_read_by_the_kernel_itself(headrace: Headrace, bucket: Bucket) -> None:
    data = bucket.put("m/big", 8 * MIB)
    path = headrace.mount(bucket.uri("m")) / "big"
    before = path.open("rb")
    inode = os.fstat(before.fileno())
    assert path.read_bytes() == data
    headrace.wait_durable(1)
    with path.open("rb") as after, mmap.mmap(after.fileno(), 0, prot=mmap.PROT_READ) as view:
        assert view[:] == data
        assert headrace.status()["mounts"][0]["open_by_passthrough"] == int(headrace.passthrough)
        again = os.fstat(after.fileno())
    assert (inode.st_ino, inode.st_size, inode.st_mtime_ns) == (again.st_ino, again.st_size, again.st_mtime_ns)
    assert before.read() == data
    before.close()


def test_nothing_can_be_written(headrace: Headrace, bucket: Bucket) -> None:
    bucket.put("m/a", b"1")
    directory = headrace.mount(bucket.uri("m"))
    path = directory / "a"
    attempts = [
        lambda: path.open("w"),
        lambda: path.open("r+"),
        lambda: (directory / "new").open("w"),
        lambda: path.unlink(),
        lambda: path.rename(directory / "b"),
        lambda: path.chmod(0o777),
        lambda: os.truncate(path, 0),
        lambda: (directory / "d").mkdir(),
        lambda: (directory / "s").symlink_to("a"),
        lambda: os.link(path, directory / "l"),
        lambda: os.utime(path),
        lambda: os.setxattr(path, "user.x", b"1"),
        lambda: os.mkfifo(directory / "f"),
    ]
    for attempt in attempts:
        with pytest.raises(OSError) as failure:
            attempt()
        assert failure.value.errno == errno.EROFS
    assert path.read_bytes() == b"1"


def test_refresh_and_rollback_switch_what_is_looked_up_and_leave_what_is_open(headrace: Headrace, bucket: Bucket) -> None:
    old = bucket.put("m/sub/model", 3 * MIB, seed=1)
    bucket.put("m/gone", b"x")
    directory = headrace.mount(bucket.uri("m"))
    held = (directory / "sub/model").open("rb")
    start = held.read(MIB)
    assert (directory / "sub/model").read_bytes() == old
    new = bucket.put("m/sub/model", 2 * MIB, seed=2)
    bucket.put("m/fresh", b"y")
    bucket.delete("m/gone")
    assert (directory / "sub/model").stat().st_size == len(old), "nothing changes by itself"
    answer = headrace.run("refresh", str(directory)).stdout
    assert "new 1, changed 1, gone 1; snapshot v2" in answer
    assert sorted(p.name for p in directory.iterdir()) == ["fresh", "sub"]
    assert (directory / "sub/model").read_bytes() == new
    assert start + held.read() == old
    held.close()
    headrace.run("rollback", str(directory), "v1")
    assert (directory / "sub/model").read_bytes() == old
    assert sorted(p.name for p in directory.iterdir()) == ["gone", "sub"]


def test_an_object_replaced_in_the_bucket_is_an_error_and_never_a_mixture(headrace: Headrace, bucket: Bucket) -> None:
    data = bucket.put("m/a", 12 * MIB)
    directory = headrace.mount(bucket.uri("m"))
    with (directory / "a").open("rb") as held:
        assert held.read(4096) == data[:4096]
        bucket.put("m/a", 12 * MIB, seed=9)
        with pytest.raises(OSError) as failure:
            os.pread(held.fileno(), 4096, 11 * MIB)
        assert failure.value.errno in (errno.EIO, errno.ESTALE)
        # What was held stays readable.
        assert os.pread(held.fileno(), 4096, 0) == data[:4096]
    assert [e["kind"] for e in headrace.status()["events"]].count("replaced") == 1


def test_two_versions_side_by_side(headrace: Headrace, bucket: Bucket) -> None:
    old = bucket.put("m/a", MIB, seed=1)
    one = headrace.mount(bucket.uri("m"), "one", "--pin")
    assert (one / "a").read_bytes() == old
    new = bucket.put("m/a", MIB, seed=2)
    two = headrace.mount(bucket.uri("m"), "two")
    assert ((one / "a").read_bytes(), (two / "a").read_bytes()) == (old, new)
    three = headrace.mount(bucket.uri("m"), "three", "--snapshot", "v1")
    assert (three / "a").read_bytes() == old


def test_a_pinned_mount_never_shows_another_version(headrace: Headrace, bucket: Bucket) -> None:
    old = bucket.put("m/a", MIB, seed=1)
    pinned = headrace.mount(bucket.uri("m"), "pinned", "--pin")
    assert (pinned / "a").read_bytes() == old
    bucket.put("m/a", MIB, seed=2)
    bucket.put("m/b", 10)
    headrace.mount(bucket.uri("m"), "beside")  # the volume's current version is another one now
    assert "is pinned" in headrace.run("refresh", str(pinned)).stdout
    done = headrace.run("rollback", str(pinned), "v2", check=False)
    assert (done.returncode, "pinned" in done.stderr) == (1, True)
    assert (os.listdir(pinned), (pinned / "a").read_bytes()) == (["a"], old)
    os.kill(headrace.node_pid(), signal.SIGKILL)
    assert (os.listdir(pinned), (pinned / "a").read_bytes()) == (["a"], old)


def test_warm_pulls_everything_and_goes_on(headrace: Headrace, bucket: Bucket) -> None:
    for index in range(20):
        bucket.put(f"m/{index}", 300_000 + index)
    directory = headrace.mount(bucket.uri("m"))
    total = sum(map(len, bucket.objects.values()))
    headrace.run("warm", str(directory))
    assert headrace.counters()["origin_body_bytes_total"] == total
    headrace.run("warm", str(directory))
    assert tree(directory) == {k.removeprefix("m/"): v for k, v in bucket.objects.items()}
    assert headrace.counters()["origin_body_bytes_total"] == total
