"""What every route needs: the control plane it belongs to, and a caller with the right to call it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from headrace.control.clock import Clock
from headrace.control.database import Database
from headrace.control.problems import refused
from headrace.control.settings import ControlSettings
from headrace.control.tokens import service as tokens
from headrace.control.tokens.caller import SCOPES, Caller
from headrace.control.vault import Vault
from headrace.control.watch import Watch


@dataclass(frozen=True)
class ControlPlane:
    """What a replica holds: everything else is in the database."""

    settings: ControlSettings
    database: Database
    vault: Vault
    clock: Clock
    watch: Watch


def _control(request: Request) -> ControlPlane:
    control: ControlPlane = request.app.state.control
    return control


Control = Annotated[ControlPlane, Depends(_control)]

# Refused by `_caller`, with a problem document: FastAPI's own refusal has another form.
_bearer = HTTPBearer(auto_error=False, description="A token: `hr_…`.")
Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def allowed(scope: str) -> Any:
    """A dependency: the caller, who must have this scope. Every route but the exchange of a token has one."""
    if scope not in SCOPES:
        raise ValueError(f"no scope {scope}")

    async def caller(control: Control, bearer: Bearer) -> Caller:
        if bearer is None:
            raise refused("unauthenticated")
        async with control.database.reading() as session:
            found = await tokens.caller_of(session, control.clock, bearer.credentials)
        if found is None:
            raise refused("unauthenticated")
        if missing := found.lacks(scope):
            raise refused("forbidden", needed=missing)
        return found

    return Depends(caller)
