"""Reads bodies whole before anybody looks at them: they are small here, and a framework that meets the end of one itself tells another error."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace.control.problems import Problem, refused

# A part of a snapshot, and a little.
BODY_MAX = 2**20
# For the whole: whoever sends a byte now and then holds no connection for ever. 1 MiB in a minute is 140 kbit/s.
BODY_SECONDS = 60.0

Answer = Callable[[Request, Problem], Response]


class Bounded:
    """Refuses bodies that are too large, and those that take too long."""

    def __init__(self, app: ASGIApp, answer: Answer) -> None:
        self._app, self._answer = app, answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(BODY_SECONDS):
                content = await _content(receive)
        except TimeoutError:
            await self._refuse(refused("too-slow", seconds=int(BODY_SECONDS)), scope, receive, send)
        except Problem as problem:
            await self._refuse(problem, scope, receive, send)
        else:
            if content is not None:
                await self._app(scope, _again(content, receive), send)

    async def _refuse(self, problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._answer(Request(scope), problem)
        answer.headers["Connection"] = "close"  # the rest of the body is not read
        await answer(scope, receive, send)


async def _content(receive: Receive) -> bytes | None:
    """The body; None where the caller went away. Raises the problem `too-large`."""
    parts: list[bytes] = []
    length, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        length += len(parts[-1])
        more = message.get("more_body", False)
        if length > BODY_MAX:
            raise refused("too-large", most=BODY_MAX)
    return b"".join(parts)


def _again(content: bytes, receive: Receive) -> Callable[[], Awaitable[Message]]:
    """Gives the body once, and then what really comes."""
    body: Message | None = {"type": "http.request", "body": content, "more_body": False}

    async def again() -> Message:
        nonlocal body
        message, body = body, None
        return message if message is not None else await receive()

    return again
