"""What nodes are told of accelerations: where bytes are, which versions there are, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

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

    list: Annotated[int | None, Field(description="The listing that this node is asked for.")]
    hold: Annotated[int | None, Field(description="The version that this node should hold.")]


def version_wanted(version: Version) -> VersionWanted:
    return VersionWanted(number=version.number, label=version.label, digest=version.digest, files=version.files, bytes=version.bytes)


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
