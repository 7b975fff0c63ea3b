"""What time brings about for tasks, by every replica every few seconds: leases run out, and what was mounted is let go of."""

from __future__ import annotations

from headrace.control.accelerations import uses
from headrace.control.clock import Clock
from headrace.control.database import Database
from headrace.control.problems import Text
from headrace.control.tasks import service

_AT_ONCE = 500


async def sweep_lost(database: Database, clock: Clock) -> None:
    """Ends tasks of which something mounted was let go of."""
    async with database.reading() as session:
        lost = {use.task_id: use.lost for use in await uses.lost(session, _AT_ONCE)}
    for identifier, reason in lost.items():
        async with database.writing() as session:
            row = await service.lookup(session, identifier, lock=True)
            if row is None or row.ended is not None or reason is None:
                await uses.end(session, clock.now(), identifier)
            else:
                await service.end(session, clock, row, "headrace", service.End.LOST, Text(reason["en"], reason["zh"]))


async def sweep_leases(database: Database, clock: Clock) -> None:
    """Ends tasks whose lease ran out."""
    async with database.writing() as session:
        await service.shorten(session, clock.now())
    async with database.reading() as session:
        due = await service.due(session, clock.now(), _AT_ONCE)
    for identifier in due:
        async with database.writing() as session:
            row = await service.lookup(session, identifier, lock=True)
            if row is not None:
                await service.expire(session, clock, row)
