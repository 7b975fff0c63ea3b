"""Cache disks on a bad day: readers get their bytes from the origin, and status says what is wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.bucket import Bucket
from support.disk import Disk, disk, fill
from support.headrace import Headrace, wait_until

MIB = 1 << 20


@pytest.fixture
def own(headrace: Headrace, tmp_path: Path) -> Iterator[Disk]:
    """A disk that holds the cache of this test's headrace."""
    with disk(tmp_path, "disk", 96 * MIB) as made:
        headrace.environment["HEADRACE_CACHE_DIR"] = f"{made.directory}/cache"
        headrace.environment["HEADRACE_CACHE_SIZE"] = "1Gi"
        yield made
        headrace.stop()


def assert_told_full(headrace: Headrace, directory: Path, what: str) -> None:
    """Warned of once in the log, as an event, in `status` and by `doctor`, with what to do; and counted."""
    cache = f"{directory}/cache"
    status = headrace.status()
    (lacks,) = [d["lacks"] for d in status["cache"]["directories"] if d["path"] == cache]
    assert what in lacks
    (event,) = [e for e in status["events"] if e["kind"] == "cache-full"]
    assert event["object"] == cache
    assert what in event["message"]
    assert "HEADRACE_CACHE_DIR" in event["message"]
    counters = status["counters"]
    assert counters["cache_unkept_disk_full_bytes_total"] + counters["cache_unkept_no_room_bytes_total"] > 0
    assert headrace.log().count("cache-full") == 1, headrace.log()
    assert f"warning: cache directory {cache}: " in headrace.run("status").stdout
    findings = json.loads(headrace.run("doctor", "--json").stdout)
    (told,) = [f for f in findings if f["what"] == f"node's cache {cache}"]
    assert told["state"] == "warning"
    assert what in told["found"]
    assert "HEADRACE_CACHE_DIR" in told["remedy"]


def assert_told_out_of_use(headrace: Headrace, directory: Path) -> str:
    """Warned of in the log, in `status` and by `doctor`; and counted. What was wrong."""
    cache = f"{directory}/cache"
    status = headrace.status()
    (failed,) = [d["failed"] for d in status["cache"]["directories"] if d["path"] == cache]
    assert status["counters"]["cache_failed_directories_total"] == 1
    assert headrace.log().count("is out of use until the node restarts") == 1
    assert f"warning: cache directory {cache} is out of use: {failed}" in headrace.run("status").stdout
    findings = json.loads(headrace.run("doctor", "--json", check=False).stdout)
    assert [f["state"] for f in findings if f["what"] == f"node's cache {cache}"] == ["failed"]
    return str(failed)


def test_a_disk_that_fills_up_while_it_is_used(headrace: Headrace, bucket: Bucket, own: Disk) -> None:
    data = [bucket.put(f"m/{index}", 16 * MIB) for index in range(3)]
    directory = headrace.mount(bucket.uri("m"))
    assert (directory / "0").read_bytes() == data[0]
    headrace.wait_durable(1)
    # Held, so that it can't be dropped to make room for the others.
    with (directory / "0").open("rb") as held:
        fill(own.directory)
        for _ in range(2):
            for index in range(3):
                assert (directory / str(index)).read_bytes() == data[index]
        assert headrace.counters()["unkept_bytes_total"] > 0
        assert_told_full(headrace, own.directory, "the disk is full")
        assert held.read() == data[0]
    (own.directory / "filler").unlink()
    # An ext4 gives blocks back with its next commit.
    os.sync()
    # Room again: kept again.
    wait_until("everything is held", lambda: headrace.run("warm", str(directory), check=False).returncode == 0, 30)
    assert headrace.status()["mounts"][0]["files_complete"] == 3
    assert headrace.status()["cache"]["directories"][0]["lacks"] is None
    assert "warning: cache directory" not in headrace.run("status").stdout


def test_a_disk_without_inodes(headrace: Headrace, bucket: Bucket, own: Disk) -> None:
    """There is room for bytes, and none for a file: nothing new is kept, and that used to be told nowhere."""
    data = [bucket.put(f"m/{index}", 2 * MIB) for index in range(4)]
    directory = headrace.mount(bucket.uri("m"))
    left = os.statvfs(own.directory).f_favail
    (own.directory / "many").mkdir()
    for number in range(left - 1):
        (own.directory / "many" / str(number)).touch()
    assert os.statvfs(own.directory).f_favail == 0
    for _ in range(2):
        for index in range(4):
            assert (directory / str(index)).read_bytes() == data[index]
    assert_told_full(headrace, own.directory, "no inodes left")
    shutil.rmtree(own.directory / "many")
    headrace.run("warm", str(directory))
    assert headrace.status()["mounts"][0]["files_complete"] == 4
    assert headrace.status()["cache"]["directories"][0]["lacks"] is None


def test_a_disk_that_becomes_read_only(headrace: Headrace, bucket: Bucket, own: Disk) -> None:
    data = [bucket.put(f"m/{index}", 8 * MIB) for index in range(2)]
    directory = headrace.mount(bucket.uri("m"))
    assert (directory / "0").read_bytes() == data[0]
    # What an ext4 does to itself after an I/O error; files open for writing forbid an ordinary remount.
    Path(f"/sys/fs/ext4/{Path(own.device).name}/trigger_fs_error").write_text("test")
    for _ in range(2):
        for index in range(2):
            assert (directory / str(index)).read_bytes() == data[index]
    # Which write meets it first, and with which error, is left to chance.
    assert assert_told_out_of_use(headrace, own.directory)


def test_upkeep_that_fails_ends_no_node(headrace: Headrace, bucket: Bucket, own: Disk) -> None:
    """Every node died after 20 s: of old versions that a disk did not let go, and of a damaged volume that nobody had mounted."""
    headrace.environment["HEADRACE_KEEP_SNAPSHOTS"] = "2"
    data = bucket.put("m/stays", MIB)
    directory = headrace.mount(bucket.uri("m"), "mnt", "--pin")  # so that other versions than the first are not in use
    node, snapshots = headrace.node_pid(), own.directory / "cache/snapshots"
    while len(list(snapshots.glob("*/v*.snap"))) < 5:
        bucket.put("m/grows", bucket.objects.get("m/grows", b"") + b"x")
        headrace.run("refresh", str(directory))
    (snapshots / "damaged").mkdir()
    (snapshots / "damaged/volume.json").touch()
    Path(f"/sys/fs/ext4/{Path(own.device).name}/trigger_fs_error").write_text("test")
    (told,) = wait_until("both are told", lambda: [e for e in _upkeep_failed(headrace) if "; and of 1 more" in e["message"]], 30)
    assert told["message"] in headrace.log()
    assert told["message"] in headrace.run("status").stdout
    assert headrace.node_pid() == node
    assert (directory / "stays").read_bytes() == data


def _upkeep_failed(headrace: Headrace) -> list[dict[str, str]]:
    return [event for event in headrace.status()["events"] if event["kind"] == "upkeep-failed"]


# At the disk's speed the file would take more than three minutes.
@pytest.mark.timeout(120)
def test_a_slow_disk_does_not_slow_a_reader_down_to_it(headrace: Headrace, bucket: Bucket, tmp_path: Path) -> None:
    data = bucket.put("m/a", 200 * MIB)
    with disk(tmp_path, "slow", 1024 * MIB) as slow:
        headrace.environment["HEADRACE_CACHE_DIR"] = f"{slow.directory}/cache"
        path = headrace.mount(bucket.uri("m")) / "a"
        slow.limit_writes(1 * MIB)
        try:
            assert path.read_bytes() == data
            assert headrace.counters()["unkept_bytes_total"] > 0
            assert "the cache disk does not keep up" in headrace.log()
        finally:
            slow.limit_writes(0)
        headrace.stop()


@pytest.mark.parametrize("state", ["full", "read-only"])
def test_a_cache_directory_that_can_not_be_used(headrace: Headrace, bucket: Bucket, own: Disk, state: str) -> None:
    bucket.put("m/a", MIB)
    if state == "full":
        fill(own.directory)
    else:
        own.remount("ro")
    done = headrace.run("mount", bucket.uri("m"), str(headrace.base / "mnt"), check=False)
    assert done.returncode == 7, done.stderr
    assert "cache" in done.stderr
    assert str(own.directory) in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (headrace.base / "mnt").exists()


def test_a_disk_that_loses_what_it_was_given(headrace: Headrace, bucket: Bucket, tmp_path: Path) -> None:
    """Writes succeed into memory and fail on their way to the disk: what a broken device, or a thin one that is full, does."""
    data = bucket.put("m/a", 40 * MIB)
    with disk(tmp_path, "under", 64 * MIB) as under, disk(under.directory, "thin", 256 * MIB) as thin:
        headrace.environment["HEADRACE_CACHE_DIR"] = f"{thin.directory}/cache"
        path = headrace.mount(bucket.uri("m")) / "a"
        fill(under.directory)
        assert path.read_bytes() == data
        with path.open("rb") as held:
            start = os.pread(held.fileno(), MIB, 0)
            for _ in range(3):
                os.sync()
                Path("/proc/sys/vm/drop_caches").write_text("3")
                assert path.read_bytes() == data
                assert os.pread(held.fileno(), 40 * MIB, 0) == data
            assert start == data[:MIB]
        assert assert_told_out_of_use(headrace, thin.directory)
        headrace.stop()


@pytest.fixture
def dying(headrace: Headrace, tmp_path: Path) -> Iterator[Disk]:
    """A cache disk that can be told to lose sectors."""
    with disk(tmp_path, "dying", 112 * MIB) as made:
        headrace.environment["HEADRACE_CACHE_DIR"] = f"{made.directory}/cache"
        yield made
        headrace.stop()


def cached(own: Disk, size: int) -> Path:
    (path,) = [p for p in (own.directory / "cache").rglob("*.data") if p.stat().st_size == size]
    return path


def test_a_disk_that_can_not_read_back_what_it_holds(headrace: Headrace, bucket: Bucket, dying: Disk) -> None:
    headrace.environment["HEADRACE_KERNEL_MASK"] = "passthrough"
    data = bucket.put("m/a", 24 * MIB + 5)
    path = headrace.mount(bucket.uri("m")) / "a"
    assert path.read_bytes() == data
    headrace.wait_durable(1)
    with path.open("rb") as held:
        dying.lose(cached(dying, len(data)))
        os.posix_fadvise(held.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert os.pread(held.fileno(), len(data), 0) == data
        assert path.read_bytes() == data
    assert assert_told_out_of_use(headrace, dying.directory).startswith("reading a cached file")


def test_a_disk_that_can_not_read_back_what_the_kernel_reads_itself(headrace: Headrace, bucket: Bucket, dying: Disk) -> None:
    """The program gets the disk's own error, which the node is not told; whoever has it checked gets right bytes again."""
    data = bucket.put("m/a", 24 * MIB + 5)
    path = headrace.mount(bucket.uri("m")) / "a"
    assert path.read_bytes() == data
    headrace.wait_durable(1)
    wait_until("what was read first is in no buffer any more", lambda: headrace.counters()["buffer_used_bytes"] == 0)
    with path.open("rb") as held:
        assert headrace.status()["mounts"][0]["open_by_passthrough"] == 1
        dying.lose(cached(dying, len(data)))
        with pytest.raises(OSError, match="Input/output error"):
            held.read()
        mapped = "import mmap, sys; f = open(sys.argv[1], 'rb'); mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)[:]"
        assert subprocess.run([sys.executable, "-c", mapped, str(path)], check=False).returncode == -signal.SIGBUS
        done = headrace.run("cache", "verify", check=False)
        assert (done.returncode, "out of use" in done.stderr) == (1, True)
        # ... and a program that has it open by passthrough keeps nobody from that.
        assert path.read_bytes() == data
    assert path.read_bytes() == data
    assert assert_told_out_of_use(headrace, dying.directory)
    assert headrace.counters()["origin_body_bytes_total"] >= 2 * len(data)


def test_a_file_on_a_disk_out_of_use_opens_again(headrace: Headrace, bucket: Bucket, dying: Disk) -> None:
    """A complete file that nobody had open when its disk was given up: the name led to the cache file, and the open to ESTALE."""
    data = [bucket.put(f"m/{index}", 8 * MIB + index) for index in range(2)]
    directory = headrace.mount(bucket.uri("m"))
    assert [(directory / name).read_bytes() for name in "01"] == data
    headrace.wait_durable(2)
    assert [(directory / name).read_bytes() for name in "01"] == data
    dying.lose(cached(dying, len(data[1])))
    assert headrace.run("cache", "verify", check=False).returncode == 1
    assert assert_told_out_of_use(headrace, dying.directory)
    for _ in range(2):
        assert [(directory / name).read_bytes() for name in "01"] == data
