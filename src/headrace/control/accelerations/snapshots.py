"""Snapshots: the lists of files that versions are, in parts, and the same for all who have the same list; each inside the caller's transaction.

A part is never changed, only dropped. What parts are together is held against their digest before a version is made of them: another
region's node gets them for the same digest.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from headrace.control.accelerations.models import SnapshotPart, Version
from headrace.control.problems import refused

# A list of a million files is 100 parts of 1 MiB.
PARTS_MAX = 1024
# Parts that were sent and never published; longer than a listing that gets further takes to send them.
_UNPUBLISHED_LASTS = timedelta(hours=6)


async def keep(session: AsyncSession, now: datetime, acceleration_id: str, digest: str, part: int, content: bytes) -> None:
    """Keeps a part. Another list that was begun for this acceleration before is forgotten: there is one at a time."""
    known = await session.get(SnapshotPart, (digest, part))
    if known is not None:
        known.sent, known.acceleration_id = now, acceleration_id
        return
    if await session.scalar(select(Version.number).where(Version.digest == digest).limit(1)) is not None:
        return  # what a version is was whole when it was published: one part more, and it would never be published again
    others = SnapshotPart.acceleration_id == acceleration_id, SnapshotPart.digest != digest, SnapshotPart.digest.not_in(select(Version.digest))
    await session.execute(delete(SnapshotPart).where(*others))
    session.add(SnapshotPart(digest=digest, part=part, content=content, sent=now, acceleration_id=acceleration_id))


async def count(session: AsyncSession, digest: str) -> int:
    """How many parts of it are here."""
    return await session.scalar(select(func.count()).select_from(SnapshotPart).where(SnapshotPart.digest == digest)) or 0


async def part(session: AsyncSession, digest: str, number: int) -> bytes:
    """A part of a snapshot. Raises the problem `not-found`."""
    content: bytes | None = await session.scalar(select(SnapshotPart.content).where(SnapshotPart.digest == digest, SnapshotPart.part == number))
    if content is None:
        raise refused("not-found", noun="snapshot", name=f"{digest}/{number}")
    return content


async def drop(session: AsyncSession, digests: set[str]) -> None:
    """Forgets lists of files that no version is, or is any more."""
    if digests:
        needed = select(Version.digest).where(Version.digest.in_(digests))
        await session.execute(delete(SnapshotPart).where(SnapshotPart.digest.in_(digests), SnapshotPart.digest.not_in(needed)))


async def drop_unpublished(session: AsyncSession, now: datetime) -> None:
    """Forgets parts of lists that nobody published in time."""
    old = SnapshotPart.sent <= now - _UNPUBLISHED_LASTS
    await session.execute(delete(SnapshotPart).where(old, SnapshotPart.digest.not_in(select(Version.digest))))
