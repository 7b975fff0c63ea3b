"""Counting and showing usage; inside the caller's transaction.

What nodes told last that they hold is taken as held until it is looked at again, a minute later. A time that nobody looked (no replica
ran) is not counted beyond `_GAP_MAX`: nobody is billed for what nobody saw.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from headrace.control.accelerations import queries
from headrace.control.pages import Page, page
from headrace.control.regions import service as regions
from headrace.control.tokens.caller import Caller
from headrace.control.usage.models import UsageClock, UsageHour
from headrace.control.volumes import service as volumes

EVERY = timedelta(minutes=1)
_GAP_MAX = timedelta(minutes=5)
_HOUR = timedelta(hours=1)
_KIB = 1024
# Databases take some tens of thousands of values in a statement.
_NAMED_AT_ONCE = 1000
_ONLY = 1


async def count(session: AsyncSession, now: datetime) -> None:
    """Counts what is held since the last count. Of several replicas one counts; the others find that it is done."""
    clock = await session.get(UsageClock, _ONLY, with_for_update=True)
    if clock is None:
        insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
        await session.execute(insert(UsageClock).values(id=_ONLY, counted=now).on_conflict_do_nothing())
        return
    if clock.counted <= now < clock.counted + EVERY:
        return
    # A clock that was set back begins anew.
    began, clock.counted = max(min(clock.counted, now), now - _GAP_MAX), now
    held = await queries.held_now(session)
    of_volumes = await volumes.names(session, {row.volume_id for row, _ in held})
    in_regions = await regions.names(session, {row.region_id for row, _ in held})
    for hour, seconds in _hours(began, now):
        known = await _of_hour(session, hour, [row.id for row, _ in held])
        for row, held_bytes in held:
            where = (of_volumes.get(row.volume_id, ""), in_regions.get(row.region_id, ""))
            _add(session, known, hour, row.id, where, row.owner, held_bytes, seconds)


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
        query = query.where(UsageHour.id >= _prefix(_begin(since)))
    if until is not None:
        query = query.where(UsageHour.id < _prefix(until))
    return await page(session, query, UsageHour.id, after=after, limit=limit)


def byte_hours(row: UsageHour) -> float:
    """Bytes times hours."""
    return row.kib_seconds * _KIB / _HOUR.total_seconds()


async def _of_hour(session: AsyncSession, hour: datetime, accelerations: Sequence[str]) -> dict[str, UsageHour]:
    """What is counted of an hour so far, by acceleration; many in one question."""
    found: dict[str, UsageHour] = {}
    for start in range(0, len(accelerations), _NAMED_AT_ONCE):
        wanted = [_id(hour, acceleration) for acceleration in accelerations[start : start + _NAMED_AT_ONCE]]
        found |= {row.acceleration_id: row for row in await session.scalars(select(UsageHour).where(UsageHour.id.in_(wanted)))}
    return found


def _add(
    session: AsyncSession,
    known: Mapping[str, UsageHour],
    hour: datetime,
    acceleration_id: str,
    names: tuple[str, str],
    owner: str,
    held: int,
    seconds: float,
) -> None:
    row = known.get(acceleration_id)
    if row is None:
        volume, region = names
        row = UsageHour(
            id=_id(hour, acceleration_id),
            hour=hour,
            acceleration_id=acceleration_id,
            volume=volume,
            region=region,
            owner=owner,
            kib_seconds=0,
            bytes_max=0,
        )
        session.add(row)
    row.kib_seconds += round(held * seconds / _KIB)
    row.bytes_max = max(row.bytes_max, held)


def _hours(began: datetime, ended: datetime) -> Iterator[tuple[datetime, float]]:
    """The hours that a time lies in, and how many seconds of it lie in each."""
    while began < ended:
        hour = _begin(began)
        end = min(hour + _HOUR, ended)
        yield hour, (end - began).total_seconds()
        began = end


def _id(hour: datetime, acceleration_id: str) -> str:
    return f"{_prefix(hour)}-{acceleration_id}"


def _begin(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def _prefix(at: datetime) -> str:
    """Sorts as time does, for the next nine thousand years."""
    return f"{int(at.timestamp()):012d}"
