"""What can be done with regions, inside the caller's transaction."""

from __future__ import annotations

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from headrace.control.clock import Clock
from headrace.control.ids import new_id
from headrace.control.pages import Page, page
from headrace.control.problems import refused
from headrace.control.regions.models import Region


async def create(session: AsyncSession, clock: Clock, *, name: str, title: str, title_zh: str) -> Region:
    """A new region. Raises the problem `name-taken`."""
    now = clock.now()
    row = Region(id=new_id(now), name=name, title=title or name, title_zh=title_zh or title or name, desired=0, revision=1, created=now)
    session.add(row)
    try:
        await session.flush()
    except IntegrityError:
        raise refused("name-taken", noun="region", name=name) from None
    return row


async def edit(row: Region, *, title: str | None, title_zh: str | None) -> None:
    """Changes how it is shown. Its name stays: commands and tasks have it."""
    row.title = row.title if title is None else title
    row.title_zh = row.title_zh if title_zh is None else title_zh
    row.revision += 1


async def find(session: AsyncSession, name: str, *, lock: bool = False) -> Region:
    """The region of this name. Raises the problem `not-found`."""
    query = select(Region).where(Region.name == name)
    row = await session.scalar(query.with_for_update() if lock else query)
    if row is None:
        raise refused("not-found", noun="region", name=name)
    return row


async def by_id(session: AsyncSession, identifier: str, *, lock: bool = False) -> Region:
    """The region of this id. Raises the problem `not-found`."""
    row = await session.get(Region, identifier, with_for_update=lock)
    if row is None:
        raise refused("not-found", noun="region", name=identifier)
    return row


async def listed(session: AsyncSession, *, after: str | None, limit: int) -> Page[Region]:
    return await page(session, select(Region), Region.name, after=after, limit=limit)


async def names(session: AsyncSession, identifiers: set[str]) -> dict[str, str]:
    """Names by id."""
    found = await session.execute(select(Region.id, Region.name).where(Region.id.in_(identifiers)))
    return dict(found.all())


async def bump(session: AsyncSession, identifier: str) -> None:
    """Something changed that nodes of this region must hear of. Raises `not-found` where it was deleted meanwhile: this takes its row's lock."""
    if not await tell(session, identifier):
        raise refused("not-found", noun="region", name=identifier)


async def tell(session: AsyncSession, identifier: str) -> bool:
    """The same for what may outlive its region; whether it is there."""
    found = await session.execute(update(Region).where(Region.id == identifier).values(desired=Region.desired + 1).returning(Region.id))
    return found.first() is not None


async def bump_all(session: AsyncSession, identifiers: set[str]) -> None:
    """The same of several; those that were deleted meanwhile are passed over."""
    await session.execute(update(Region).where(Region.id.in_(identifiers)).values(desired=Region.desired + 1))


async def desired_versions(session: AsyncSession) -> dict[str, int]:
    """How far each region is, by id."""
    found = await session.execute(select(Region.id, Region.desired))
    return dict(found.all())


async def delete(session: AsyncSession, row: Region) -> None:
    await session.delete(row)
