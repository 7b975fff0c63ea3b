"""What every route needs: the control plane it belongs to, and a caller with the right to call it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from headrace.control.accelerations.instructions import Instructions
from headrace.control.clock import Clock
from headrace.control.database import Database
from headrace.control.hearing import Hearing
from headrace.control.problems import refused
from headrace.control.settings import ControlSettings
from headrace.control.tokens import service as tokens
from headrace.control.tokens.caller import SCOPES, Caller
from headrace.control.vault import Vault
from headrace.control.watch import Watch

# Connection checks at once, of one replica.
CHECKS_MAX = 8
# Streams of server-sent events at once, likewise: each holds a connection.
STREAMS_MAX = 200

Found = TypeVar("Found")


@dataclass(frozen=True)
class ControlPlane:
    """What a replica holds: everything else is in the database."""

    settings: ControlSettings
    database: Database
    vault: Vault
    clock: Clock
    watch: Watch
    instructions: Instructions
    hearing: Hearing = field(default_factory=Hearing)
    # Each holds connections and memory for up to a minute.
    checks: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CHECKS_MAX))
    streams: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(STREAMS_MAX))


def _control(request: Request) -> ControlPlane:
    control: ControlPlane = request.app.state.control
    return control


Control = Annotated[ControlPlane, Depends(_control)]

# Refused by `_caller`, with a problem document: FastAPI's own refusal has another form.
_bearer = HTTPBearer(auto_error=False, description="A token: `hr_…`.")
Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


_guards: set[Any] = set()


def guarded_by(find: Callable[[ControlPlane, HTTPAuthorizationCredentials | None], Awaitable[Found]]) -> Callable[..., Coroutine[Any, Any, Found]]:
    """A dependency that finds out who calls, or refuses; a `Guarded` route asks it before it reads a body, and asks once."""

    async def once(request: Request, control: Control, bearer: Bearer) -> Found:
        known: dict[Any, Found] = request.scope.setdefault("headrace.guards", {})
        if once not in known:
            known[once] = await find(control, bearer)
        return known[once]

    _guards.add(once)
    return once


class Guarded(APIRoute):
    """A route that asks who calls before it looks at what they sent: a stranger is not told what a request should look like."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        guards = [one.call for one in self.dependant.dependencies if one.call in _guards]

        async def guarded(request: Request) -> Response:
            for guard in guards:
                await guard(request, _control(request), await _bearer(request))  # type: ignore[misc]
            return await handle(request)

        return guarded


def allowed(scope: str) -> Any:
    """A dependency: the caller, who must have this scope. Every route but the exchange of a token has one."""
    if scope not in SCOPES:
        raise ValueError(f"no scope {scope}")

    async def caller(control: ControlPlane, bearer: HTTPAuthorizationCredentials | None) -> Caller:
        if bearer is None:
            raise refused("unauthenticated")
        async with control.database.reading() as session:
            found = await tokens.caller_of(session, control.clock, bearer.credentials)
        if found is None:
            raise refused("unauthenticated")
        if missing := found.lacks(scope):
            raise refused("forbidden", needed=missing)
        return found

    return Depends(guarded_by(caller))
