"""The HTTP application: routes, and problem documents for whatever goes wrong."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace.control import api
from headrace.control.accelerations import node_routes as of_nodes
from headrace.control.accelerations import routes as accelerations
from headrace.control.accelerations.sweeping import sweep_for_ever
from headrace.control.events import routes as events
from headrace.control.nodes import routes as nodes
from headrace.control.problems import Finding, Problem, Text, refused
from headrace.control.regions import routes as regions
from headrace.control.requests import ControlPlane
from headrace.control.tokens import routes as tokens
from headrace.control.volumes import routes as volumes

log = logging.getLogger("headrace.control")

_BODY_MAX = 2**20
# Between two parts of a body.
_BODY_SECONDS = 20.0
TITLE = "Headrace"
_PROBLEM = "application/problem+json"
_CORRECT_IT = Text("correct it", "请更正")


def create_app(control: ControlPlane) -> FastAPI:
    """The application of one replica; closing it closes the database."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(sweep_for_ever(control.database, control.clock))
        yield
        sweeping.cancel()
        await asyncio.gather(sweeping, return_exceptions=True)
        await control.database.close()

    # The document is at an address that needs a token too; there are no pages beside it.
    app = with_routes(FastAPI(title=TITLE, version="1", lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None))
    app.state.control = control
    app.add_middleware(_Bounded)
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(SQLAlchemyError, _database)
    app.add_exception_handler(Exception, _failed)
    return app


def with_routes(app: FastAPI) -> FastAPI:
    """The application with every noun's routes."""
    for router in (tokens.router, events.router, volumes.router, regions.router, nodes.router, accelerations.router, of_nodes.router, api.router):
        app.include_router(router)
    return app


def _answer(request: Request, problem: Problem) -> JSONResponse:
    headers = {"WWW-Authenticate": "Bearer"} if problem.status == 401 else {}
    if problem.status == 503:
        headers["Retry-After"] = "2"
    document = problem.document(request.headers.get("accept-language", "en"))
    return JSONResponse(document, problem.status, headers, media_type=_PROBLEM)


async def _problem(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, Problem):
        raise error
    return _answer(request, error)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """Names the fields. What was sent is not repeated: it may be a secret."""
    if not isinstance(error, RequestValidationError):
        raise error
    found = [Finding(_field(entry["loc"]), "invalid", _same(entry["msg"]), _CORRECT_IT) for entry in error.errors()[:100]]
    return _answer(request, refused("invalid", found))


def _field(where: tuple[Any, ...]) -> str:
    parts = [str(part) for part in where]
    return ".".join(parts[1:] if len(parts) > 1 else parts)[:200]


def _same(sentence: str) -> Text:
    """A sentence of pydantic, which has English only."""
    return Text(sentence.removeprefix("Value error, "), sentence.removeprefix("Value error, "))


async def _http(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    code = {404: "no-such-route", 405: "method-not-allowed"}.get(error.status_code, "invalid")
    return _answer(request, refused(code))


async def _database(request: Request, error: Exception) -> JSONResponse:
    """Away, busy or full: told as such, in the log with its reason. Anything else is a fault of ours."""
    text = str(error.orig) if isinstance(error, DBAPIError) else str(error)
    if "disk is full" in text or "No space left" in text:
        code = "database-full"
    elif isinstance(error, PoolTimeout) or (isinstance(error, DBAPIError) and _is_away(error, text)):
        code = "database-away"
    else:
        return await _failed(request, error)
    log.warning("%s %s: %s: %s", request.method, request.url.path, code, text.splitlines()[0] if text else type(error).__name__)
    return _answer(request, refused(code))


def _is_away(error: DBAPIError, text: str) -> bool:
    return (
        error.connection_invalidated
        or isinstance(error.orig, OSError)
        or any(
            word in text
            for word in ("database is locked", "unable to open", "connection", "shutting down", "starting up", "readonly database", "disk I/O")
        )
    )


async def _failed(request: Request, error: Exception) -> JSONResponse:
    number = secrets.token_hex(6)
    log.error("%s %s failed, request %s", request.method, request.url.path, number, exc_info=error)
    return _answer(request, refused("internal", request=number))


class _Bounded:
    """Reads bodies whole, which are small here, and refuses larger ones: a framework that meets the end of one itself tells another error."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        parts: list[bytes] = []
        more, length = True, 0
        while more:
            try:
                message = await asyncio.wait_for(receive(), _BODY_SECONDS)
            except TimeoutError:
                return  # the connection is closed: nobody is served by waiting for the rest
            if message["type"] == "http.disconnect":
                return
            parts.append(message.get("body", b""))
            length += len(parts[-1])
            more = message.get("more_body", False)
            if length > _BODY_MAX:
                await _answer(Request(scope), refused("too-large", most=_BODY_MAX))(scope, receive, send)
                return
        body: Message | None = {"type": "http.request", "body": b"".join(parts), "more_body": False}

        async def again() -> Message:
            nonlocal body
            message, body = body, None
            return message if message is not None else await receive()

        await self._app(scope, again, send)
