"""What nodes ask and tell of accelerations: what should be, snapshots, credentials, and how far they are."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from headrace.control.accelerations import service, snapshots
from headrace.control.accelerations.documents import Count, SelectionDocument
from headrace.control.accelerations.models import Acceleration
from headrace.control.accelerations.placement import Candidate
from headrace.control.accelerations.sweeping import candidates, names_of
from headrace.control.nodes import service as nodes
from headrace.control.nodes.identity import OfNode
from headrace.control.problems import refused
from headrace.control.regions import service as regions
from headrace.control.requests import Control, ControlPlane, Guarded
from headrace.control.texts import IdPath, SoughtId, told
from headrace.control.volumes import service as volumes

router = APIRouter(prefix="/v1/node", tags=["nodes"], route_class=Guarded)

# Less than what proxies let a request wait for an answer.
_WAIT_MAX = 30.0
_DIGEST = r"^[0-9a-f]{64}$"
# JSON Schema has no word for bytes that are no text: OpenAPI 3.1 says nothing of their form.
_BYTES: dict[str, Any] = {"application/octet-stream": {"schema": {}}}
Listing = Annotated[int, Query(ge=1, le=2**31 - 1, description="The listing that this answers.")]
Digest = Annotated[str, Path(pattern=_DIGEST)]
Part = Annotated[int, Path(ge=0, lt=snapshots.PARTS_MAX)]


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


class Desired(BaseModel):
    """What a node should do, as of a version."""

    version: int
    draining: bool
    accelerations: list[Item]


class Credentials(BaseModel):
    """Keys of a volume's origin, for a node that needs them."""

    revision: int
    access_key: str
    secret_key: str
    session_token: str


class Published(BaseModel):
    """A snapshot that was made for a listing, its parts sent before."""

    model_config = ConfigDict(extra="forbid")

    listing: Annotated[int, Field(ge=1, le=2**31 - 1)]
    digest: Annotated[str, Field(pattern=_DIGEST)]
    parts: Annotated[int, Field(ge=1, le=snapshots.PARTS_MAX)]
    files: Count
    bytes: Count
    skipped: Count = 0


class VersionNumber(BaseModel):
    """The version that a snapshot became."""

    version: int


class Failed(BaseModel):
    """A listing that failed, and why."""

    model_config = ConfigDict(extra="forbid")

    listing: Annotated[int, Field(ge=1, le=2**31 - 1)]
    reason: Annotated[str, told(254), Field(min_length=1)]


class Holds(BaseModel):
    """How far a node is with a version."""

    model_config = ConfigDict(extra="forbid")

    acceleration: SoughtId
    version: Annotated[int, Field(ge=1, le=2**31 - 1)]
    files: Count
    files_total: Count
    bytes: Count
    bytes_total: Count
    complete: bool = False
    error: Annotated[str, told(1023)] = ""


class Progress(BaseModel):
    """How far a node is with everything; `listing` names the accelerations that it lists just now."""

    model_config = ConfigDict(extra="forbid")

    held: Annotated[list[Holds], Field(max_length=1000)] = []
    listing: Annotated[list[SoughtId], Field(max_length=1000)] = []


@router.get("/desired", operation_id="desired")
async def desired(
    control: Control,
    identity: OfNode,
    known: Annotated[int, Query(ge=-1, le=2**62, description="The version that the node has.")] = -1,
    wait: Annotated[float, Query(ge=0, le=_WAIT_MAX, description="Seconds to wait for another version.")] = 0,
) -> Desired:
    """What the node should do; the answer waits for a change."""
    await control.watch.wait(identity.region_id, known, wait)
    async with control.database.reading() as session:
        # Read before what it stands for: a change in between is found by the next question.
        version = (await regions.by_id(session, identity.region_id)).desired
        node = await nodes.find(session, identity.id)
        there = await candidates(session, control.clock, identity.region_id)
        items = []
        for row in await service.in_region(session, identity.region_id):
            volume = await volumes.by_id(session, row.volume_id)
            kept = await service.versions_of(session, row.id)
            items.append(
                Item(
                    id=row.id,
                    origin=OriginDocument(**volumes.for_nodes(volume)),
                    state=row.state,
                    current=row.current,
                    versions=[VersionWanted(number=v.number, label=v.label, digest=v.digest, files=v.files, bytes=v.bytes) for v in kept],
                    list=row.listing if row.lister == node.id else None,
                    hold=_to_hold(row, node.id, there),
                    selection=SelectionDocument.model_validate(row.selection),
                )
            )
    return Desired(version=version, draining=node.draining, accelerations=items)


@router.get("/volumes/{identifier}/credentials", operation_id="node_credentials")
async def node_credentials(identifier: IdPath, control: Control, identity: OfNode) -> Credentials:
    """Keys of a volume that is accelerated in the node's region; of any other they are refused."""
    async with control.database.reading() as session:
        if all(row.volume_id != identifier for row in await service.in_region(session, identity.region_id)):
            raise refused("not-found", noun="volume", name=identifier)
        volume = await volumes.by_id(session, identifier)
        keys = await volumes.credentials_of(session, control.vault, volume)
    return Credentials(revision=volume.revision, access_key=keys.access_key, secret_key=keys.secret_key, session_token=keys.session_token)


@router.put(
    "/accelerations/{identifier}/snapshots/{digest}/{part}",
    operation_id="send_snapshot_part",
    status_code=204,
    openapi_extra={"requestBody": {"required": True, "content": _BYTES}},
)
async def send_snapshot_part(
    identifier: IdPath, digest: Digest, part: Part, listing: Listing, request: Request, control: Control, identity: OfNode
) -> None:
    """Keeps a part of a snapshot, at most 1 MiB; sent again it changes nothing."""
    content = await request.body()
    async with control.database.writing() as session:
        row = await service.by_id(session, identifier, lock=True)
        await service.keep_part(session, control.clock, row, identity.id, listing, digest, part, content)


@router.get("/snapshots/{digest}/{part}", operation_id="snapshot_part", response_class=Response, responses={200: {"content": _BYTES}})
async def snapshot_part(digest: Digest, part: Part, control: Control, _identity: OfNode) -> Response:
    """A part of a snapshot."""
    async with control.database.reading() as session:
        return Response(await snapshots.part(session, digest, part), media_type="application/octet-stream")


@router.post("/accelerations/{identifier}/published", operation_id="publish_snapshot")
async def publish_snapshot(identifier: IdPath, body: Published, control: Control, identity: OfNode) -> VersionNumber:
    """Makes a snapshot a version, or finds that nothing is new."""
    await _must_be_itself(control, identity.id, identifier, body)
    async with control.database.writing() as session:
        row = await service.by_id(session, identifier, lock=True)
        listed = service.Listed(body.digest, body.parts, body.files, body.bytes, body.skipped)
        there = await candidates(session, control.clock, identity.region_id)
        number = await service.publish(session, control.clock, row, identity.id, body.listing, listed, await names_of(session, row), there)
    return VersionNumber(version=number)


@router.post("/accelerations/{identifier}/failed", operation_id="listing_failed", status_code=204)
async def listing_failed(identifier: IdPath, body: Failed, control: Control, identity: OfNode) -> None:
    """The listing failed: the pull fails with it."""
    async with control.database.writing() as session:
        row = await service.by_id(session, identifier, lock=True)
        await service.listing_failed(session, control.clock, row, identity.id, body.listing, await names_of(session, row), body.reason)


@router.post("/progress", operation_id="progress", status_code=204)
async def progress(body: Progress, control: Control, identity: OfNode) -> None:
    """Tells how far the node is; each acceleration in a transaction of its own."""
    for held in body.held:
        async with control.database.writing() as session:
            row = _known(await service.lookup(session, held.acceleration, lock=True), identity)
            if row is None:
                continue
            there = await candidates(session, control.clock, identity.region_id)
            told = service.Held(
                held.acceleration, held.version, held.files, held.files_total, held.bytes, held.bytes_total, held.complete, held.error
            )
            await service.told(session, control.clock, row, identity.id, told, await names_of(session, row), there)
    for identifier in body.listing:
        async with control.database.writing() as session:
            row = _known(await service.lookup(session, identifier, lock=True), identity)
            if row is not None:
                service.renew_lister(row, control.clock, identity.id)


async def _must_be_itself(control: ControlPlane, node_id: str, identifier: str, body: Published) -> None:
    """Raises `snapshot-damaged` where the parts are not what the digest says: other regions get the same parts for the same digest.

    Read part by part, before the transaction that publishes: parts are never changed, only dropped, which that notices.
    """
    async with control.database.reading() as session:
        service.must_be_lister(await service.by_id(session, identifier), node_id, body.listing)
        if await snapshots.count(session, body.digest) != body.parts:
            return  # told when it is published
    digest = hashlib.sha256()
    for number in range(body.parts):
        async with control.database.reading() as session:
            digest.update(await snapshots.part(session, body.digest, number))
    if digest.hexdigest() != body.digest:
        async with control.database.writing() as session:
            await snapshots.drop(session, {body.digest})
        raise refused("snapshot-damaged")


def _known(row: Acceleration | None, identity: nodes.Identity) -> Acceleration | None:
    """The acceleration, where it is of the node's own region; it may be gone since the node began."""
    return row if row is not None and row.region_id == identity.region_id else None


def _to_hold(row: Acceleration, node_id: str, there: list[Candidate]) -> int | None:
    version = row.pulling if row.pulling is not None else row.current
    return version if version is not None and node_id in service.holding_nodes(row, there) else None
