"""What time brings about for warm-ups, by every replica every few seconds."""

from __future__ import annotations

from headrace.control.accelerations.sweeping import candidates
from headrace.control.clock import Clock
from headrace.control.database import Database
from headrace.control.warmups import service


async def sweep_warmups(database: Database, clock: Clock) -> None:
    async with database.reading() as session:
        waiting = await service.running(session)
    for identifier, region_id in waiting:
        async with database.writing() as session:
            row = await service.lookup(session, identifier, lock=True)
            if row is not None and row.ended is None:
                await service.sweep(session, clock, row, {one.id for one in await candidates(session, clock, region_id)})
