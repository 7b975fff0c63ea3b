"""Damage on the cache disk is found before it is believed; directories that are open stay what they were."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
from pathlib import Path

from support.boot import another_boot
from support.bucket import Bucket
from support.disk import disk
from support.headrace import Headrace, wait_until

MIB = 1 << 20


def flip(directory: Path, size: int, at: int) -> None:
    """Changes one bit of the only cached file of this size."""
    (path,) = [p for p in (directory / "cache").rglob("*.data") if p.stat().st_size == size]
    descriptor = os.open(path, os.O_RDWR)
    byte = os.pread(descriptor, 1, at)
    os.pwrite(descriptor, bytes([byte[0] ^ 4]), at)
    os.fsync(descriptor)
    os.close(descriptor)


def lose_power(headrace: Headrace) -> None:
    """Ends node and keeper at once, without a word, and takes the dead mounts away."""
    status = headrace.status()
    os.kill(status["node"]["keeper_pid"], signal.SIGSTOP)
    for victim in ("pid", "keeper_pid"):
        os.kill(status["node"][victim], signal.SIGKILL)
    wait_until("the end of both", lambda: not headrace.processes())
    for mount in status["mounts"]:
        subprocess.run(["umount", "--lazy", mount["directory"]], check=True)


def test_a_flipped_bit_is_found_and_mended(headrace: Headrace, bucket: Bucket) -> None:
    data = bucket.put("m/a", 3 * MIB + 5)
    path = headrace.mount(bucket.uri("m")) / "a"
    assert path.read_bytes() == data
    headrace.wait_durable(1)
    assert headrace.verify()["bad_blocks"] == 0
    flip(headrace.base, len(data), 2 * MIB + 77)
    assert headrace.verify()["bad_blocks"] == 1
    before = headrace.counters()["origin_body_bytes_total"]
    assert path.read_bytes() == data
    assert headrace.counters()["origin_body_bytes_total"] - before == MIB, "only the damaged block comes again"
    done = headrace.run("cache", "verify")
    assert ", 0 damaged blocks dropped" in done.stdout


def test_after_another_boot_what_was_not_confirmed_is_checked_first(headrace: Headrace, bucket: Bucket) -> None:
    data = bucket.put("m/a", 24 * MIB)
    path = headrace.mount(bucket.uri("m")) / "a"
    # Incomplete, so never synced: after a power loss its blocks are in doubt.
    with path.open("rb", buffering=0) as file:
        assert os.pread(file.fileno(), 2 * MIB, 0) == data[: 2 * MIB]
    wait_until("the blocks are kept", lambda: headrace.status()["mounts"][0]["bytes_present"] >= 2 * MIB)
    assert headrace.status()["mounts"][0]["files_complete"] == 0
    headrace.stop()
    flip(headrace.base, len(data), MIB + 3)
    with another_boot():
        path = headrace.mount(bucket.uri("m")) / "a"
        assert path.read_bytes() == data
        assert headrace.counters()["cache_digest_failures_total"] == 1
        headrace.stop()


def test_a_file_whose_sync_a_power_loss_cut_off_is_checked_before_a_mapping_sees_it(headrace: Headrace, bucket: Bucket, tmp_path: Path) -> None:
    """Complete, and not confirmed: nothing of it may reach the kernel's own reading before it has been compared."""
    data = bucket.put("m/a", 24 * MIB)
    with disk(tmp_path, "slow", 256 * MIB) as slow:
        headrace.environment["HEADRACE_CACHE_DIR"] = f"{slow.directory}/cache"
        path = headrace.mount(bucket.uri("m")) / "a"
        slow.limit_writes(MIB // 2)
        try:
            assert path.read_bytes() == data
            wait_until("the file is complete", lambda: headrace.status()["mounts"][0]["files_complete"] == 1)
            assert headrace.status()["mounts"][0]["files_durable"] == 0
            lose_power(headrace)
        finally:
            slow.limit_writes(0)
        flip(slow.directory, len(data), 5 * MIB + 3)
        with another_boot():
            path = headrace.mount(bucket.uri("m")) / "a"
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
                assert view[5 * MIB : 6 * MIB] == data[5 * MIB : 6 * MIB]
                assert view[:] == data
            headrace.wait_durable(1)
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
                assert headrace.status()["mounts"][0]["open_by_passthrough"] == int(headrace.passthrough)
                assert view[:] == data
            assert headrace.counters()["cache_digest_failures_total"] == 1
            assert headrace.counters()["origin_body_bytes_total"] == MIB, "only the damaged block comes again"
            headrace.stop()


def test_open_directories_and_working_directories_stay_old(headrace: Headrace, bucket: Bucket) -> None:
    old = bucket.put("m/sub/a", 1000, seed=1)
    bucket.put("m/sub/gone", 10)
    directory = headrace.mount(bucket.uri("m"))
    assert (directory / "sub/a").read_bytes() == old  # held: the bucket has no versions
    held = os.open(directory / "sub", os.O_RDONLY | os.O_DIRECTORY)
    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    new = bucket.put("m/sub/a", 2000, seed=2)
    bucket.delete("m/sub/gone")
    headrace.run("refresh", str(directory))

    def read(name: str, at: int) -> bytes:
        descriptor = os.open(name, os.O_RDONLY, dir_fd=at)
        try:
            return os.read(descriptor, 10_000)
        finally:
            os.close(descriptor)

    assert (sorted(os.listdir(held)), read("a", held)) == (["a", "gone"], old)
    # From the root everything is new, also through a descriptor of it.
    assert (read("sub/a", root), (directory / "sub/a").read_bytes()) == (new, new)
    assert os.listdir(directory / "sub") == ["a"]
    os.close(held)
    os.close(root)


def test_each_block_is_checked_when_it_is_read_back(headrace: Headrace, bucket: Bucket) -> None:
    headrace.environment["HEADRACE_VERIFY_READS"] = "1"
    headrace.mask("passthrough")
    data = bucket.put("m/a", 3 * MIB + 5)
    path = headrace.mount(bucket.uri("m")) / "a"
    assert path.read_bytes() == data
    headrace.wait_durable(1)
    wait_until("what was read first is in no buffer any more", lambda: headrace.counters()["buffer_used_bytes"] == 0)
    flip(headrace.base, len(data), MIB + 9)
    with path.open("rb", buffering=0) as file:
        # What the kernel kept of the first read is not what is on the disk.
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert os.pread(file.fileno(), len(data), 0) == data
    assert headrace.counters()["cache_digest_failures_total"] == 1
    assert headrace.counters()["origin_body_bytes_total"] == len(data) + MIB


def test_a_flipped_bit_is_found_by_the_scrubber(headrace: Headrace, bucket: Bucket) -> None:
    headrace.environment |= {"HEADRACE_SCRUB_INTERVAL": "2"}
    data = bucket.put("m/a", 3 * MIB + 5)
    path = headrace.mount(bucket.uri("m")) / "a"
    assert path.read_bytes() == data
    headrace.wait_durable(1)
    flip(headrace.base, len(data), 77)
    wait_until("the scrubber to find it", lambda: headrace.counters()["cache_digest_failures_total"] == 1)
    assert path.read_bytes() == data
    wait_until("the scrubber to tell", lambda: "1 were damaged" in headrace.log())
