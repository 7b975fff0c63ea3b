"""Taking the mounts of a task: each is a use of an acceleration, which is locked for it."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from headrace.control.accelerations import mounting, queries
from headrace.control.accelerations.names import names_of
from headrace.control.accelerations.sweeping import candidates
from headrace.control.clock import Clock
from headrace.control.problems import Problem
from headrace.control.tasks import service
from headrace.control.tasks.models import Task, TaskMount


async def take(session: AsyncSession, clock: Clock, row: Task, mounts: Sequence[TaskMount]) -> None:
    """Uses of everything that a task mounts. Raises what `mounting.mount` does; accelerations are locked in the order of their ids."""
    holder = f"{row.name or row.id} ({row.owner})"[:160]
    # All of them before the first changes: a change locks the region's row, which others ask for while they hold one of these.
    ids = sorted({mount.acceleration_id for mount in mounts})
    accelerations = {identifier: await queries.by_id(session, identifier, lock=True) for identifier in ids}
    for mount in sorted(mounts, key=lambda one: (one.acceleration_id, one.ordinal)):
        found = accelerations[mount.acceleration_id]
        version = f"v{mount.version}" if mount.version is not None and not mount.follow else mount.wanted
        wanted = mounting.Wanted(row.id, mount.ordinal, holder, version, mount.follow)
        there = await candidates(session, clock, found.region_id)
        await mounting.mount(session, clock, found, await names_of(session, found), there, wanted)
    await session.flush()


async def revive(session: AsyncSession, clock: Clock, identifier: str, lease: int, who: str) -> bool:
    """A node says that a task lives whose lease ran out while it could not be heard: takes its mounts again; False where that can't be."""
    row = await service.lookup(session, identifier, lock=True)
    if row is None or row.lease != lease or (row.ended is not None and row.end != service.End.LEASE):
        return False
    if row.ended is None:
        return True
    mounts = await service.mounts_of(session, identifier)
    try:
        async with session.begin_nested():
            await take(session, clock, row, mounts)
    except Problem:
        return False
    service.revive(session, clock, row, who)
    return True
