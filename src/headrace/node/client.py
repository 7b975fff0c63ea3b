"""The commands' side: connects to the node, and starts keeper and node when none runs."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headrace.errors import NodeFailure, from_code
from headrace.node.protocol import PROTOCOL, Lines
from headrace.node.runtime import check_length, is_trusted, other_end, private_directory
from headrace.settings import Settings

_START_SECONDS = 20.0
# The keeper's socket takes connections while no node runs; a node that died is back long before this.
_HELLO_SECONDS = 30.0
_TRY_SECONDS = 0.02
# What keeper and node need of the environment; nothing secret is among it.
_INHERITED = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "XDG_RUNTIME_DIR",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "LD_LIBRARY_PATH",
)


class NotGreeted(NodeFailure):
    """The connection was closed before the node said a word: it was just killed, or has as many as it takes."""

    def __init__(self) -> None:
        super().__init__("node-unreachable", "the node closed the connection before it greeted; see `headrace logs`")


class Client:
    """A connection to the node."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._next = 0
        lines.socket.settimeout(_HELLO_SECONDS)
        try:
            hello = lines.receive()
        except TimeoutError:
            raise NodeFailure("node-unreachable", f"node: none has answered for {_HELLO_SECONDS:g} s; `headrace logs` tells why") from None
        except OSError as error:
            raise NotGreeted from error
        lines.socket.settimeout(None)
        if hello is None:
            raise NotGreeted
        low, high = hello.get("protocol", [0, 0])
        if not low <= PROTOCOL <= high:
            raise NodeFailure(
                "other-version",
                f"the node runs headrace {hello.get('headrace')}, which speaks another protocol; restart it",
            )

    def call(self, method: str, progress: Callable[[dict[str, Any]], None] | None = None, **params: Any) -> Any:
        """Asks and waits. Raises the error that the node answers with, NodeFailure when it breaks off."""
        self._next += 1
        try:
            self._lines.send({"id": self._next, "method": method, "params": params})
            answer = self._await(progress)
        except OSError as error:
            raise _broke_off(error) from error
        if answer is None:
            raise _broke_off("it closed the connection")
        if "error" in answer:
            raise from_code(answer["error"]["code"], answer["error"]["message"])
        return answer.get("result")

    def _await(self, progress: Callable[[dict[str, Any]], None] | None) -> dict[str, Any] | None:
        for message in self._lines:
            if message.get("id") != self._next:
                continue
            if "progress" not in message:
                return message
            if progress:
                progress(message["progress"])
        return None

    def ended(self) -> bool:
        """True when the node has closed the connection; only between calls, when it has nothing to say."""
        return bool(select.select([self._lines.socket], [], [], 0)[0])

    def close(self) -> None:
        self._lines.close()

    def hang_up(self) -> None:
        """Takes no more answers; one that has come already can still be read. For signal handlers."""
        with contextlib.suppress(OSError):  # the node was first
            self._lines.socket.shutdown(socket.SHUT_RD)

    def ask_no_more(self) -> None:
        """Tells the node that nothing more will be asked: between calls it closes its end at once, which by hanging up it would not."""
        with contextlib.suppress(OSError):  # the node was first
            self._lines.socket.shutdown(socket.SHUT_WR)

    def wait_closed(self, seconds: float) -> bool:
        """After hanging up, waits until the node has closed its end, and so has cancelled or taken back what it was asked for."""
        end = select.poll()
        end.register(self._lines.socket, 0)
        return bool(end.poll(1000 * seconds))

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _broke_off(cause: object) -> NodeFailure:
    return NodeFailure("node-unreachable", f"the node broke off (it may have been restarted): {cause}; try again, or see `headrace logs`")


def connect(settings: Settings) -> Client | None:
    """A connection to a running node; None when none runs.

    A node that dies while it greets has been asked nothing yet, so its successor is asked instead.
    """
    check_length(max(settings.socket, settings.handout_socket, key=len))
    until = time.monotonic() + _HELLO_SECONDS
    while True:
        try:
            return _connect(settings)
        except NotGreeted:
            if time.monotonic() > until:
                raise
            time.sleep(_TRY_SECONDS)


def _connect(settings: Settings) -> Client | None:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(settings.socket)
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    except OSError as error:
        connection.close()
        raise NodeFailure("node-unreachable", f"node: {settings.socket}: {error}; only its own user and root may connect") from error
    if not is_trusted(uid := other_end(connection)):
        connection.close()
        # It would be told the credentials of this environment.
        raise NodeFailure("node-unreachable", f"node: {settings.socket} belongs to the user {uid}; set HEADRACE_NODE to a path of your own")
    try:
        return Client(Lines(connection))
    except BaseException:
        connection.close()
        raise


def connect_or_start(settings: Settings) -> Client:
    """A connection to the node, started if need be."""
    client = connect(settings)
    if client is not None:
        return client
    process = start_keeper(settings)
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        client = connect(settings)
        if client is not None:
            return client
        if process.poll() == 0:  # another one had the socket: if that was about to end, nobody has it now
            process = start_keeper(settings)
        elif process.returncode is not None:
            break
        time.sleep(_TRY_SECONDS)
    raise NodeFailure("node-unreachable", f"node: it did not start; see {settings.log_file}")


def told(settings: Settings) -> dict[str, str]:
    """The settings in force as variables, for a node: it sees neither the options nor the environment of the command that starts it."""
    return {
        "HEADRACE_CACHE_DIR": ":".join(f"{path}={size}" for path, size in settings.cache_directories),
        "HEADRACE_CACHE_RESERVE": str(settings.cache_reserve),
        "HEADRACE_CACHE_MAX_AGE": str(settings.cache_max_age or 0),
        "HEADRACE_MEMORY": str(settings.memory),
        "HEADRACE_PAGE_CACHE": str(settings.page_cache),
        "HEADRACE_NODE": settings.socket,
        "HEADRACE_DEADLINE": str(settings.deadline),
        "HEADRACE_CONNECTIONS": str(settings.connections),
        "HEADRACE_IDLE": str(settings.idle),
        "HEADRACE_ORIGIN_BANDWIDTH": str(settings.origin_bandwidth),
        "HEADRACE_ORIGIN_REQUESTS": str(settings.origin_requests),
        "HEADRACE_KEEP_SNAPSHOTS": str(settings.keep_snapshots),
        "HEADRACE_LOG_SIZE": str(settings.log_size),
        "HEADRACE_KERNEL_MASK": ",".join(settings.kernel_mask),
        "HEADRACE_SCRUB_INTERVAL": str(settings.scrub_interval),
        "HEADRACE_SCRUB_RATE": str(settings.scrub_rate),
        "HEADRACE_VERIFY_READS": str(int(settings.verify_reads)),
        "HEADRACE_INTERFACES": ",".join(settings.interfaces),
        "HEADRACE_LEARN_ORDER": str(int(settings.learn_order)),
        "HEADRACE_TASK_SOCKET": settings.task_socket,
        "HEADRACE_TASK_PATHS": ",".join(settings.task_paths),
        "HEADRACE_TASK_MOUNTS": str(settings.task_mounts),
    }


def start_keeper(settings: Settings) -> subprocess.Popen[bytes]:
    """Starts a keeper in a session of its own; its log is the node's."""
    runtime = settings.runtime
    try:
        private_directory(runtime)
        log = os.open(settings.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise NodeFailure(
            "node-unreachable",
            f"runtime directory: {runtime}: {error}; set HEADRACE_NODE to a path you may write",
        ) from error
    environment = {name: os.environ[name] for name in _INHERITED if name in os.environ} | told(settings)
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "headrace.node.keeper", "start", settings.socket],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd=Path("/"), start_new_session=True,
        )  # fmt: skip
    finally:
        os.close(log)
