"""Server-sent events: how a long operation gets on, without asking again and again.

A stream sends the document whenever it has changed (`event: progress`), and a last time when it is over (`event: end`). It lasts two
minutes at most, so that a token that was revoked is not good for longer; clients connect again, as `EventSource` does by itself.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from headrace.control.database import DatabaseAway
from headrace.control.problems import Problem, refused
from headrace.control.requests import ControlPlane

Document = TypeVar("Document", bound=BaseModel)

MEDIA_TYPE = "text/event-stream"
# For the description of a route: what it answers is no JSON.
ANSWERS: dict[int | str, dict[str, Any]] = {200: {"description": "Server-sent events; `data` is the document.", "content": {MEDIA_TYPE: {}}}}
_LOOK_SECONDS = 1.0
_LONGEST_SECONDS = 120.0
# Proxies end connections on which nothing comes for long.
_QUIET_SECONDS = 15.0


class EventStream(StreamingResponse):
    """An answer whose description is that of events."""

    media_type = MEDIA_TYPE


async def stream(control: ControlPlane, request: Request, load: Callable[[], Awaitable[Document]], over: Callable[[Document], bool]) -> EventStream:
    """A stream of what `load` gives, until it is `over`. Raises what the first `load` raises, and `too-many-streams`."""
    if control.streams.locked():
        raise refused("too-many-streams")
    first = await load()
    return EventStream(_events(control, request, first, load, over), headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})


async def _events(
    control: ControlPlane, request: Request, document: Document, load: Callable[[], Awaitable[Document]], over: Callable[[Document], bool]
) -> AsyncIterator[str]:
    began = said = time.monotonic()
    last = ""
    async with control.streams:
        while True:
            text = document.model_dump_json()
            if over(document):
                yield _event("end", text)
                return
            if text != last:
                last, said = text, time.monotonic()
                yield _event("progress", text)
            elif time.monotonic() - said > _QUIET_SECONDS:
                said = time.monotonic()
                yield ": still here\n\n"
            if time.monotonic() - began > _LONGEST_SECONDS or control.watch.ended or await request.is_disconnected():
                return
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                document = await load()
            except Problem as problem:
                yield _event("problem", json.dumps(problem.document(request.headers.get("accept-language", "en"))))
                return
            except DatabaseAway:
                continue  # the last document is still the newest that anybody knows


def _event(kind: str, text: str) -> str:
    """JSON has no line ends of its own, so it is one line."""
    return f"event: {kind}\ndata: {text}\n\n"
