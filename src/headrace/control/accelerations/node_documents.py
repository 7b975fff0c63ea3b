"""What nodes are told of accelerations: where bytes are, which versions there are, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Protocol

from pydantic import BaseModel, Field

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


class ShareDocument(BaseModel):
    """A node's share of the ceilings of an origin, in place of those that the origin has; 0 is none."""

    bandwidth: int
    requests: int


class SharedItem(BaseModel):
    """What all nodes of a region are told of one acceleration."""

    id: str
    origin: OriginDocument
    state: str
    current: int | None
    versions: list[VersionWanted]
    selection: SelectionDocument


class Item(SharedItem):
    """What a node should do about one acceleration."""

    share: Annotated[ShareDocument | None, Field(description="Where the origin has ceilings: this node's share.")] = None
    warm: Annotated[list[WarmupWanted], Field(description="Warm-ups that this node is asked for.")] = []
    hold: Annotated[int | None, Field(description="The version that this node should hold.")]
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


def shared_item(row: Acceleration, origin: OriginDocument, versions: Sequence[Version]) -> SharedItem:
    """What all nodes of its region are told of an acceleration."""
    return SharedItem(
        id=row.id,
        origin=origin,
        state=row.state,
        current=row.current,
        versions=[version_wanted(version) for version in versions],
        selection=SelectionDocument.model_validate(row.selection),
    )


def warmup(one: Warmed) -> WarmupWanted:
    return WarmupWanted(id=one.id, version=one.version, selection=SelectionDocument.model_validate(one.selection))


def comparison(asked: Asked) -> ComparisonWanted:
    return ComparisonWanted(id=asked.id, lease=asked.lease)
