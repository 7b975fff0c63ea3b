"""What can be done with warm-ups; each inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from headrace.control.accelerations import queries
from headrace.control.accelerations.names import Names
from headrace.control.accelerations.pulls import STALLED_AFTER, Held
from headrace.control.clock import Clock
from headrace.control.events.service import Subject, record
from headrace.control.ids import new_id
from headrace.control.pages import Page, page
from headrace.control.problems import refused
from headrace.control.regions import service as regions
from headrace.control.tokens.caller import Caller
from headrace.control.warmups.models import Warmup, WarmupNode

_SHOWN_LASTS = timedelta(days=7)
_DROPPED_AT_ONCE = 500


class End(StrEnum):
    """How a warm-up ended."""

    NONE = ""
    DONE = "done"
    CANCELLED = "cancelled"
    # No node got any further for ten minutes.
    STALLED = "stalled"
    # The acceleration, the version or every node is not there any more.
    GONE = "gone"


@dataclass(frozen=True)
class Wanted:
    """What is warmed where."""

    acceleration_id: str
    region_id: str
    owner: str
    version: int
    selection: Mapping[str, Any]
    nodes: Collection[str]


async def start(session: AsyncSession, clock: Clock, caller: Caller, names: Names, wanted: Wanted) -> Warmup:
    """Begins a warm-up."""
    now = clock.now()
    row = Warmup(
        id=new_id(now),
        acceleration_id=wanted.acceleration_id,
        region_id=wanted.region_id,
        owner=wanted.owner,
        volume=names.volume,
        region=names.region,
        who=caller.subject,
        version=wanted.version,
        selection=dict(wanted.selection),
        created=now,
        progressed=now,
        ended=None,
        end=End.NONE.value,
    )
    session.add(row)
    await session.flush()
    for node in sorted(wanted.nodes):
        session.add(WarmupNode(warmup_id=row.id, node_id=node, files=0, files_total=0, bytes=0, bytes_total=0, complete=False, error=""))
    await regions.bump(session, row.region_id)
    record(session, clock, _subject(row), "warmup-started", caller.subject, nodes=len(wanted.nodes), version=wanted.version)
    await session.flush()
    return row


async def told(session: AsyncSession, clock: Clock, identifier: str, node_id: str, held: Held) -> None:
    """How far a node is. The last one that is complete ends it."""
    row = await session.get(Warmup, identifier, with_for_update=True)
    known = await session.get(WarmupNode, (identifier, node_id))
    if row is None or known is None or row.ended is not None or held.version != row.version:
        return
    if held.bytes > known.bytes or held.complete:
        row.progressed = clock.now()
    known.files, known.files_total, known.bytes, known.bytes_total = held.files, held.files_total, held.bytes, held.bytes_total
    known.complete, known.error = held.complete, held.error
    await session.flush()
    if all(one.complete for one in await nodes_of(session, identifier)):
        await finish(session, clock, row, End.DONE, "headrace")


async def finish(session: AsyncSession, clock: Clock, row: Warmup, how: End, who: str) -> None:
    """Ends a warm-up; what was pulled stays cached as anything else. One that has ended stays as it ended."""
    if row.ended is not None:
        return
    row.ended, row.end = clock.now(), how.value
    await regions.bump(session, row.region_id)
    record(session, clock, _subject(row), f"warmup-{how.value}", who)


async def sweep(session: AsyncSession, clock: Clock, row: Warmup, usable: Collection[str]) -> None:
    """Ends what nobody can get further with; nodes that are gone are waited for as long as any other."""
    if await queries.version(session, row.acceleration_id, row.version) is None or not await nodes_of(session, row.id):
        await finish(session, clock, row, End.GONE, "headrace")
    elif clock.now() - row.progressed > STALLED_AFTER:
        for one in await nodes_of(session, row.id):
            if not one.complete and not one.error:
                one.error = "it is not heard" if one.node_id not in usable else "no progress"
        await finish(session, clock, row, End.STALLED, "headrace")


async def running(session: AsyncSession) -> list[tuple[str, str]]:
    """Ids of those that have not ended, and their regions."""
    found = await session.execute(select(Warmup.id, Warmup.region_id).where(Warmup.ended.is_(None)).order_by(Warmup.id))
    return [(identifier, region) for identifier, region in found]


async def asked_of(session: AsyncSession, node_id: str) -> dict[str, list[Warmup]]:
    """What a node is asked to warm and has not reported whole, by the acceleration."""
    mine = select(WarmupNode.warmup_id).where(WarmupNode.node_id == node_id)
    found: dict[str, list[Warmup]] = {}
    for row in await session.scalars(select(Warmup).where(Warmup.ended.is_(None), Warmup.id.in_(mine)).order_by(Warmup.id)):
        found.setdefault(row.acceleration_id, []).append(row)
    return found


async def find(session: AsyncSession, caller: Caller, identifier: str, *, lock: bool = False) -> Warmup:
    """The warm-up of this id. Raises `not-found`, also for one that the caller may not see."""
    row = await lookup(session, identifier, lock=lock)
    if row is None or not caller.may_see(row.owner):
        raise refused("not-found", noun="warm-up", name=identifier)
    return row


async def lookup(session: AsyncSession, identifier: str, *, lock: bool = False) -> Warmup | None:
    return await session.get(Warmup, identifier, with_for_update=lock or None)


async def listed(session: AsyncSession, caller: Caller, *, after: str | None, limit: int, region_id: str | None, ended: bool | None) -> Page[Warmup]:
    """Warm-ups that the caller may see, newest first."""
    query = select(Warmup)
    if not caller.is_admin:
        query = query.where(Warmup.owner == caller.subject)
    if region_id is not None:
        query = query.where(Warmup.region_id == region_id)
    if ended is not None:
        query = query.where(Warmup.ended.is_not(None) if ended else Warmup.ended.is_(None))
    return await page(session, query, Warmup.id, after=after, limit=limit, newest_first=True)


async def nodes_of(session: AsyncSession, identifier: str) -> list[WarmupNode]:
    return (await nodes_of_all(session, [identifier]))[identifier]


async def nodes_of_all(session: AsyncSession, identifiers: Sequence[str]) -> dict[str, list[WarmupNode]]:
    """How far nodes are with several warm-ups, by their ids."""
    found: dict[str, list[WarmupNode]] = {identifier: [] for identifier in identifiers}
    for one in await session.scalars(select(WarmupNode).where(WarmupNode.warmup_id.in_(identifiers)).order_by(WarmupNode.node_id)):
        found[one.warmup_id].append(one)
    return found


async def forget_node(session: AsyncSession, node_id: str) -> None:
    """A node is gone: nobody waits for it."""
    await session.execute(delete(WarmupNode).where(WarmupNode.node_id == node_id))


async def drop_old(session: AsyncSession, now: datetime) -> None:
    """Forgets those that ended long ago, some at a time."""
    old = list(await session.scalars(select(Warmup.id).where(Warmup.ended <= now - _SHOWN_LASTS).limit(_DROPPED_AT_ONCE)))
    await session.execute(delete(WarmupNode).where(WarmupNode.warmup_id.in_(old)))
    await session.execute(delete(Warmup).where(Warmup.id.in_(old)))


def _subject(row: Warmup) -> Subject:
    return Subject("warm-up", row.id, f"{row.volume}@{row.region}", row.owner)
