"""The HTTP application: routes, and problem documents for whatever goes wrong."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from headrace.control import api
from headrace.control.accelerations import node_routes as of_nodes
from headrace.control.accelerations import routes as accelerations
from headrace.control.background import work_for_ever
from headrace.control.bodies import Bounded
from headrace.control.checks import routes as checks
from headrace.control.comparisons import routes as comparisons
from headrace.control.database import DatabaseAway, problem_of
from headrace.control.described import ANSWERS, with_problems
from headrace.control.events import routes as events
from headrace.control.invalid import findings_of
from headrace.control.nodes import routes as nodes
from headrace.control.problems import Problem, refused
from headrace.control.regions import routes as regions
from headrace.control.requests import ControlPlane
from headrace.control.tasks import node_routes as tasks_of_nodes
from headrace.control.tasks import routes as tasks
from headrace.control.tokens import routes as tokens
from headrace.control.usage import node_routes as usage_of_nodes
from headrace.control.usage import routes as usage
from headrace.control.volumes import routes as volumes
from headrace.control.warmups import routes as warmups
from headrace.printable import printable

log = logging.getLogger("headrace.control")

TITLE = "Headrace"
_PROBLEM = "application/problem+json"
_SHOWN_MAX = 200


def create_app(control: ControlPlane) -> FastAPI:
    """The application of one replica; closing it closes the database."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        working = asyncio.create_task(work_for_ever(control))
        yield
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working
        await control.database.close()

    # The document is at an address that needs a token too; there are no pages beside it.
    app = with_routes(FastAPI(title=TITLE, version="1", lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None))
    app.state.control = control
    app.add_middleware(Bounded, answer=_answer)
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(DatabaseAway, _away)
    app.add_exception_handler(SQLAlchemyError, _database)
    app.add_exception_handler(Exception, _failed)
    return app


def with_routes(app: FastAPI) -> FastAPI:
    """The application with every noun's routes."""
    of_people = (tokens, events, volumes, regions, nodes, accelerations, comparisons, checks, warmups, tasks, usage, api)
    for noun in (*of_people, of_nodes, tasks_of_nodes, usage_of_nodes):
        app.include_router(noun.router, responses=ANSWERS)
    return with_problems(app)


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
    if not isinstance(error, RequestValidationError):
        raise error
    return _answer(request, refused("invalid", findings_of(error.errors())))


async def _http(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    code = {404: "no-such-route", 405: "method-not-allowed"}.get(error.status_code, "invalid")
    answer = _answer(request, refused(code))
    if error.status_code == 405:
        answer.headers["Allow"] = ", ".join(_methods(request))
    return answer


def _methods(request: Request) -> list[str]:
    """What may be asked at this address, by the document: each method is a route of its own, and the framework names that of one only."""
    there = [methods for path, methods in request.app.openapi()["paths"].items() if compile_path(path)[0].match(request.url.path)]
    return sorted({method.upper() for methods in there for method in methods})


async def _away(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, DatabaseAway):
        raise error
    log.warning("%s: database-away: %s", _shown(request), printable(error.reason, _SHOWN_MAX))
    return _answer(request, refused("database-away"))


async def _database(request: Request, error: Exception) -> JSONResponse:
    """Away, busy or full: told as such, in the log with its reason. Anything else is a fault of ours."""
    code = problem_of(error) if isinstance(error, SQLAlchemyError) else None
    if code is None:
        return await _failed(request, error)
    reason = str(error.orig) if isinstance(error, DBAPIError) else str(error)
    log.warning("%s: %s: %s", _shown(request), code, printable(reason, _SHOWN_MAX))
    return _answer(request, refused(code))


async def _failed(request: Request, error: Exception) -> JSONResponse:
    number = secrets.token_hex(6)
    log.error("%s failed, request %s", _shown(request), number, exc_info=error)
    return _answer(request, refused("internal", request=number))


def _shown(request: Request) -> str:
    """Method and path as they were sent, still encoded: a path may hold a line's end that would begin a line of the log."""
    raw = request.scope.get("raw_path") or request.url.path.encode()
    return f"{request.method} {printable(raw.decode('latin-1'), _SHOWN_MAX)}"
