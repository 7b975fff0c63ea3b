"""What nodes are told of accelerations: where bytes are, which versions there are, and what to do."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncSession

from headrace.control.accelerations import queries
from headrace.control.accelerations.documents import SelectionDocument
from headrace.control.accelerations.models import Acceleration, Version
from headrace.control.volumes import service as volumes


class OriginDocument(BaseModel):
    """Where the bytes of a volume are."""

    volume_id: str
    volume: str
    revision: int
    provider: str
    region: str
    endpoint: str
    addressing: str
    bucket: str
    directory: str
    anonymous: bool
    bandwidth: int
    requests: int


class VersionWanted(BaseModel):
    """A version that tasks may mount."""

    number: int
    label: str
    digest: str
    files: int
    bytes: int


class Item(BaseModel):
    """What a node should do about one acceleration."""

    id: str
    origin: OriginDocument
    state: str
    current: int | None
    versions: list[VersionWanted]
    list: Annotated[int | None, Field(description="The listing that this node is asked for.")]
    hold: Annotated[int | None, Field(description="The version that this node should hold.")]
    selection: SelectionDocument


def version_wanted(version: Version) -> VersionWanted:
    return VersionWanted(number=version.number, label=version.label, digest=version.digest, files=version.files, bytes=version.bytes)


async def item(session: AsyncSession, row: Acceleration, *, listing: int | None, hold: int | None) -> Item:
    """What a node should do about an acceleration."""
    volume = await volumes.by_id(session, row.volume_id)
    return Item(
        id=row.id,
        origin=OriginDocument(**volumes.for_nodes(volume)),
        state=row.state,
        current=row.current,
        versions=[version_wanted(version) for version in await queries.versions_of(session, row.id)],
        list=listing,
        hold=hold,
        selection=SelectionDocument.model_validate(row.selection),
    )
