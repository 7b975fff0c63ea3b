"""The API's own description: the OpenAPI 3.1 document, for whoever has a token, and for the repository."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request

from headrace.control.requests import Guarded, allowed
from headrace.control.tokens.caller import Caller

router = APIRouter(prefix="/v1", tags=["api"], route_class=Guarded)


@router.get("/openapi.json", operation_id="openapi")
async def openapi(request: Request, _caller: Annotated[Caller, allowed("events:read")]) -> dict[str, Any]:
    """This document."""
    document: dict[str, Any] = request.app.openapi()
    return document
