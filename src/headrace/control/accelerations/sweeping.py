"""What time brings about, by every replica every few seconds (`background.py`).

Each acceleration has a transaction of its own, on its locked row. There is no leader: whoever comes second finds that nothing is left to do.
"""

from __future__ import annotations

import logging

from sqlalchemy.ext.asyncio import AsyncSession

from headrace.control.accelerations import pulls, queries, service
from headrace.control.accelerations.names import names_of
from headrace.control.accelerations.placement import Candidate
from headrace.control.clock import Clock
from headrace.control.database import Database, DatabaseAway
from headrace.control.nodes import service as nodes

log = logging.getLogger("headrace.control")


async def candidates(session: AsyncSession, clock: Clock, region_id: str) -> list[Candidate]:
    """Nodes of a region that may hold something."""
    return [Candidate(identifier, labels) for identifier, labels in await nodes.ready(session, clock.now(), region_id)]


async def sweep_once(database: Database, clock: Clock) -> None:
    """Looks at everything that may be due, once."""
    async with database.reading() as session:
        waiting = await queries.due(session, clock.now())
    for identifier in waiting:
        try:
            async with database.writing() as session:
                await _sweep(session, clock, identifier)
        except DatabaseAway:
            raise
        except Exception:
            # One that can't be swept must not keep all others from it.
            log.exception("sweeping the acceleration %s", identifier)


async def _sweep(session: AsyncSession, clock: Clock, identifier: str) -> None:
    row = await queries.lookup(session, identifier, lock=True)
    if row is None:
        return  # it went away with its volume
    names = await names_of(session, row)
    there = await candidates(session, clock, row.region_id)
    await pulls.sweep(session, clock, row, names, there)
    await service.refresh_if_due(session, clock, row, names, there)
