"""A control plane on a free port of loopback, in a thread of this process, with a clock that a test can set forward."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from headrace.client import ControlClient
from headrace.control import server, settings
from headrace.control.clock import Clock
from headrace.control.requests import ControlPlane

_START_SECONDS = 60.0


@dataclass(frozen=True)
class RunningControl:
    """A replica that answers."""

    url: str
    first_token: str | None  # of an administrator, for one exchange; only where the database was empty
    clock: Clock
    plane: ControlPlane
    loop: asyncio.AbstractEventLoop

    def client(self, token: str, *, language: str = "en") -> ControlClient:
        return ControlClient(self.url, token, language=language)


@contextmanager
def control_plane(state: Path, database: str | None = None, **options: str) -> Iterator[RunningControl]:
    """A replica whose state is in a directory; `options` are settings by name, without `control_`. Origins may be on this machine."""
    given: dict[str, str | None] = {"control_origins_allow": "127.0.0.0/8,::1/128"}
    given |= {f"control_{name}": value for name, value in options.items()}
    given |= {"control_state": str(state), "control_database": database, "control_listen": "127.0.0.1:0"}
    chosen = settings.load(given, {})
    replica = _Replica(chosen)
    replica.start()
    try:
        yield replica.running()
    finally:
        replica.stop()


class _Replica(threading.Thread):
    def __init__(self, chosen: settings.ControlSettings) -> None:
        super().__init__(name="control plane", daemon=True)
        self._settings = chosen
        self._ready = threading.Event()
        self._running: RunningControl | None = None
        self._failure: BaseException | None = None
        self._server: server.Replica | None = None

    def run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as failure:
            self._failure = failure
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        clock = Clock()
        self._server = await server.Replica.open(self._settings, clock)
        self._running = RunningControl(self._server.url, self._server.first_token, clock, self._server.control, asyncio.get_running_loop())
        self._ready.set()
        await self._server.serve()

    def running(self) -> RunningControl:
        if not self._ready.wait(_START_SECONDS) or self._running is None:
            raise RuntimeError("the control plane did not start") from self._failure
        return self._running

    def stop(self) -> None:
        if self._server is not None:
            self._server.end()
        self.join(_START_SECONDS)
        if self._failure is not None:
            raise RuntimeError("the control plane failed") from self._failure
