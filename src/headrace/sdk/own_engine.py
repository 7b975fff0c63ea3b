"""An engine inside this process, with a cache directory of its own: for where no node can run.

The directory belongs to one process at a time (a lock says so), never to a node and an SDK at once. All volumes of a process
that name the same directory share one engine.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from headrace import _engine
from headrace._engine import Engine, EngineError
from headrace.errors import CacheFailure, NodeFailure
from headrace.node import resolver
from headrace.node.engines import add_origin, start_engine
from headrace.node.listing import publish_listing
from headrace.node.volumes import VolumeStore, parse_uri
from headrace.node.warming import pull
from headrace.sdk.ground import call_failure, read_failure
from headrace.settings import Settings


class SharedEngine:
    """The engine of a cache directory, for as long as a volume of this process uses it."""

    _running: ClassVar[dict[tuple[str, ...], SharedEngine]] = {}
    _lock: ClassVar[threading.RLock] = threading.RLock()  # a finalizer may come in between

    def __init__(self, settings: Settings) -> None:
        self.pid = os.getpid()
        self.listing = threading.Lock()
        self.users = 0
        try:
            self.engine = start_engine(settings, [])
        except EngineError as error:
            remedy = "give this volume a cache_dir of its own, or let it use the node (node=True)"
            raise CacheFailure(error.code, f"{error.message}; {remedy}") from error

    @classmethod
    def take(cls, settings: Settings) -> SharedEngine:
        key = _key(settings)
        with cls._lock:
            shared = cls._running.get(key)
            if shared is None or shared.pid != os.getpid():
                shared = cls._running[key] = cls(settings)
            shared.users += 1
            return shared

    def give_back(self, settings: Settings) -> None:
        with self._lock:
            self.users -= 1
            if self.users == 0 and self.pid == os.getpid():
                del self._running[_key(settings)]
                self.engine.shutdown()


def _key(settings: Settings) -> tuple[str, ...]:
    return tuple(os.path.realpath(path) for path, _ in settings.cache_directories)


class OwnEngine:
    """The ground of a volume on an engine of its own."""

    def __init__(self, settings: Settings, request: dict[str, Any], progress: Callable[[dict[str, Any]], None] | None) -> None:
        bucket, prefix = parse_uri(request["source"])
        origin = resolver.resolve(request["environment"], request["origin"])
        store = VolumeStore(settings.snapshots, origin["endpoint"], bucket, prefix)
        self._settings = settings
        self._shared = SharedEngine.take(settings)
        self._origin = secrets.token_hex(6)
        self._closed = False
        try:
            # Nobody would keep what was learned.
            add_origin(self._engine, settings, self._origin, bucket, origin, learn_order=False)
            with self._shared.listing:
                self.version = self._choose(store, request["snapshot"], progress)
        except EngineError as error:
            self.close()
            raise call_failure(error) from error
        except BaseException:
            self.close()
            raise
        self._path = str(store.path(self.version))

    def _choose(self, store: VolumeStore, wanted: str | None, progress: Callable[[dict[str, Any]], None] | None) -> str:
        if wanted:
            return store.find(wanted)

        def report(part: dict[str, Any]) -> bool:
            if progress:
                progress(part)
            return True

        return publish_listing(self._engine, self._origin, store, report)[0]

    @property
    def _engine(self) -> Engine:
        if self._closed:
            raise ValueError("the volume is closed")
        if self._shared.pid != os.getpid():
            raise NodeFailure("forked", "the volume's engine runs in the process that forked; open the volume after the fork")
        return self._shared.engine

    def entries(self, directory: str) -> Iterator[dict[str, Any]]:
        yield from self._engine.snapshot_list(self._path, directory)

    def stat(self, path: str) -> dict[str, Any] | None:
        return self._engine.snapshot_stat(self._path, path)

    def warm(self, paths: list[str], progress: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        raised: list[BaseException] = []

        def report(part: dict[str, int]) -> bool:
            try:
                progress(part)
            except BaseException as error:
                # Stops the warm-up; the caller gets it below, as it was raised.
                raised.append(error)
            return not raised

        try:
            answer = pull(self._engine, self._origin, self._path, paths, report)
        except EngineError as error:
            raise call_failure(error) from error
        if raised:
            raise raised[0]
        return answer

    def handle(self, path: str) -> OwnHandle:
        try:
            return OwnHandle(self, self._engine.open(self._origin, self._path, path), path)
        except EngineError as error:
            raise read_failure(error, path) from error

    def close(self) -> None:
        if self._closed:
            return
        if self._shared.pid == os.getpid():
            self._shared.engine.remove_origin(self._origin)
        self._closed = True
        self._shared.give_back(self._settings)

    def __del__(self) -> None:
        # Not there when the engine could not be started.
        if hasattr(self, "_closed"):
            self.close()


class OwnHandle:
    """A file read through the engine of this process."""

    def __init__(self, ground: OwnEngine, file: _engine.File, path: str) -> None:
        self._ground = ground
        self._file = file
        self._path = path

    def read_into(self, offset: int, buffer: Any) -> int:
        try:
            return self._file.read_into(offset, buffer)
        except EngineError as error:
            raise read_failure(error, self._path) from error

    def descriptor(self) -> int | None:
        try:
            return self._file.descriptor()
        except EngineError as error:
            raise read_failure(error, self._path) from error

    def close(self) -> None:
        """The engine lets go of the file when this handle is dropped."""
