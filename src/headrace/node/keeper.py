"""The keeper: holds what a successor of the node needs, and starts it.

It holds, by mount, the `/dev/fuse` descriptor, the ledger's memory file, the configuration and, in memory only, the
credentials that a command's environment brought; and the listening sockets, so that commands arriving
while the node is down wait in the backlog. It is small, runs on the standard library, and knows nothing of S3 or FUSE.

The node tells it of every change and waits for the acknowledgement before the change becomes visible. A node is dead
when its process has ended, or is a zombie: one thread may be stuck in a notification until a successor
answers the request it waits for, so nobody waits for the dead to be reaped.

A successor is started at once, and what has to wait before it serves is the successor (`__main__`): so two processes hold
everything, and either may be killed at any time.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headrace.node import parcel
from headrace.node.last_resort import swallow_errors_of_stderr
from headrace.node.runtime import private_directory

_POLL_SECONDS = 0.2
_BACKLOG = 128
# How long a node waits before it serves, by the deaths before it. One that dies again and again of what it finds waits ever longer,
# but is never given up: mounts wait for it.
_PAUSES = (0.0, 0.0, 0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0)
# A node that was ready for this long was well; one that dies sooner may die of what it was asked.
_CALM_SECONDS = 0.25
# The most deaths that count while nodes do become ready: they serve, so their successors wait half a second at most.
_DEATHS_OF_THE_READY = 4
# A process that dies before it holds anything can't wait itself. Meanwhile nobody but the keeper holds the descriptors: so, not for long.
_UNHELD_PAUSE_SECONDS = 0.5
# How long a process that is to hold everything is not started while more is to be sent than its socket takes.
_SEND_FIRST_SECONDS = 0.05


class Kept:
    """Everything that must outlive a node."""

    def __init__(self) -> None:
        self.listeners: list[int] = []
        self.guard: list[int] = []
        self.locks: list[int] = []
        self.mounts: dict[str, dict[str, Any]] = {}
        self.fds: dict[str, list[int]] = {}

    def apply(self, message: dict[str, Any], fds: list[int]) -> None:
        """Takes one change over; what it replaces is closed."""
        operation = message["op"]
        if operation == "mount":
            self._close(self.fds.pop(message["id"], []))
            self.mounts[message["id"]] = message["mount"]
            self.fds[message["id"]] = fds
        elif operation == "update":
            self.mounts[message["id"]].update(message["mount"])
        elif operation == "forget":
            self.mounts.pop(message["id"], None)
            self._close(self.fds.pop(message["id"], []))
        elif operation in ("locks", "listeners", "guard"):
            self._close(getattr(self, operation))
            setattr(self, operation, fds)
        else:
            raise ValueError(f"the keeper knows no {operation!r}")

    def parcels(self) -> list[tuple[dict[str, Any], list[int]]]:
        """Everything, as the messages that would build it up."""
        parts: list[tuple[dict[str, Any], list[int]]] = [
            ({"op": "guard"}, self.guard),
            ({"op": "listeners"}, self.listeners),
            ({"op": "locks"}, self.locks),
        ]
        parts += [({"op": "mount", "id": i, "mount": m}, self.fds[i]) for i, m in self.mounts.items()]
        return parts

    @staticmethod
    def _close(fds: list[int]) -> None:
        for fd in fds:
            os.close(fd)


def send_all(channel: socket.socket, kept: Kept) -> None:
    for message, fds in kept.parcels():
        parcel.send(channel, message, fds)
    parcel.send(channel, {"op": "end", "keeper": os.getpid()})


def begin_holding(kept: Kept, command: Callable[[int], list[str]]) -> tuple[socket.socket, int]:
    """Starts a process that is to hold everything too: a channel to it, and its id. `command` gets the descriptor of the process's end.

    What it gets is sent first, as far as the socket takes it, which is everything unless there are hundreds of mounts: so it holds all of it from its
    first moment on, and whoever starts it may be killed before it has read a word.
    """
    ours, theirs = socket.socketpair()
    failed: list[OSError] = []

    def send() -> None:
        try:
            send_all(ours, kept)
        except OSError as error:
            failed.append(error)

    sending = threading.Thread(target=send, daemon=True)
    sending.start()
    sending.join(_SEND_FIRST_SECONDS)
    try:
        with theirs:
            process = subprocess.Popen(
                command(theirs.fileno()), pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True
            )  # fmt: skip
        sending.join()  # ends at the latest with the process: nobody else has the other end
        if failed:
            process.kill()
            raise failed[0]
    except BaseException:
        ours.close()
        raise
    return ours, process.pid


def receive_all(channel: socket.socket) -> Kept:
    kept = Kept()
    while True:
        received = parcel.receive(channel)
        if received is None:
            raise ConnectionError("the state to take over broke off")
        message, fds = received
        if message["op"] == "end":
            return kept
        kept.apply(message, fds)


def begin(path: str) -> Kept | None:
    """The state of a fresh keeper: guard and sockets. None when another keeper has them."""
    try:
        private_directory(Path(path).parent)
    except OSError as error:
        raise SystemExit(f"runtime directory: {error}") from error
    guard = os.open(path + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    kept = Kept()
    kept.guard = [guard]
    for name in (path, path.removesuffix(".sock") + ".data.sock"):
        Path(name).unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(name)
        os.chmod(name, 0o600)
        listener.listen(_BACKLOG)
        kept.listeners.append(listener.detach())
    return kept


class Keeper:
    """One node at a time, and what it needs."""

    def __init__(self, kept: Kept) -> None:
        self.kept = kept
        self.channel: socket.socket | None = None
        self.node = 0
        self.pidfd = -1
        self.deaths = 0
        self.held = True
        self.ready: float | None = None

    def adopt(self, channel: socket.socket, node: int) -> None:
        """Goes on beside a node that is already there."""
        self.channel, self.node, self.pidfd, self.ready = channel, node, os.pidfd_open(node), None

    def pause(self) -> float:
        """Seconds that the next node is to wait before it serves."""
        return _PAUSES[min(self.deaths, len(_PAUSES) - 1)]

    def take_over(self, channel: socket.socket, node: int) -> None:
        """Goes on beside the node that has started this keeper. It may be dead by now: nobody else holds anything then, so it gets a successor."""
        try:
            self.adopt(channel, node)
            self.ready = time.monotonic()
            parcel.send(channel, {"ok": True, "keeper": os.getpid()})
        except OSError:
            channel.close()
            self._bury()

    def start(self) -> None:
        self.held = False
        channel, node = begin_holding(self.kept, lambda fd: [sys.executable, "-m", "headrace.node", str(fd), str(self.pause())])
        self.adopt(channel, node)

    def run(self) -> None:
        """Until the node says that nothing needs it any more."""
        while True:
            if self.channel is None:
                if not self.held:
                    time.sleep(min(self.pause(), _UNHELD_PAUSE_SECONDS))
                self._start_or_count()
                continue
            waited = [self.channel.fileno(), self.pidfd]
            ready, _, _ = select.select(waited, [], [], _POLL_SECONDS)
            if waited[0] in ready and not self._serve(self.channel):
                return
            if self.channel is not None and (waited[1] in ready or self._is_zombie()):
                self._bury()

    def _start_or_count(self) -> None:
        try:
            self.start()
        except OSError as error:
            self.held = False
            print(f"keeper: starting a node: {error}", file=sys.stderr, flush=True)
            self._bury()

    def _serve(self, channel: socket.socket) -> bool:
        """One message; False when the node is done for good."""
        try:
            received = parcel.receive(channel)
            if received is None:
                self._bury()
                return True
            message, fds = received
            if message["op"] == "done":
                parcel.send(channel, {"ok": True})
                return False
            self._take(message, fds)
            parcel.send(channel, {"ok": True})
        except OSError:
            self._bury()
        return True

    def _take(self, message: dict[str, Any], fds: list[int]) -> None:
        if message["op"] == "held":
            self.held = True
        elif message["op"] == "ready":
            self.ready = time.monotonic()
        else:
            self.kept.apply(message, fds)

    def _is_zombie(self) -> bool:
        try:
            status = Path(f"/proc/{self.node}/stat").read_text()
        except OSError:
            return True
        return status.rpartition(")")[2].split()[0] in "ZX"

    def _bury(self) -> None:
        if self.node:
            # It may be alive and only have dropped the channel: two nodes on one mount must not be.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.node, signal.SIGKILL)
        if self.channel is not None:
            self.channel.close()
            os.close(self.pidfd)
        self.deaths = self._deaths()
        self.channel, self.node, self.pidfd = None, 0, -1
        print("keeper: the node has died; starting another", file=sys.stderr, flush=True)

    def _deaths(self) -> int:
        """How many deaths in a row count, the one that just happened included."""
        if self.ready is None:
            return self.deaths + 1
        well = time.monotonic() - self.ready > _CALM_SECONDS
        return 0 if well else min(self.deaths + 1, _DEATHS_OF_THE_READY)


def another_keeper(kept: Kept) -> tuple[socket.socket, int]:
    """Starts a keeper for the calling node, whose own one has died, and hands everything on: the channel to it, and its process.

    OSError when that fails.
    """
    channel, keeper = begin_holding(kept, lambda fd: [sys.executable, "-m", "headrace.node.keeper", "adopt", str(fd), str(os.getpid())])
    try:
        if parcel.receive(channel) is None:
            raise ConnectionError("it has died too")
    except BaseException:
        channel.close()
        raise
    print("node: the keeper had died; started another", file=sys.stderr, flush=True)
    return channel, keeper


def main(arguments: list[str]) -> None:
    swallow_errors_of_stderr()
    # Nodes are not waited for; the kernel reaps them.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if arguments[0] == "adopt":
        channel = socket.socket(fileno=int(arguments[1]))
        keeper = Keeper(receive_all(channel))
        keeper.take_over(channel, int(arguments[2]))
    else:
        kept = begin(arguments[1])
        if kept is None:
            return
        keeper = Keeper(kept)
    keeper.run()


if __name__ == "__main__":
    main(sys.argv[1:])
