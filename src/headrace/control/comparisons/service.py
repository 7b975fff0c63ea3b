"""What can be done with comparisons, inside the caller's transaction. One runs for an acceleration at a time; who asks meanwhile gets that one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from headrace.control.accelerations.placement import ranked
from headrace.control.clock import Clock
from headrace.control.comparisons.models import Comparison
from headrace.control.ids import new_id
from headrace.control.problems import refused
from headrace.control.regions import service as regions

# Longer than listing a million files takes.
_LASTS = timedelta(minutes=10)
_SHOWN_LASTS = timedelta(days=1)


async def begin(
    session: AsyncSession, clock: Clock, acceleration_id: str, region_id: str, version: int, who: str, nodes: Collection[str]
) -> Comparison:
    """A comparison with a version; the acceleration's row is locked by the caller."""
    running = await session.scalar(select(Comparison).where(Comparison.acceleration_id == acceleration_id, Comparison.ended.is_(None)))
    if running is not None:
        return running
    now = clock.now()
    identifier = new_id(now)
    row = Comparison(
        id=identifier,
        acceleration_id=acceleration_id,
        region_id=region_id,
        who=who,
        version=version,
        lease=1,
        node_id=ranked(identifier, nodes)[0],
        created=now,
        ended=None,
        found=None,
        error="",
    )
    session.add(row)
    await regions.bump(session, region_id)
    return row


async def answer(session: AsyncSession, clock: Clock, identifier: str, node_id: str, lease: int, found: Mapping[str, Any] | None, error: str) -> None:
    """What the node found, or why it could not. Raises `stale-listing` where another node was asked meanwhile, or nobody is any more."""
    row = await session.get(Comparison, identifier, with_for_update=True)
    if row is None or row.ended is not None or row.node_id != node_id or row.lease != lease:
        raise refused("stale-listing")
    row.ended, row.found, row.error = clock.now(), None if found is None else dict(found), error
    await regions.bump(session, row.region_id)


async def sweep(session: AsyncSession, clock: Clock, row: Comparison, nodes: Sequence[str]) -> None:
    """Asks another node where the one that was asked is gone; gives up after a bound."""
    if row.ended is not None:
        return
    if clock.now() - row.created > _LASTS:
        row.ended, row.error = clock.now(), "no node has answered in time"
        await regions.bump(session, row.region_id)
    elif row.node_id not in nodes and nodes:
        row.lease += 1
        row.node_id = ranked(f"{row.id}/{row.lease}", nodes)[0]
        await regions.bump(session, row.region_id)


async def running(session: AsyncSession) -> list[tuple[str, str]]:
    """Ids of those that have not ended, and their regions."""
    found = await session.execute(select(Comparison.id, Comparison.region_id).where(Comparison.ended.is_(None)).order_by(Comparison.id))
    return [(identifier, region) for identifier, region in found]


async def asked_of(session: AsyncSession, node_id: str) -> dict[str, Comparison]:
    """What a node is asked for, by the acceleration."""
    found = await session.scalars(select(Comparison).where(Comparison.node_id == node_id, Comparison.ended.is_(None)))
    return {row.acceleration_id: row for row in found}


async def find(session: AsyncSession, acceleration_id: str, identifier: str) -> Comparison:
    """The comparison of this id. Raises `not-found`."""
    row = await session.get(Comparison, identifier)
    if row is None or row.acceleration_id != acceleration_id:
        raise refused("not-found", noun="comparison", name=identifier)
    return row


async def lookup(session: AsyncSession, identifier: str) -> Comparison | None:
    return await session.get(Comparison, identifier, with_for_update=True)


async def drop_old(session: AsyncSession, now: datetime) -> None:
    """Forgets those that ended a while ago."""
    await session.execute(delete(Comparison).where(Comparison.ended <= now - _SHOWN_LASTS))
