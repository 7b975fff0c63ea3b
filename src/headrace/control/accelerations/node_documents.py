"""What nodes are told of accelerations: where bytes are, which versions there are, and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Protocol

from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncSession

from headrace.control.accelerations import queries
from headrace.control.accelerations.documents import SelectionDocument
from headrace.control.accelerations.models import Acceleration, Version


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


class ComparisonWanted(BaseModel):
    """A comparison of the origin with the current version, under a lease."""

    id: str
    lease: int


class WarmupWanted(BaseModel):
    """Data of a version to pull once; progress is told under this id."""

    id: str
    version: int
    selection: SelectionDocument


class Item(BaseModel):
    """What a node should do about one acceleration."""

    id: str
    origin: OriginDocument
    state: str
    current: int | None
    versions: list[VersionWanted]
    warm: Annotated[list[WarmupWanted], Field(description="Warm-ups that this node is asked for.")] = []
    hold: Annotated[int | None, Field(description="The version that this node should hold.")]
    selection: SelectionDocument
    compare: Annotated[ComparisonWanted | None, Field(description="The comparison that this node is asked for.")] = None
    # The last one: its name hides the type's.
    list: Annotated[int | None, Field(description="The listing that this node is asked for.")]


def version_wanted(version: Version) -> VersionWanted:
    return VersionWanted(number=version.number, label=version.label, digest=version.digest, files=version.files, bytes=version.bytes)


class Warmed(Protocol):
    """A warm-up that a node is asked for."""

    id: str
    version: int
    selection: dict[str, Any]


class Asked(Protocol):
    """A comparison that a node is asked for."""

    id: str
    lease: int


async def items_of(
    session: AsyncSession,
    rows: Sequence[Acceleration],
    *,
    origins: Mapping[str, dict[str, Any]],
    listings: Mapping[str, int],
    holds: Mapping[str, int | None],
    comparisons: Mapping[str, Asked],
    warmups: Mapping[str, Sequence[Warmed]],
) -> list[Item]:
    """What a node should do about accelerations; a question to the database for all, not for each."""
    versions = await queries.versions_of_all(session, [row.id for row in rows])
    return [
        Item(
            id=row.id,
            origin=OriginDocument(**origins[row.volume_id]),
            state=row.state,
            current=row.current,
            versions=[version_wanted(version) for version in versions[row.id]],
            list=listings.get(row.id),
            hold=holds[row.id],
            selection=SelectionDocument.model_validate(row.selection),
            compare=_compare(comparisons.get(row.id)),
            warm=[_warmup(one) for one in warmups.get(row.id, ())],
        )
        for row in rows
        if row.volume_id in origins
    ]


def _warmup(one: Warmed) -> WarmupWanted:
    return WarmupWanted(id=one.id, version=one.version, selection=SelectionDocument.model_validate(one.selection))


def _compare(asked: Asked | None) -> ComparisonWanted | None:
    return None if asked is None else ComparisonWanted(id=asked.id, lease=asked.lease)
