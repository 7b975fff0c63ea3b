"""What time brings about, by every replica every few seconds (`background.py`).

Each acceleration has a transaction of its own, on its locked row. There is no leader: whoever comes second finds that nothing is left to do.
"""

from __future__ import annotations

import logging

from sqlalchemy.ext.asyncio import AsyncSession

from headrace.control.accelerations import service
from headrace.control.accelerations.models import Acceleration
from headrace.control.accelerations.placement import Candidate
from headrace.control.accelerations.service import Names
from headrace.control.clock import Clock
from headrace.control.database import Database, DatabaseAway
from headrace.control.nodes import service as nodes
from headrace.control.regions import service as regions
from headrace.control.volumes import service as volumes

log = logging.getLogger("headrace.control")


async def names_of(session: AsyncSession, row: Acceleration) -> Names:
    """What an acceleration is called."""
    region = await regions.by_id(session, row.region_id)
    return Names((await volumes.by_id(session, row.volume_id)).name, region.name)


async def candidates(session: AsyncSession, clock: Clock, region_id: str) -> list[Candidate]:
    """Nodes of a region that may hold something."""
    return [Candidate(row.id, row.labels) for row in await nodes.usable(session, clock.now(), region_id)]


async def sweep_once(database: Database, clock: Clock) -> None:
    """Looks at everything that may be due, once."""
    async with database.reading() as session:
        waiting = await service.due(session, clock.now())
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
    row = await service.lookup(session, identifier, lock=True)
    if row is None:
        return  # it went away with its volume
    names = await names_of(session, row)
    await service.sweep(session, clock, row, names, await candidates(session, clock, row.region_id))
