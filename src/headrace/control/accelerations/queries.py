"""Finding accelerations, their versions, and what nodes hold of them; each inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import BigInteger, ColumnElement, and_, cast, exists, func, or_, select, type_coerce
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from headrace.control.accelerations.models import Acceleration, Holding, Use, Version
from headrace.control.accelerations.states import State
from headrace.control.pages import Page, page
from headrace.control.problems import refused
from headrace.control.tokens.caller import Caller


async def held_on(session: AsyncSession, nodes: Sequence[str], accelerations: Sequence[str]) -> dict[str, tuple[int, int]]:
    """By node: bytes that it holds of some accelerations, and bytes that it holds or will hold of all."""
    found = dict.fromkeys(nodes, (0, 0))
    for one in await session.scalars(select(Holding).where(Holding.node_id.in_(nodes))):
        held, planned = found[one.node_id]
        found[one.node_id] = held + one.bytes * (one.acceleration_id in accelerations), planned + one.bytes_total
    return found


async def held_now(session: AsyncSession) -> list[tuple[Acceleration, int]]:
    """Accelerations of which nodes hold something, and how many bytes, all together."""
    total = func.sum(Holding.bytes)
    query = select(Acceleration, total).join(Holding, Holding.acceleration_id == Acceleration.id).group_by(Acceleration.id).having(total > 0)
    return [(row, int(held)) for row, held in await session.execute(query)]


async def find(session: AsyncSession, caller: Caller, volume_id: str, region_id: str, names: object, *, lock: bool = False) -> Acceleration:
    """The acceleration of a volume in a region. Raises the problem `not-found`."""
    row = await of(session, volume_id, region_id, lock=lock)
    if row is None or not caller.may_see(row.owner):
        raise refused("not-found", noun="acceleration", name=str(names))
    return row


async def of(session: AsyncSession, volume_id: str, region_id: str, *, lock: bool = True) -> Acceleration | None:
    query = select(Acceleration).where(Acceleration.volume_id == volume_id, Acceleration.region_id == region_id)
    found: Acceleration | None = await session.scalar(query.with_for_update() if lock else query)
    return found


async def id_of(session: AsyncSession, volume_id: str, region_id: str) -> str | None:
    """Its id, without reading the rest: whoever locks it afterwards sees it as it is then."""
    query = select(Acceleration.id).where(Acceleration.volume_id == volume_id, Acceleration.region_id == region_id)
    found: str | None = await session.scalar(query)
    return found


async def ids_of_volume(session: AsyncSession, volume_id: str) -> list[str]:
    """Ids of its accelerations, in all regions."""
    return list(await session.scalars(select(Acceleration.id).where(Acceleration.volume_id == volume_id)))


async def of_volumes(session: AsyncSession, volume_ids: Sequence[str]) -> Sequence[Acceleration]:
    """Accelerations of several volumes, in all regions."""
    return (await session.scalars(select(Acceleration).where(Acceleration.volume_id.in_(volume_ids)))).all()


async def by_id(session: AsyncSession, identifier: str, *, lock: bool = False) -> Acceleration:
    row = await lookup(session, identifier, lock=lock)
    if row is None:
        raise refused("not-found", noun="acceleration", name=identifier)
    return row


async def lookup(session: AsyncSession, identifier: str, *, lock: bool = False) -> Acceleration | None:
    """The acceleration of this id, if it is there."""
    return await session.get(Acceleration, identifier, with_for_update=lock or None)


async def known(session: AsyncSession, identifiers: Sequence[str]) -> set[str]:
    """Those of these ids that there are."""
    return set(await session.scalars(select(Acceleration.id).where(Acceleration.id.in_(identifiers))))


async def listed(
    session: AsyncSession, caller: Caller, *, after_id: str | None, limit: int, region_id: str | None, volume_id: str | None, state: str | None
) -> Page[Acceleration]:
    """Accelerations that the caller may see."""
    query = select(Acceleration)
    if not caller.is_admin:
        query = query.where(Acceleration.owner == caller.subject)
    for column, value in ((Acceleration.region_id, region_id), (Acceleration.volume_id, volume_id), (Acceleration.state, state)):
        if value is not None:
            query = query.where(column == value)
    return await page(session, query, Acceleration.id, after=after_id, limit=limit)


async def in_region(session: AsyncSession, region_id: str) -> Sequence[Acceleration]:
    """What is not idle in a region, what was used last first: a node that joins pulls in this order, as far as its room goes."""
    query = select(Acceleration).where(Acceleration.region_id == region_id, Acceleration.state != State.IDLE.value)
    return (await session.scalars(query.order_by(Acceleration.used.desc(), Acceleration.id))).all()


async def busy_regions(session: AsyncSession, volume_id: str) -> list[str]:
    """Ids of regions where a volume is not idle, or tasks read it yet."""
    read = exists().where(Use.acceleration_id == Acceleration.id, Use.lost.is_(None))
    busy = or_(Acceleration.state != State.IDLE.value, read)
    return list(await session.scalars(select(Acceleration.region_id).where(Acceleration.volume_id == volume_id, busy)))


async def version(session: AsyncSession, identifier: str, number: int) -> Version | None:
    return await session.get(Version, (identifier, number))


async def is_read_in(session: AsyncSession, volume_id: str, region_id: str) -> bool:
    """Whether a volume is accelerated in a region, or read by a task there."""
    read = exists().where(Use.acceleration_id == Acceleration.id, Use.lost.is_(None))
    query = select(Acceleration.id).where(Acceleration.volume_id == volume_id, Acceleration.region_id == region_id)
    return await session.scalar(query.where(or_(Acceleration.state != State.IDLE.value, read))) is not None


async def versions_of(session: AsyncSession, identifier: str) -> Sequence[Version]:
    """Kept versions, oldest first."""
    return (await session.scalars(select(Version).where(Version.acceleration_id == identifier).order_by(Version.number))).all()


async def versions_in_region(session: AsyncSession, region_id: str) -> dict[str, list[Version]]:
    """Kept versions of what is not idle in a region, by acceleration, each oldest first, in one question."""
    found: dict[str, list[Version]] = {}
    query = select(Version).join(Acceleration, Acceleration.id == Version.acceleration_id)
    query = query.where(Acceleration.region_id == region_id, Acceleration.state != State.IDLE.value)
    for version in await session.scalars(query.order_by(Version.acceleration_id, Version.number)):
        found.setdefault(version.acceleration_id, []).append(version)
    return found


@dataclass(frozen=True)
class Sum:
    """What nodes have of a version, all together."""

    version: int
    files: int
    files_total: int
    bytes: int
    bytes_total: int


async def sums_of_all(session: AsyncSession, identifiers: Sequence[str]) -> dict[str, list[Sum]]:
    """What nodes have of several accelerations, by their ids. The database adds up: hundreds of nodes may hold each of them."""
    found: dict[str, list[Sum]] = {identifier: [] for identifier in identifiers}
    sums = (func.sum(of) for of in (Holding.files, Holding.files_total, Holding.bytes, Holding.bytes_total))
    query = select(Holding.acceleration_id, Holding.version, *sums).where(Holding.acceleration_id.in_(identifiers))
    for identifier, version, *amounts in await session.execute(query.group_by(Holding.acceleration_id, Holding.version)):
        found[identifier].append(Sum(version, *map(int, amounts)))
    return found


async def holdings_of(session: AsyncSession, identifier: str) -> Sequence[Holding]:
    return (await session.scalars(select(Holding).where(Holding.acceleration_id == identifier).order_by(Holding.node_id))).all()


async def due(session: AsyncSession, now: datetime) -> list[str]:
    """Ids of accelerations that `sweep` may have something to do for: those that pull, that nobody has used for long, or that have a schedule."""
    used_ms, now_ms = type_coerce(Acceleration.used, BigInteger), int(now.timestamp() * 1000)
    # Nothing expires under a task that mounts it.
    idle = ~exists().where(Use.acceleration_id == Acceleration.id, Use.lost.is_(None))
    unused = and_(idle, Acceleration.state == State.ACTIVE.value, used_ms + _milliseconds(Acceleration.expire_seconds) < now_ms)
    forgotten = and_(idle, Acceleration.state == State.EXPIRING.value, used_ms + _milliseconds(Acceleration.release_seconds) < now_ms)
    scheduled = Acceleration.refresh_every_seconds > 0
    began_ms = type_coerce(Acceleration.began, BigInteger)
    stale = and_(scheduled, Acceleration.state == State.ACTIVE.value, began_ms + _milliseconds(Acceleration.refresh_every_seconds) <= now_ms)
    query = select(Acceleration.id).where(or_(Acceleration.state == State.SYNCING.value, unused, forgotten, stale)).order_by(Acceleration.id)
    return list(await session.scalars(query))


def _milliseconds(seconds: InstrumentedAttribute[int]) -> ColumnElement[int]:
    """Widened first: a month in milliseconds is more than PostgreSQL's integer holds."""
    return cast(seconds, BigInteger) * 1000
