"""What an acceleration is called."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from headrace.control.accelerations.models import Acceleration
from headrace.control.regions import service as regions
from headrace.control.volumes import service as volumes


@dataclass(frozen=True)
class Names:
    """By its volume and its region."""

    volume: str
    region: str

    def __str__(self) -> str:
        return f"{self.volume}@{self.region}"


async def names_of(session: AsyncSession, row: Acceleration) -> Names:
    """The names of an acceleration's volume and region."""
    region = await regions.by_id(session, row.region_id)
    return Names((await volumes.by_id(session, row.volume_id)).name, region.name)
