"""Rows of hours. Several may make the same one at once: whoever comes second finds it, or adds to it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol, cast

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from headrace.control.database import Base
from headrace.control.regions import service as regions
from headrace.control.volumes import service as volumes

HOUR = timedelta(hours=1)


class Accelerated(Protocol):
    """An acceleration, as far as usage is concerned."""

    @property
    def id(self) -> str: ...
    @property
    def volume_id(self) -> str: ...
    @property
    def region_id(self) -> str: ...
    @property
    def owner(self) -> str: ...


@dataclass(frozen=True)
class Named:
    """An acceleration, as its hours are called."""

    acceleration_id: str
    volume: str
    region: str
    owner: str


async def named(session: AsyncSession, rows: Collection[Accelerated]) -> list[Named]:
    """The same accelerations, with the names of now."""
    of_volumes = await volumes.names(session, {row.volume_id for row in rows})
    in_regions = await regions.names(session, {row.region_id for row in rows})
    return [Named(row.id, of_volumes.get(row.volume_id, ""), in_regions.get(row.region_id, ""), row.owner) for row in rows]


def insert(session: AsyncSession, model: type[Base]) -> postgresql.Insert | sqlite.Insert:
    """An insertion that can say what to do with rows that are there. It is executed with the rows: said in it, each number of them is another
    statement, which takes longer to be spelled than to be done. As they are sorted they are locked, so that no two wait for one another."""
    make = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    return make(cast(Table, model.__table__))


def row(hour: datetime, one: Named, **counts: int) -> dict[str, Any]:
    """A row of an hour."""
    nothing = dict.fromkeys(("kib_seconds", "bytes_max", "origin_bytes", "served_bytes", "opened_bytes"), 0)
    return {"id": row_id(hour, one.acceleration_id), "hour": hour, **asdict(one), **nothing, **counts}


def row_id(hour: datetime, acceleration_id: str) -> str:
    return f"{prefix(hour)}-{acceleration_id}"


def begin(at: datetime) -> datetime:
    """Of the hour that a time lies in."""
    return at.replace(minute=0, second=0, microsecond=0)


def prefix(at: datetime) -> str:
    """Sorts as time does, for the next nine thousand years."""
    return f"{int(at.timestamp()):012d}"
