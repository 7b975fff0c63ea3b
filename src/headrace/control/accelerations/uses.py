"""Who uses an acceleration: the mounts of tasks, by the version that each reads; inside the caller's transaction.

A use keeps the version that it reads from being forgotten, and the clock of expiry from running. It ends with its task, or is lost
when the acceleration is let go of.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from headrace.control.accelerations.models import Acceleration, Use
from headrace.control.problems import Text

_NAMED_MAX = 20


async def of_tasks(session: AsyncSession, tasks: Collection[str]) -> dict[str, list[tuple[Use, Acceleration]]]:
    """What tasks use, each in the order of its mounts."""
    found: dict[str, list[tuple[Use, Acceleration]]] = {task: [] for task in tasks}
    query = select(Use, Acceleration).join(Acceleration, Acceleration.id == Use.acceleration_id).where(Use.task_id.in_(tasks))
    for use, row in await session.execute(query.order_by(Use.ordinal)):
        found[use.task_id].append((use, row))
    return found


async def holders(session: AsyncSession, acceleration_id: str) -> list[str]:
    """Names of tasks that mount it, the first few."""
    query = select(Use.task_id, Use.holder).where(Use.acceleration_id == acceleration_id, Use.lost.is_(None)).distinct()
    found = (await session.execute(query.order_by(Use.task_id).limit(_NAMED_MAX + 1))).all()
    names = [holder for _, holder in found]
    return [*names[:_NAMED_MAX], "…"] if len(names) > _NAMED_MAX else names


async def counts(session: AsyncSession, accelerations: Collection[str]) -> dict[str, int]:
    """How many tasks use each; one that nobody uses is missing."""
    query = select(Use.acceleration_id, func.count(Use.task_id.distinct())).where(Use.acceleration_id.in_(accelerations), Use.lost.is_(None))
    return dict((await session.execute(query.group_by(Use.acceleration_id))).all())


async def versions(session: AsyncSession, acceleration_id: str) -> set[int]:
    """Numbers of versions that somebody reads."""
    query = select(Use.version).where(Use.acceleration_id == acceleration_id, Use.version.is_not(None)).distinct()
    return {number for number in await session.scalars(query) if number is not None}


async def settle_versions(session: AsyncSession, acceleration_id: str, number: int) -> None:
    """There is a version now: who waited for one reads it from now on. Those that follow read whatever is current."""
    waiting = (Use.acceleration_id == acceleration_id, Use.version.is_(None), Use.follow.is_(False), Use.lost.is_(None))
    await session.execute(update(Use).where(*waiting).values(version=number))


async def lose(session: AsyncSession, acceleration_id: str, reason: Text, *, waiting_only: bool = False) -> None:
    """Ends uses of an acceleration that is let go of: all, or those that still wait for a version. Their tasks end with that."""
    which = [Use.acceleration_id == acceleration_id, Use.lost.is_(None)]
    if waiting_only:
        which += [Use.version.is_(None), Use.follow.is_(False)]
    await session.execute(update(Use).where(*which).values(lost=reason.document()))


async def lost(session: AsyncSession, limit: int) -> Sequence[Use]:
    """Uses whose acceleration was let go of; their tasks are to end."""
    return (await session.scalars(select(Use).where(Use.lost.is_not(None)).order_by(Use.task_id).limit(limit))).all()


async def end(session: AsyncSession, now: datetime, task_id: str) -> None:
    """A task is over: the clocks of what it used begin at this moment. Accelerations are locked in the order of their ids, as everywhere."""
    used = select(Use.acceleration_id).where(Use.task_id == task_id)
    for row in await session.scalars(select(Acceleration).where(Acceleration.id.in_(used)).order_by(Acceleration.id).with_for_update()):
        row.used = max(row.used, now)
    await session.execute(delete(Use).where(Use.task_id == task_id))
