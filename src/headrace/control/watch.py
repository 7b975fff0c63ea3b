"""Lets many wait for a change of what should be, with one question to the database for all of them.

A region's `desired` grows with every change that concerns its nodes. Those who wait look at a copy that is at most half a second old:
two hundred nodes that wait cost two queries a second.
"""

from __future__ import annotations

import asyncio
import time

from headrace.control.database import Database
from headrace.control.regions import service as regions

_FRESH_SECONDS = 0.5


class Watch:
    """Versions of what should be, by region."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._asking: asyncio.Task[dict[str, int]] | None = None
        self._seen: dict[str, int] = {}
        self._at = -1.0
        self._ended = False

    @property
    def ended(self) -> bool:
        """The replica ends: whoever waits for something is to be let go."""
        return self._ended

    def end(self) -> None:
        """Nobody waits any longer: a replica that ends would have to wait for them."""
        self._ended = True

    async def wait(self, region_id: str, known: int, seconds: float) -> int:
        """The region's version once it is another than `known`, or after so many seconds."""
        until = time.monotonic() + seconds
        while True:
            version = (await self._versions()).get(region_id, 0)
            left = until - time.monotonic()
            if version != known or left <= 0 or self._ended:
                return version
            await asyncio.sleep(min(left, _FRESH_SECONDS))

    async def _versions(self) -> dict[str, int]:
        """A copy that is fresh. All who wait share one question, and its failure: a database that hangs is not waited for one after the other."""
        if time.monotonic() - self._at < _FRESH_SECONDS:
            return self._seen
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        return await asyncio.shield(self._asking)

    async def _ask(self) -> dict[str, int]:
        async with self._database.reading() as session:
            self._seen = await regions.desired_versions(session)
        self._at = time.monotonic()
        return self._seen
