"""What time brings about, done by every replica every few seconds: each acceleration in a transaction of its own, on its locked row.

There is no leader: whoever comes second finds that nothing is left to do.
"""

from __future__ import annotations

import asyncio
import logging

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from headrace.control.accelerations import service
from headrace.control.accelerations.models import Acceleration
from headrace.control.accelerations.placement import Candidate
from headrace.control.accelerations.service import Names
from headrace.control.clock import Clock
from headrace.control.database import Database
from headrace.control.nodes import service as nodes
from headrace.control.problems import Problem
from headrace.control.regions import service as regions
from headrace.control.volumes import service as volumes

log = logging.getLogger("headrace.control")

_EVERY_SECONDS = 2.0


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
        async with database.writing() as session:
            try:
                row = await service.by_id(session, identifier, lock=True)
            except Problem:
                continue  # it went away with its volume
            names = await names_of(session, row)
            await service.sweep(session, clock, row, names, await candidates(session, clock, row.region_id))


async def sweep_for_ever(database: Database, clock: Clock) -> None:
    """Sweeps until cancelled; a database that is away for a while is waited for."""
    while True:
        try:
            await sweep_once(database, clock)
        except (SQLAlchemyError, OSError) as error:
            log.warning("sweeping: %s", str(error).splitlines()[0])
        await asyncio.sleep(_EVERY_SECONDS)
