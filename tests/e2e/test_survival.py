"""Node and keeper may be killed: mounts stay, readers notice nothing."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.bucket import Bucket
from support.disk import disk
from support.headrace import COMMAND, Headrace, wait_until
from support.readers import under_readers
from support.threads import stacks, stopped, threads, waits_in_fuse

MIB = 1 << 20
SIZE = 24 * MIB
KILLS = 20


@pytest.mark.parametrize(("victim", "evicting"), [("pid", True), ("keeper_pid", False)], ids=["node", "keeper"])
def test_twenty_kills_under_eight_readers(headrace: Headrace, bucket: Bucket, victim: str, evicting: bool) -> None:
    data = bucket.put("m/big", SIZE)
    path = headrace.mount(bucket.uri("m")) / "big"
    with under_readers(path, data, 8):
        for kill in range(KILLS):
            pid = headrace.status()["node"][victim]
            if evicting and kill % 3 == 0:
                headrace.run("cache", "evict", "--all")
            os.kill(pid, signal.SIGKILL)
            wait_until("its successor", lambda dead=pid: headrace.status()["node"][victim] != dead)
    assert path.read_bytes() == data


def test_a_keeper_killed_while_a_successor_holds_back(headrace: Headrace, bucket: Bucket) -> None:
    """What nodes die of before they serve may be there for a while, so successors wait. The keeper did, as the only holder of the descriptors."""
    data = bucket.put("m/a", MIB)
    path = headrace.mount(bucket.uri("m")) / "a"
    keeper = headrace.status()["node"]["keeper_pid"]
    dead = {headrace.node_pid()}
    os.kill(*dead, signal.SIGKILL)
    for _ in range(7):
        successor = wait_until("a successor", lambda: _nodes(headrace) - dead).pop()
        os.kill(successor, signal.SIGKILL)
        dead.add(successor)
    began = time.monotonic()
    # Well within the wait of five seconds that so many deaths bring.
    wait_until("a successor holds the mount", lambda: any(map(_holds_fuse, _nodes(headrace) - dead)), seconds=4)
    os.kill(keeper, signal.SIGKILL)
    assert path.read_bytes() == data
    assert time.monotonic() - began > 3, "it had nothing to wait for, so this shows nothing"
    status = headrace.status()["node"]
    assert status["pid"] not in dead
    assert status["keeper_pid"] != keeper


def test_a_node_that_served_is_followed_within_seconds_however_often_it_is_killed(headrace: Headrace, bucket: Bucket) -> None:
    data = bucket.put("m/a", MIB)
    path = headrace.mount(bucket.uri("m")) / "a"
    node = headrace.node_pid()
    for _ in range(12):
        os.kill(node, signal.SIGKILL)
        began = time.monotonic()
        wait_until("the greeting of the next one", lambda: _is_greeted(headrace))
        assert time.monotonic() - began < 8, "one that never came up would be followed after ten seconds"
        (node,) = wait_until("the next one alone", lambda old=node: nodes if (nodes := _nodes(headrace) - {old}) else None)
    assert path.read_bytes() == data


def _is_greeted(headrace: Headrace) -> bool:
    """False when the one that has just been killed took the connection."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(headrace.environment["HEADRACE_NODE"])
        try:
            return b"protocol" in connection.recv(4096)
        except ConnectionResetError:
            return False


def _nodes(headrace: Headrace) -> set[int]:
    """Processes that are nodes, whether they serve or wait."""
    return {pid for pid in headrace.processes() if _is_node(pid)}


def _holds_fuse(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return any(os.readlink(link) == "/dev/fuse" for link in Path(f"/proc/{pid}/fd").iterdir())
    return False


def _is_node(pid: int) -> bool:
    try:
        return b"\0headrace.node\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_a_killed_keeper_is_replaced_and_the_mount_survives_the_next_kill(headrace: Headrace, bucket: Bucket) -> None:
    data = bucket.put("m/big", SIZE)
    path = headrace.mount(bucket.uri("m")) / "big"
    for _ in range(3):
        status = headrace.status()["node"]
        os.kill(status["keeper_pid"], signal.SIGKILL)
        wait_until("another keeper", lambda old=status: headrace.status()["node"]["keeper_pid"] != old["keeper_pid"])
        os.kill(status["pid"], signal.SIGKILL)
        assert path.read_bytes() == data
    assert os.path.ismount(path.parent)


@pytest.mark.parametrize("milliseconds", [2, 5, 10, 20, 40])
@pytest.mark.parametrize(("first", "then"), [("keeper_pid", "pid"), ("pid", "keeper_pid")], ids=["keeper then node", "node then keeper"])
def test_whoever_starts_a_successor_is_killed_before_that_has_read_a_word(
    headrace: Headrace, bucket: Bucket, first: str, then: str, milliseconds: int
) -> None:
    """A new keeper held everything, and died because the node that had started it took no answer any more. Killed sooner than it was told of what
    it was to hold, which took until it had begun, either was no help."""
    data = bucket.put("m/a", MIB)
    path = headrace.mount(bucket.uri("m")) / "a"
    known, status = set(headrace.processes()), headrace.status()["node"]
    os.kill(status[first], signal.SIGKILL)
    time.sleep(milliseconds / 1000)
    # On a busy machine it may take longer until there is one: what the two are promised to outlive begins then.
    wait_until("another process", lambda: set(headrace.processes()) - known)
    os.kill(status[then], signal.SIGKILL)
    assert path.read_bytes() == data
    now = headrace.status()["node"]
    assert (now["pid"], now["keeper_pid"]) != (status["pid"], status["keeper_pid"])
    wait_until("two again", lambda: headrace.status()["node"]["keeper_pid"] not in known and headrace.node_pid() not in known)


@pytest.mark.parametrize("mask", ["epoch", "epoch,resend"], ids=["unanswered requests sent again", "unanswered requests kept"])
def test_a_kill_while_a_notification_waits_for_a_lock_of_the_kernel(headrace: Headrace, bucket: Bucket, mask: str) -> None:
    """A thread of the node waits, uninterruptibly, for a directory's lock; its holder waits for an answer that only a successor gives."""
    headrace.mask(*mask.split(","))
    old = bucket.put("m/a", MIB + 1)
    directory = headrace.mount(bucket.uri("m"))
    assert (directory / "a").read_bytes() == old
    new = bucket.put("m/a", MIB + 2, seed=1)
    node = headrace.node_pid()
    with a_look_up_unanswered(node, directory) as looker:
        # The notification that a name has expired wants the root's lock too.
        refresh = subprocess.Popen([COMMAND, "refresh", str(directory)], env=headrace.environment, stderr=subprocess.DEVNULL)
        wait_until("the notification waits", lambda: waits_in_fuse(node))
        os.kill(node, signal.SIGKILL)
    # What the dead process waits for comes from its successor: nothing hangs, and no look-up failed with it.
    assert "No such file" in looker.communicate(timeout=30)[1]
    assert refresh.wait(30) != 0, "whoever asked for the refresh is told that the node died"
    assert headrace.node_pid() != node
    wait_until("the dead node is gone", lambda: not Path(f"/proc/{node}").exists())
    headrace.run("refresh", str(directory))
    assert (directory / "a").read_bytes() == new


@pytest.mark.parametrize("lost", ["the disk is read-only", "the cache was deleted"])
def test_a_successor_that_can_not_use_the_cache_leaves_nobody_waiting(headrace: Headrace, bucket: Bucket, tmp_path: Path, lost: str) -> None:
    """It goes on without a cache; without the list of files it ends the mount. Readers used to wait forever."""
    data = bucket.put("m/a", 3 * MIB)
    with disk(tmp_path, "disk", 96 * MIB) as own:
        headrace.environment["HEADRACE_CACHE_DIR"] = f"{own.directory}/cache"
        directory = headrace.mount(bucket.uri("m"))
        assert (directory / "a").read_bytes() == data
        node = headrace.node_pid()
        if lost == "the disk is read-only":
            Path(f"/sys/fs/ext4/{Path(own.device).name}/trigger_fs_error").write_text("test")
        else:
            shutil.rmtree(f"{own.directory}/cache")
            assert "no such file" in headrace.status()["mounts"][0]["warning"]
            assert (directory / "a").read_bytes() == data
        os.kill(node, signal.SIGKILL)
        if lost == "the disk is read-only":
            assert (directory / "a").read_bytes() == data
            assert "mount it read-write" in headrace.status()["cache"]["directories"][0]["failed"]
        else:
            with pytest.raises(OSError, match=r"not connected|connection abort"):
                os.listdir(directory)
            assert "can't go on" in headrace.log()
            told = headrace.run("status", "--json", check=False)
            status = json.loads(told.stdout)
            assert (told.returncode, status["mounts"], status["dead"]) == (1, [], [str(directory)])
            headrace.mount(bucket.uri("m"))
            assert (directory / "a").read_bytes() == data
        headrace.stop()


@contextmanager
def a_look_up_unanswered(node: int, directory: Path) -> Iterator[subprocess.Popen[str]]:
    """A program that looks up a name in the root, and so holds its lock; the threads that would answer stand still."""
    for _ in range(50):
        # Believed for a second. A program that must ask for them first waits for that, and holds no lock.
        os.stat(directory)
        with stopped(threads(node, "fuse-")):
            looker = subprocess.Popen(["stat", str(directory / "absent")], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            wait_until("the program waits", lambda pid=looker.pid: waits_in_fuse(pid))
            if "fuse_lookup" in "".join(stacks(looker.pid)):
                yield looker
                return
        looker.communicate(timeout=30)
    raise AssertionError("no look-up came about")


def test_both_killed_at_once_is_told_and_the_next_mount_cleans_up(headrace: Headrace, bucket: Bucket) -> None:
    data = bucket.put("m/a", MIB)
    directory = headrace.mount(bucket.uri("m"))
    status = headrace.status()["node"]
    os.kill(status["keeper_pid"], signal.SIGSTOP)
    os.kill(status["pid"], signal.SIGKILL)
    os.kill(status["keeper_pid"], signal.SIGKILL)
    wait_until("the dead mount", lambda: _disconnected(directory))
    done = headrace.run("mount", bucket.uri("m"), str(directory))
    assert "dead mount" in done.stderr
    assert (directory / "a").read_bytes() == data


def _disconnected(directory: Path) -> bool:
    try:
        os.listdir(directory)
    except OSError:
        return True
    return False
