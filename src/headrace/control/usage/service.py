"""Counting what is held, and showing usage; inside the caller's transaction.

What nodes told last that they hold is taken as held until it is looked at again, a minute later. A time that nobody looked (no replica
ran) is not counted beyond `_GAP_MAX`: nobody is billed for what nobody saw.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from headrace.control.accelerations import queries
from headrace.control.pages import Page, page
from headrace.control.tokens.caller import Caller
from headrace.control.usage import hours
from headrace.control.usage.models import UsageClock, UsageHour

EVERY = timedelta(minutes=1)
_GAP_MAX = timedelta(minutes=5)
_KIB = 1024
# Databases take some tens of thousands of values in a statement.
_NAMED_AT_ONCE = 1000
_ONLY = 1


async def count(session: AsyncSession, now: datetime) -> None:
    """Counts what is held since the last count. Of several replicas one counts; the others find that it is done."""
    clock = await session.get(UsageClock, _ONLY, with_for_update=True)
    if clock is None:
        await session.execute(hours.insert(session, UsageClock).on_conflict_do_nothing(), {"id": _ONLY, "counted": now})
        return
    if clock.counted <= now < clock.counted + EVERY:
        return
    # A clock that was set back begins anew.
    began, clock.counted = max(min(clock.counted, now), now - _GAP_MAX), now
    held = await queries.held_now(session)
    named = await hours.named(session, [row for row, _ in held])
    bytes_held = {row.id: bytes_held for row, bytes_held in held}
    for hour, seconds in _hours(began, now):
        for row in await _of_hour(session, hour, named):
            row.kib_seconds += round(bytes_held[row.acceleration_id] * seconds / _KIB)
            row.bytes_max = max(row.bytes_max, bytes_held[row.acceleration_id])


async def listed(
    session: AsyncSession,
    caller: Caller,
    *,
    after: str | None,
    limit: int,
    volume: str | None,
    region: str | None,
    since: datetime | None,
    until: datetime | None,
) -> Page[UsageHour]:
    """Hours that the caller may see, oldest first."""
    query = select(UsageHour)
    if not caller.is_admin:
        query = query.where(UsageHour.owner == caller.subject)
    if volume is not None:
        query = query.where(UsageHour.volume == volume)
    if region is not None:
        query = query.where(UsageHour.region == region)
    if since is not None:
        query = query.where(UsageHour.id >= hours.prefix(hours.begin(since)))
    if until is not None:
        query = query.where(UsageHour.id < hours.prefix(until))
    return await page(session, query, UsageHour.id, after=after, limit=limit)


def byte_hours(row: UsageHour) -> float:
    """Bytes times hours."""
    return row.kib_seconds * _KIB / hours.HOUR.total_seconds()


async def _of_hour(session: AsyncSession, hour: datetime, named: Sequence[hours.Named]) -> list[UsageHour]:
    """What is counted of an hour so far, of each; many in one question."""
    found: list[UsageHour] = []
    for start in range(0, len(named), _NAMED_AT_ONCE):
        some = {hours.row_id(hour, one.acceleration_id): one for one in named[start : start + _NAMED_AT_ONCE]}
        query = select(UsageHour).where(UsageHour.id.in_(some))
        there = list(await session.scalars(query))
        if missing := sorted(some.keys() - {row.id for row in there}):
            # A node that tells what it moved may make the same row now.
            adding = hours.insert(session, UsageHour).on_conflict_do_nothing()
            await session.execute(adding, [hours.row(hour, some[one]) for one in missing])
            there = list(await session.scalars(query))
        found += there
    return found


def _hours(began: datetime, ended: datetime) -> Iterator[tuple[datetime, float]]:
    """The hours that a time lies in, and how many seconds of it lie in each."""
    while began < ended:
        hour = hours.begin(began)
        end = min(hour + hours.HOUR, ended)
        yield hour, (end - began).total_seconds()
        began = end
