"""One replica, from its settings to its end."""

from __future__ import annotations

import gc
import logging
import socket
import ssl
import threading
from pathlib import Path

import uvicorn
from sqlalchemy.exc import DBAPIError

from headrace.control.accelerations.instructions import Instructions
from headrace.control.app import create_app
from headrace.control.clock import Clock
from headrace.control.database import Database, database_url
from headrace.control.events.service import Subject, record
from headrace.control.migrations import upgrade
from headrace.control.ownership import own_directory, own_file
from headrace.control.requests import ControlPlane
from headrace.control.settings import ControlSettings
from headrace.control.tokens import service as tokens
from headrace.control.vault import Vault, open_master
from headrace.control.watch import Watch
from headrace.errors import HeadraceError, UsageError
from headrace.printable import printable

# Requests that are still answered when somebody asks it to end.
_GRACE_SECONDS = 10
# Objects made and not gone, by generation; Python's own are 700, 10 and 10.
_COLLECT_AFTER = (20_000, 10, 20)
# Longer than the pause between two heartbeats, or each would be a connection, and a TLS handshake, of its own; and longer than clients keep one
# (`headrace.client`), so that it is them who close it, and no request meets an end.
_KEEP_SECONDS = 75
_REASON_MAX = 200


async def open_control(settings: ControlSettings, clock: Clock | None = None) -> tuple[ControlPlane, str | None]:
    """A control plane on its database, brought to the newest schema; and the first token, at the first start only."""
    _own(settings)
    clock = clock or Clock()
    database = Database(settings.database)
    try:
        control = ControlPlane(settings, database, Vault(open_master(settings), clock), clock, Watch(database), Instructions(database))
        await upgrade(database)
        async with database.writing() as session:
            await control.vault.verify(session)
            first = await tokens.first(session, clock)
    except BaseException as error:
        await database.close()
        if isinstance(error, DBAPIError):
            reason = printable(str(error.orig), _REASON_MAX)
            raise HeadraceError("database-unusable", f"control database: {reason}; correct control_database, or its rights") from None
        raise
    return control, first


class _Server(uvicorn.Server):
    """Lets go of nodes that wait for a change when it ends, by a signal too: they ask another replica."""

    def __init__(self, watch: Watch, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._watch = watch

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._watch.end()
        await super().shutdown(sockets)


async def new_admin_token(settings: ControlSettings) -> str:
    """A one-time token of an administrator, for whoever holds the database: the way back in when every other token is lost."""
    control, first = await open_control(settings)
    try:
        if first is not None:
            return first
        async with control.database.writing() as session:
            row, text = await tokens.one_time(session, control.clock, "made on the control plane's machine")
            record(session, control.clock, Subject("token", row.id, row.name, row.subject), "token-created", "headrace", "made on the host")
        return text
    finally:
        await control.database.close()


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
                timeout_keep_alive=_KEEP_SECONDS,
                timeout_graceful_shutdown=_GRACE_SECONDS,
            ),
        )
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)

    @classmethod
    async def open(cls, settings: ControlSettings, clock: Clock | None = None) -> Replica:
        """Listens first: a port that is taken is told before the database is touched, and a certificate that is none before a token is made."""
        _must_serve(settings)
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
        if threading.current_thread() is threading.main_thread():  # elsewhere the process is somebody else's
            _leave_out_of_collections()
        await self._server.serve(sockets=[self._listening])

    def end(self) -> None:
        self._server.should_exit = True


def _leave_out_of_collections() -> None:
    """What is loaded by now stays to the end. Looking for garbage in it took 150 ms every few seconds, in which nobody was answered.

    Nearly everything that a request makes is gone with its last reference, so the rest is looked at more rarely too.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)


def _listen(settings: ControlSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listening = socket.create_server((settings.host, settings.port), family=family, backlog=1024)
    except OSError as error:
        raise HeadraceError(
            "listen-failed", f"control listen: {settings.host}:{settings.port}: {error.strerror}; end what listens there, or choose another port"
        ) from None
    # Inherited by what it accepts. asyncio sets it only on sockets that name TCP as their protocol, which this does not; without it the second
    # part of each answer waits until the caller acknowledges the first, 40 ms.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def _own(settings: ControlSettings) -> None:
    """The state directory, where anything is kept in it, and SQLite's file, wherever it is (its journals get its mode)."""
    uses_key_there = not (settings.master_key or settings.master_key_command) and settings.master_key_file.parent == settings.state
    path = database_url(settings.database).database if settings.on_sqlite else None
    if uses_key_there or (path is not None and Path(path).absolute().parent == settings.state.absolute()):
        own_directory("control state", settings.state)
    if path is not None:
        own_file("control database", Path(path))


def _must_serve(settings: ControlSettings) -> None:
    """Raises UsageError for a certificate that HTTPS can't be served with."""
    if settings.certificate is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.certificate, settings.certificate_key, password="")
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            "bad-setting", f"control certificate: {settings.certificate} with its key can't be used: {error}; give both in PEM, made for each other"
        ) from None
