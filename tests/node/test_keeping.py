"""What the keeper holds: taken over whole, replaced without leaks, sent in full."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.node import keeper, parcel, service
from headrace.node.__main__ import wait_holding
from headrace.node.keeper import Kept
from headrace.node.upkeep import Troubles
from support.headrace import wait_until


def descriptor() -> int:
    return os.open("/dev/null", os.O_RDONLY)


def is_open(fd: int) -> bool:
    return Path(f"/proc/self/fd/{fd}").exists()


def test_a_mount_replaced_or_forgotten_closes_its_descriptors() -> None:
    kept = Kept()
    first, second = descriptor(), descriptor()
    kept.apply({"op": "mount", "id": "a", "mount": {"directory": "/x"}}, [first])
    kept.apply({"op": "mount", "id": "a", "mount": {"directory": "/y"}}, [second])
    assert (is_open(first), is_open(second)) == (False, True)
    kept.apply({"op": "update", "id": "a", "mount": {"snapshot": "v2"}}, [])
    assert kept.mounts["a"] == {"directory": "/y", "snapshot": "v2"}
    kept.apply({"op": "forget", "id": "a"}, [])
    assert not is_open(second)
    assert not kept.mounts


def test_an_unknown_change_is_refused() -> None:
    with pytest.raises(ValueError, match="whatever"):
        Kept().apply({"op": "whatever"}, [])


def test_everything_goes_over_to_a_successor() -> None:
    kept = Kept()
    kept.apply({"op": "locks"}, [descriptor()])
    kept.apply({"op": "listeners"}, [descriptor(), descriptor()])
    for name in ("a", "b"):
        kept.apply({"op": "mount", "id": name, "mount": {"directory": f"/{name}", "environment": {"K": "s" * 5000}}}, [descriptor(), descriptor()])
    ours, theirs = socket.socketpair()
    with ours, theirs:
        keeper.send_all(ours, kept)
        taken = keeper.receive_all(theirs)
    assert taken.mounts == kept.mounts
    assert [len(fds) for fds in (taken.locks, taken.listeners, taken.fds["a"], taken.fds["b"])] == [1, 2, 2, 2]
    for fds in (taken.locks, taken.listeners, *taken.fds.values()):
        assert all(is_open(fd) and not os.get_inheritable(fd) for fd in fds)


def test_a_hand_over_that_breaks_off_is_noticed() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            parcel.send(ours, {"op": "locks"}, [])
        with pytest.raises(ConnectionError, match="broke off"):
            keeper.receive_all(theirs)


def test_a_runtime_directory_open_to_others_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o755)
    (tmp_path / "run").chmod(0o755)
    with pytest.raises(SystemExit, match="chmod 700"):
        keeper.begin(str(tmp_path / "run/node.sock"))


def test_one_keeper_for_a_socket(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o700)
    first = keeper.begin(str(tmp_path / "run/node.sock"))
    assert first is not None
    assert keeper.begin(str(tmp_path / "run/node.sock")) is None
    for fd in (*first.guard, *first.listeners):
        os.close(fd)


def test_a_node_that_was_well_is_followed_at_once_and_one_that_dies_of_what_it_finds_ever_more_slowly() -> None:
    one = keeper.Keeper(Kept())
    pauses = []
    for turn in range(12):
        one.ready = None  # died before it was ready
        one._bury()
        assert one.deaths == turn + 1
        pauses.append(one.pause())
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (0, 10)
    one.ready = time.monotonic() - 2 * keeper._CALM_SECONDS
    one._bury()
    assert (one.deaths, one.pause()) == (0, 0)


def test_a_node_that_became_ready_is_followed_soon_however_often_it_dies() -> None:
    """Quick kills counted like nodes that never came up: many successors began after ten seconds."""
    one = keeper.Keeper(Kept())
    for _ in range(20):
        one.ready = time.monotonic()
        one._bury()
        assert one.pause() <= 0.5
    assert one.pause() > 0, "one that dies of what it is asked must not keep a processor busy"


def test_a_successor_tells_that_it_holds_everything_before_it_waits() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        parcel.send(ours, {"ok": True})
        began = time.monotonic()
        assert wait_holding(theirs, Kept(), 0.3)[0] is theirs
        assert time.monotonic() - began >= 0.3
        assert parcel.receive(ours) == ({"op": "held"}, [])


def test_a_keeper_that_ends_because_it_was_told_so_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever watches for its death saw its end, and another keeper started the node again that was just ending."""
    followed: list[Kept] = []
    ours, theirs = socket.socketpair()

    def follow(kept: Kept) -> tuple[socket.socket, int]:
        followed.append(kept)
        return socket.socketpair()[0], 1

    monkeypatch.setattr(service, "another_keeper", follow)
    node = service.Node.__new__(service.Node)
    node.lock, node.stopping, node.ended = threading.RLock(), threading.Event(), False
    node.channel, node.kept, node.troubles = ours, Kept(), Troubles()
    watching = threading.Thread(target=node._watch_keeper, daemon=True)
    with ours, theirs:
        watching.start()
        with node.lock:
            parcel.send(theirs, {"ok": True})
            theirs.shutdown(socket.SHUT_WR)  # it answers and is gone at once
            node._tell_end()
        node._tell({"op": "forget", "id": "a"})  # of a thread that does not know yet
        node.stopping.set()
        watching.join(10)
    assert not watching.is_alive()
    assert not followed


@pytest.mark.parametrize("node", ["has closed its end", "is no process any more"])
def test_a_new_keeper_whose_node_is_dead_already_goes_on_to_start_another(node: str) -> None:
    process = subprocess.Popen(["sleep", "60"])
    if node == "is no process any more":
        process.kill()
        process.wait()
    ours, theirs = socket.socketpair()
    theirs.close()
    try:
        one = keeper.Keeper(Kept())
        one.take_over(ours, process.pid)
    finally:
        process.kill()
        process.wait()
    assert (one.channel, one.node, one.pidfd) == (None, 0, -1), "its loop starts another then"
    assert ours.fileno() == -1


def test_a_process_holds_everything_before_it_has_read_a_word() -> None:
    kept = Kept()
    kept.apply({"op": "mount", "id": "a", "mount": {"directory": "/a"}}, [descriptor(), descriptor()])
    inherited: list[int] = []

    def command(fd: int) -> list[str]:
        inherited.append(os.dup(fd))  # as the process's: it is asked when whoever started it is gone
        return ["true"]

    ours, _ = keeper.begin_holding(kept, command)
    ours.close()
    with socket.socket(fileno=inherited[0]) as theirs:
        assert keeper.receive_all(theirs).mounts == kept.mounts


def third_time_lucky(tries: list[int], channel: socket.socket) -> Callable[[Kept], tuple[socket.socket, int]]:
    """In place of `another_keeper`: twice no process can be started."""

    def follow(_: Kept) -> tuple[socket.socket, int]:
        tries.append(1)
        if len(tries) < 3:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return channel, 77

    return follow


def test_a_keeper_that_could_not_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once no other keeper could be started, nobody tried again until a mount changed."""
    tries: list[int] = []
    closed = socket.socket(socket.AF_UNIX)
    closed.close()
    fresh, other = socket.socketpair()

    monkeypatch.setattr(service, "another_keeper", third_time_lucky(tries, fresh))
    monkeypatch.setattr(service, "_KEEPER_AGAIN_SECONDS", 0.01)
    node = service.Node.__new__(service.Node)
    node.lock, node.stopping, node.ended, node.keeper = threading.RLock(), threading.Event(), False, 1
    node.channel, node.kept, node.troubles = closed, Kept(), Troubles()
    with fresh, other:
        watching = threading.Thread(target=node._watch_keeper, daemon=True)
        watching.start()
        wait_until("another keeper", lambda: node.keeper == 77)
        node.stopping.set()
        watching.join(10)
    assert (node.keeper, len(tries)) == (77, 3)
    assert not node.troubles.events()


def test_a_waiting_node_outlives_a_keeper_that_could_not_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    import headrace.node.__main__ as waiting

    tries: list[int] = []
    ours, theirs = socket.socketpair()
    fresh, other = socket.socketpair()

    monkeypatch.setattr(waiting, "another_keeper", third_time_lucky(tries, fresh))
    monkeypatch.setattr(waiting, "_AGAIN_SECONDS", 0.01)
    ours.close()
    with theirs, fresh, other:
        assert wait_holding(theirs, Kept(), 0.3) == (fresh, 77)
