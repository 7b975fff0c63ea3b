"""How far pulls are, all nodes together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from headrace.control.accelerations.models import Acceleration, Holding
from headrace.control.accelerations.states import State


@dataclass(frozen=True)
class Progress:
    """Of the version that is pulled, or else of the current one."""

    state: str
    current: int | None
    bytes: int
    bytes_total: int
    bytes_per_second: float
    seconds_left: float | None


def progress_of(row: Acceleration, done: int, total: int, now: datetime) -> Progress:
    """How far an acceleration is of which nodes hold so many bytes."""
    speed = done / max((now - row.began).total_seconds(), 1.0) if row.state == State.SYNCING else 0.0
    return Progress(row.state, row.current, done, total, speed, (total - done) / speed if speed > 0 else None)


async def progress_of_all(session: AsyncSession, rows: Sequence[Acceleration], now: datetime) -> dict[str, Progress]:
    """Of several, by their ids. The database adds up: what hundreds of nodes hold is not brought here for a sum."""
    shown = func.coalesce(Acceleration.pulling, Acceleration.current)
    query = select(Holding.acceleration_id, func.sum(Holding.bytes), func.sum(Holding.bytes_total))
    query = query.join(Acceleration, Acceleration.id == Holding.acceleration_id).where(Holding.version == shown)
    query = query.where(Holding.acceleration_id.in_([row.id for row in rows])).group_by(Holding.acceleration_id)
    sums = {identifier: (int(done), int(total)) for identifier, done, total in await session.execute(query)}
    return {row.id: progress_of(row, *sums.get(row.id, (0, 0)), now) for row in rows}
