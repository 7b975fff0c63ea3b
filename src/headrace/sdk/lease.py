"""A volume held by the node for this process, and opened again when the node is another one.

The lease is a connection to the node: while it stands, the node keeps the origin, and keeps running. When the node dies,
its successor knows nothing of the lease; the next call notices, opens the same version again with the environment it came
with, and goes on. A process that forks leaves the connections to its parent and opens its own.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from headrace import _engine
from headrace._engine import EngineError
from headrace.errors import HeadraceError
from headrace.node.client import Client, connect_or_start
from headrace.sdk.channels import Channels
from headrace.sdk.ground import read_failure
from headrace.settings import Settings

T = TypeVar("T")

# How long a call goes on trying to reach a node; one that restarts is back within a second or two.
_PATIENCE_SECONDS = 60.0
_PAUSE_SECONDS = 0.02
_PAUSE_SECONDS_MAX = 1.0


class Lease:
    """One opening of the volume on one node."""

    def __init__(self, client: Client, opened: dict[str, Any]) -> None:
        self.client = client
        self.volume: str = opened["volume"]
        self.origin: str = opened["origin"]
        self.path: str = opened["path"]
        self.version: str = opened["snapshot"]
        self.channels = Channels(opened["handout"])
        self.calls = threading.Lock()
        self._closed = False

    def stands(self) -> bool:
        """False when the node has ended the connection, or this process has."""
        with self.calls:
            return not self._closed and not self.client.ended()

    def close(self) -> None:
        with self.calls:
            self._closed = True
            self.client.close()


class HeldByNode:
    """The ground of a volume that the machine's node holds."""

    def __init__(self, settings: Settings, request: dict[str, Any], progress: Callable[[dict[str, Any]], None] | None) -> None:
        self._settings = settings
        self._request = request
        self._numbers = itertools.count(1)
        self._closed = False
        self._fresh()
        self._lease: Lease | None = self._open(progress)
        self.version = self._lease.version
        # From here on the version stays, whatever the bucket does.
        self._request = {**request, "snapshot": self.version}
        _HELD.add(self)

    def _fresh(self) -> None:
        self._lock = threading.RLock()  # a finalizer may come in between
        self._lease = None

    def _open(self, progress: Callable[[dict[str, Any]], None] | None = None) -> Lease:
        client = connect_or_start(self._settings)
        try:
            return Lease(client, client.call("volume.open", progress, **self._request))
        except BaseException:
            client.close()
            raise

    def _current(self) -> Lease:
        with self._lock:
            if self._closed:
                raise ValueError("the volume is closed")
            if self._lease is None:
                self._lease = self._open()
            return self._lease

    def _lost(self, lease: Lease) -> None:
        """Gives a lease up; whoever comes next opens another."""
        with self._lock:
            if self._lease is lease:
                self._lease = None
                lease.close()

    def _persist(self, attempt: Callable[[Lease], T]) -> T:
        """Tries until the node answers, or patience ends. Only what the node's absence causes is tried again."""
        until = time.monotonic() + _PATIENCE_SECONDS
        pause = _PAUSE_SECONDS
        while True:
            lease = None
            try:
                lease = self._current()
                return attempt(lease)
            except (EngineError, HeadraceError) as error:
                # A node without the lease may say many things: that it knows no such origin, or that the origin was shut down.
                if lease is not None and not lease.stands():
                    self._lost(lease)
                elif error.code != "node-unreachable":
                    raise
                if time.monotonic() > until:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, _PAUSE_SECONDS_MAX)

    def _ask(self, method: str, **params: Any) -> Any:
        def attempt(lease: Lease) -> Any:
            with lease.calls:
                return lease.client.call(method, volume=lease.volume, **params)

        return self._persist(attempt)

    def entries(self, directory: str) -> Iterator[dict[str, Any]]:
        start: int | None = 0
        while start is not None:
            page = self._ask("volume.list", directory=directory, start=start)
            yield from page["entries"]
            start = page["next"]

    def stat(self, path: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._ask("volume.stat", path=path)
        return found

    def warm(self, paths: list[str], progress: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        def attempt(lease: Lease) -> dict[str, Any]:
            # A connection of its own: closing it stops the warm-up, and other threads' calls don't wait for it.
            with connect_or_start(self._settings) as client:
                return dict(client.call("volume.warm", progress, volume=lease.volume, paths=paths))

        return self._persist(attempt)

    def handle(self, path: str) -> NodeHandle:
        return NodeHandle(self, next(self._numbers), path)

    def read(self, number: int, path: str, action: Callable[[_engine.File], T]) -> T:
        """Does something with a file on a channel of the lease."""

        def attempt(lease: Lease) -> T:
            channel = lease.channels.take()
            broken = True
            try:
                result = action(channel.file(number, lease.origin, lease.path, path))
                broken = False
            except EngineError as error:
                broken = error.code == "node-unreachable"
                raise
            finally:
                if broken:
                    lease.channels.discard(channel)
                else:
                    lease.channels.give_back(channel)
            return result

        try:
            return self._persist(attempt)
        except EngineError as error:
            raise read_failure(error, path) from error

    def forget(self, number: int) -> None:
        with self._lock:
            lease = self._lease
        if lease is not None:
            lease.channels.forget(number)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            lease, self._lease = self._lease, None
        if lease is not None:
            lease.close()

    def __del__(self) -> None:
        # Not there when opening failed.
        if hasattr(self, "_closed"):
            self.close()

    def after_fork(self) -> None:
        """In the child: the connections are the parent's, and a lock may be held by a thread that is not here."""
        # Kept unused: dropping its files would close them on the parent's connections.
        self._parents = self._lease
        self._fresh()


class NodeHandle:
    """A file of a volume that the node holds."""

    def __init__(self, ground: HeldByNode, number: int, path: str) -> None:
        self._ground = ground
        self._number = number
        self._path = path

    def read_into(self, offset: int, buffer: Any) -> int:
        return self._ground.read(self._number, self._path, lambda file: file.read_into(offset, buffer))

    def descriptor(self) -> int | None:
        return self._ground.read(self._number, self._path, lambda file: file.descriptor())

    def close(self) -> None:
        self._ground.forget(self._number)


_HELD: weakref.WeakSet[HeldByNode] = weakref.WeakSet()


def _after_fork() -> None:
    for held in list(_HELD):
        held.after_fork()


os.register_at_fork(after_in_child=_after_fork)
