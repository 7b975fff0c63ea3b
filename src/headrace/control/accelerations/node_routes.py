"""What nodes ask and tell of accelerations: what should be, snapshots, credentials, and how far they are."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from headrace.control.accelerations import kept, pulls, queries, snapshots
from headrace.control.accelerations.documents import Count
from headrace.control.accelerations.instructions import Asked
from headrace.control.accelerations.models import Acceleration
from headrace.control.accelerations.names import names_of
from headrace.control.accelerations.node_documents import Item, ShareDocument, comparison, warmup
from headrace.control.accelerations.sweeping import candidates
from headrace.control.ceilings import shared
from headrace.control.checks import service as checks
from headrace.control.checks.documents import CheckWanted
from headrace.control.comparisons import service as comparisons
from headrace.control.nodes import service as nodes
from headrace.control.nodes.identity import OfNode
from headrace.control.problems import refused
from headrace.control.regions import service as regions
from headrace.control.requests import Control, ControlPlane, Guarded
from headrace.control.texts import IdPath, SoughtId, told
from headrace.control.volumes import service as volumes
from headrace.control.warmups import service as warmups

router = APIRouter(prefix="/v1/node", tags=["nodes"], route_class=Guarded)

# Less than what proxies let a request wait for an answer.
_WAIT_MAX = 30.0
_DIGEST = r"^[0-9a-f]{64}$"
# JSON Schema has no word for bytes that are no text: OpenAPI 3.1 says nothing of their form.
_BYTES: dict[str, Any] = {"application/octet-stream": {"schema": {}}}
Listing = Annotated[int, Query(ge=1, le=2**31 - 1, description="The listing that this answers.")]
Digest = Annotated[str, Path(pattern=_DIGEST)]
Part = Annotated[int, Path(ge=0, lt=snapshots.PARTS_MAX)]


class Desired(BaseModel):
    """What a node should do, as of a version."""

    version: int
    draining: bool
    accelerations: list[Item]
    checks: Annotated[list[CheckWanted], Field(description="Connection checks that this node is asked for.")] = []


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
    """How far a node is with a version, of an acceleration or for a warm-up: `acceleration` is the id of either."""

    model_config = ConfigDict(extra="forbid")

    acceleration: SoughtId
    version: Annotated[int, Field(ge=1, le=2**31 - 1)]
    files: Count
    files_total: Count
    bytes: Count
    bytes_total: Count
    complete: bool = False
    error: Annotated[str, told(1023)] = ""

    def held(self) -> pulls.Held:
        counts = (self.files, self.files_total, self.bytes, self.bytes_total)
        return pulls.Held(self.acceleration, self.version, *counts, self.complete, self.error)


class Keeps(BaseModel):
    """What a node has of a version beside the one that it holds."""

    model_config = ConfigDict(extra="forbid")

    acceleration: SoughtId
    version: Annotated[int, Field(ge=1, le=2**31 - 1)]
    bytes: Count
    bytes_total: Count
    lost_files: Annotated[Count, Field(description="That are not whole here, and that the bucket no longer has.")] = 0


class Progress(BaseModel):
    """How far a node is with everything; `listing` names the accelerations that it lists just now."""

    model_config = ConfigDict(extra="forbid")

    held: Annotated[list[Holds], Field(max_length=1000)] = []
    listing: Annotated[list[SoughtId], Field(max_length=1000)] = []
    kept: Annotated[list[Keeps], Field(max_length=2000, description="All kept versions of each acceleration that is named.")] = []


@router.get("/desired", operation_id="desired", response_model=Desired)
async def desired(
    control: Control,
    identity: OfNode,
    known: Annotated[int, Query(ge=-1, le=2**62, description="The version that the node has.")] = -1,
    wait: Annotated[float, Query(ge=0, le=_WAIT_MAX, description="Seconds to wait for another version.")] = 0,
) -> Response:
    """What the node should do; the answer waits for a change."""
    await control.watch.wait(identity.region_id, known, wait)
    async with control.database.reading() as session:
        version = (await regions.by_id(session, identity.region_id)).desired
        node = await nodes.find(session, identity.id)
        there = await candidates(session, control.clock, identity.region_id)
        compared = {of: comparison(one) for of, one in (await comparisons.asked_of(session, node.id)).items()}
        warmed = {of: [warmup(one) for one in some] for of, some in (await warmups.asked_of(session, node.id)).items()}
        checked = [CheckWanted(id=one.id, lease=one.lease) for one in await checks.asked_of(session, node.id, control.clock.now())]
        limited = await shared(session, control.clock, node.id, await volumes.limited(session))
    shares = {of: ShareDocument(bandwidth=origin["bandwidth"], requests=origin["requests"]) for of, origin in limited.items()}
    asked = Asked(node.id, node.draining, compared, warmed, shares, checked)
    document = await control.instructions.document(identity.region_id, version, asked, there)
    return Response(document, media_type="application/json")


@router.get("/volumes/{identifier}/credentials", operation_id="node_credentials")
async def node_credentials(identifier: IdPath, control: Control, identity: OfNode) -> Credentials:
    """Keys of a volume that is accelerated in the node's region, or read by a task there; of any other they are refused."""
    async with control.database.reading() as session:
        if not await queries.is_read_in(session, identifier, identity.region_id):
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
        row = await queries.by_id(session, identifier, lock=True)
        await pulls.keep_part(session, control.clock, row, identity.id, listing, digest, part, content)


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
        row = await queries.by_id(session, identifier, lock=True)
        listed = pulls.Listed(body.digest, body.parts, body.files, body.bytes, body.skipped)
        there = await candidates(session, control.clock, identity.region_id)
        number = await pulls.publish(session, control.clock, row, identity, body.listing, listed, await names_of(session, row), there)
    return VersionNumber(version=number)


@router.post("/accelerations/{identifier}/failed", operation_id="listing_failed", status_code=204)
async def listing_failed(identifier: IdPath, body: Failed, control: Control, identity: OfNode) -> None:
    """The listing failed: the pull fails with it."""
    async with control.database.writing() as session:
        row = await queries.by_id(session, identifier, lock=True)
        await pulls.listing_failed(session, control.clock, row, identity, body.listing, await names_of(session, row), body.reason)


@router.post("/progress", operation_id="progress", status_code=204)
async def progress(body: Progress, control: Control, identity: OfNode) -> None:
    """Tells how far the node is; what is news of an acceleration in a transaction of its own."""
    news = [one.held() for one in body.held]
    if news:
        async with control.database.writing() as session:
            news = await pulls.told_again(session, control.clock, identity.region_id, identity.id, news)
    for one in news:
        async with control.database.writing() as session:
            row = _known(await queries.lookup(session, one.acceleration_id, lock=True), identity)
            if row is None:
                await warmups.told(session, control.clock, one.acceleration_id, identity.id, one)
                continue
            there = await candidates(session, control.clock, identity.region_id)
            await pulls.told(session, control.clock, row, identity.id, one, await names_of(session, row), there)
    for identifier in sorted({one.acceleration for one in body.kept}):
        async with control.database.writing() as session:
            row = _known(await queries.lookup(session, identifier, lock=True), identity)
            if row is not None:
                said = [
                    kept.Told(identifier, one.version, one.bytes, one.bytes_total, one.lost_files)
                    for one in body.kept
                    if one.acceleration == identifier
                ]
                await kept.told(session, row, identity.id, said)
    for identifier in body.listing:
        async with control.database.writing() as session:
            row = _known(await queries.lookup(session, identifier, lock=True), identity)
            if row is not None:
                pulls.renew_lister(row, control.clock, identity.id)


async def _must_be_itself(control: ControlPlane, node_id: str, identifier: str, body: Published) -> None:
    """Raises `snapshot-damaged` where the parts are not what the digest says: other regions get the same parts for the same digest.

    Read part by part, before the transaction that publishes: parts are never changed, only dropped, which that notices.
    """
    async with control.database.reading() as session:
        pulls.must_be_lister(await queries.by_id(session, identifier), node_id, body.listing)
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
