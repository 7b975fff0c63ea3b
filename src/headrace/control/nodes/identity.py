"""Which node a request comes from."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials

from headrace.control.nodes import service
from headrace.control.problems import refused
from headrace.control.requests import ControlPlane, guarded_by


async def _enrolled(control: ControlPlane, bearer: HTTPAuthorizationCredentials | None) -> service.Identity:
    if bearer is None:
        raise refused("unauthenticated")
    async with control.database.reading() as session:
        found = await service.identity_of(session, bearer.credentials)
    if found is None:
        raise refused("unauthenticated")
    return found


OfNode = Annotated[service.Identity, Depends(guarded_by(_enrolled))]
