"""One replica, from its settings to its end."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

import uvicorn

from headrace.control.app import create_app
from headrace.control.clock import Clock
from headrace.control.database import Database
from headrace.control.migrations import upgrade
from headrace.control.requests import ControlPlane
from headrace.control.settings import ControlSettings
from headrace.control.tokens import service as tokens
from headrace.control.vault import Vault, open_master
from headrace.errors import HeadraceError

# Requests that are still answered when somebody asks it to end.
_GRACE_SECONDS = 10


async def open_control(settings: ControlSettings, clock: Clock | None = None) -> tuple[ControlPlane, str | None]:
    """A control plane on its database, brought to the newest schema; and the first token, at the first start only."""
    _own(settings)
    clock = clock or Clock()
    database = Database(settings.database)
    control = ControlPlane(settings, database, Vault(open_master(settings), clock), clock)
    await upgrade(database)
    async with database.writing() as session:
        first = await tokens.first(session, clock)
    return control, first


async def serve(settings: ControlSettings, told: Callable[[str, str | None], None]) -> None:
    """Serves until a signal. `told` gets the URL, and the first token at the first start, once requests are answered."""
    control, first = await open_control(settings)
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(control),
            host=settings.host,
            port=settings.port,
            ssl_certfile=settings.certificate,
            ssl_keyfile=settings.certificate_key,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
    )
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    await server.startup()
    if server.should_exit:
        raise HeadraceError("listen-failed", f"control listen: {settings.host}:{settings.port} can't be listened on; is another one running there?")
    port = server.servers[0].sockets[0].getsockname()[1]
    scheme = "https" if settings.certificate else "http"
    told(f"{scheme}://{f'[{settings.host}]' if ':' in settings.host else settings.host}:{port}", first)
    with server.capture_signals():
        await server.main_loop()
        await server.shutdown()


def _own(settings: ControlSettings) -> None:
    """The state directory, where anything is kept in it: nobody else may look into it."""
    if settings.on_sqlite or not settings.master_key:
        settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chmod(settings.state, 0o700)
