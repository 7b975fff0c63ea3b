"""One replica, from its settings to its end."""

from __future__ import annotations

import logging
import os
import socket

import uvicorn

from headrace.control.app import create_app
from headrace.control.clock import Clock
from headrace.control.database import Database
from headrace.control.migrations import upgrade
from headrace.control.requests import ControlPlane
from headrace.control.settings import ControlSettings
from headrace.control.tokens import service as tokens
from headrace.control.vault import Vault, open_master
from headrace.control.watch import Watch
from headrace.errors import HeadraceError

# Requests that are still answered when somebody asks it to end.
_GRACE_SECONDS = 10


async def open_control(settings: ControlSettings, clock: Clock | None = None) -> tuple[ControlPlane, str | None]:
    """A control plane on its database, brought to the newest schema; and the first token, at the first start only."""
    _own(settings)
    clock = clock or Clock()
    database = Database(settings.database)
    control = ControlPlane(settings, database, Vault(open_master(settings), clock), clock, Watch(database))
    await upgrade(database)
    async with database.writing() as session:
        await control.vault.verify(session)
        first = await tokens.first(session, clock)
    return control, first


class _Server(uvicorn.Server):
    """Lets go of nodes that wait for a change when it ends, by a signal too: they ask another replica."""

    def __init__(self, watch: Watch, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._watch = watch

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._watch.end()
        await super().shutdown(sockets)


class Replica:
    """One replica that listens; `serve` answers until a signal or `end`."""

    def __init__(self, control: ControlPlane, first_token: str | None, listening: socket.socket) -> None:
        self.control, self.first_token, self._listening = control, first_token, listening
        settings = control.settings
        self._server = _Server(
            control.watch,
            uvicorn.Config(
                create_app(control),
                ssl_certfile=settings.certificate,
                ssl_keyfile=settings.certificate_key,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=_GRACE_SECONDS,
            ),
        )
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)

    @classmethod
    async def open(cls, settings: ControlSettings, clock: Clock | None = None) -> Replica:
        """Listens first: a port that is taken is told before the database is touched."""
        listening = _listen(settings)
        try:
            control, first = await open_control(settings, clock)
        except BaseException:
            listening.close()
            raise
        return cls(control, first, listening)

    @property
    def url(self) -> str:
        settings = self.control.settings
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        return f"{'https' if settings.certificate else 'http'}://{host}:{self._listening.getsockname()[1]}"

    async def serve(self) -> None:
        await self._server.serve(sockets=[self._listening])

    def end(self) -> None:
        self._server.should_exit = True


def _listen(settings: ControlSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=1024)
    except OSError as error:
        raise HeadraceError(
            "listen-failed", f"control listen: {settings.host}:{settings.port}: {error.strerror}; end what listens there, or choose another port"
        ) from None


def _own(settings: ControlSettings) -> None:
    """The state directory, where anything is kept in it: nobody else may look into it."""
    if settings.on_sqlite or not settings.master_key:
        settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chmod(settings.state, 0o700)
