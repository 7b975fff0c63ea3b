"""`/v1/nodes` for people, `/v1/join-tokens`, and `/v1/enrol` and heartbeats for nodes themselves."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from fastapi.security import HTTPAuthorizationCredentials
from pydantic import BaseModel, ConfigDict, Field

from headrace.control.accelerations import service as accelerations
from headrace.control.events.service import Subject, record
from headrace.control.idempotency import Key, Replayable
from headrace.control.nodes import service
from headrace.control.nodes.identity import OfNode
from headrace.control.nodes.models import Node
from headrace.control.pages import After, Limit, Page, PageOf
from headrace.control.problems import refused
from headrace.control.regions import service as regions
from headrace.control.requests import Control, ControlPlane, Guarded, allowed, guarded_by
from headrace.control.texts import IdPath, LabelValue, Line, Name, SoughtName, told
from headrace.control.tokens.caller import Caller
from headrace.control.usage import traffic
from headrace.control.warmups import service as warmups

router = APIRouter(prefix="/v1", tags=["nodes"], route_class=Guarded)

Reader = Annotated[Caller, allowed("nodes:read")]
Writer = Annotated[Caller, allowed("nodes:write")]
Bytes = Annotated[int, Field(ge=0, le=2**62)]
_LABELS_MAX = 64
_HEALTH_MAX = 64
_Shown = Annotated[str, told(512)]
# JSON as Python reads it has NaN, infinities and numbers of any length, which no database keeps.
_Number = Annotated[float, Field(allow_inf_nan=False)]
_Whole = Annotated[int, Field(ge=-(2**62), le=2**62)]
Measure = bool | _Whole | _Number | _Shown | Annotated[list[_Shown], Field(max_length=_HEALTH_MAX)]
Health = Annotated[dict[Annotated[Line, Field(max_length=64)], Measure], Field(max_length=_HEALTH_MAX)]


class JoinTokenCreation(BaseModel):
    """A join token to make."""

    model_config = ConfigDict(extra="forbid")

    region: Name
    lasts_seconds: Annotated[int, Field(ge=60, le=86_400)] = 3600


class NewJoinToken(BaseModel):
    """A join token, good for one node; its text is shown this once."""

    id: str
    region: str
    expires: datetime
    token: str


class Told(BaseModel):
    """What a node tells of itself with every heartbeat."""

    model_config = ConfigDict(extra="forbid")

    version: Annotated[Line, Field(max_length=64)]
    capacity_bytes: Bytes = 0
    used_bytes: Bytes = 0
    applied: Annotated[Bytes, Field(description="Version of what should be that it has reached.")] = 0
    health: Health = {}

    def report(self) -> service.Report:
        return service.Report(self.version, self.capacity_bytes, self.used_bytes, self.applied, self.health)


class Enrolment(BaseModel):
    """A node that joins; sent with a join token as the bearer."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    labels: Annotated[dict[Line, LabelValue], Field(max_length=_LABELS_MAX)] = {}
    told: Told


class Enrolled(BaseModel):
    """A node's identity: shown this once."""

    id: str
    region: str
    token: str
    heartbeat_seconds: int


class Beat(BaseModel):
    """The answer to a heartbeat."""

    desired: Annotated[int, Field(description="Version of what should be.")]
    heartbeat_seconds: int


class NodeDocument(BaseModel):
    """A node."""

    id: str
    name: str
    region: str
    state: Literal["ready", "draining", "lost"]
    labels: dict[str, str]
    version: str
    capacity_bytes: int
    used_bytes: int
    applied: int
    health: Health
    joined: datetime
    heard: datetime


class NodeEdit(BaseModel):
    """What to change of a node; what is absent stays."""

    model_config = ConfigDict(extra="forbid")

    draining: bool | None = None
    labels: Annotated[
        dict[Line, LabelValue | None] | None,
        Field(max_length=_LABELS_MAX, description="Labels to set, and with null to take away; others stay."),
    ] = None


async def _joining(control: ControlPlane, bearer: HTTPAuthorizationCredentials | None) -> str:
    """A join token that is good now: whoever has none is told nothing of what a request should look like."""
    if bearer is None:
        raise refused("unauthenticated")
    async with control.database.reading() as session:
        await service.join_token(session, control.clock, bearer.credentials)
    return bearer.credentials


Joining = Annotated[str, Depends(guarded_by(_joining))]


@router.post("/join-tokens", operation_id="create_join_token", status_code=201)
async def create_join_token(body: JoinTokenCreation, control: Control, caller: Writer, key: Key = None) -> NewJoinToken:
    """Makes a token that one node can join a region with. For administrators."""
    async with control.database.writing() as session:
        once = Replayable(control, session, caller, "create_join_token", key, body)
        if (before := await once.claim(NewJoinToken)) is not None:
            return before
        # Locked: somebody may just delete it.
        region = await regions.find(session, body.region, lock=True)
        row, text = await service.create_join_token(session, control.clock, region.id, timedelta(seconds=body.lasts_seconds))
        record(session, control.clock, Subject("region", region.id, region.name, ""), "join-token-created", caller.subject)
        return await once.keep(NewJoinToken(id=row.id, region=region.name, expires=row.expires, token=text))


@router.post("/enrol", operation_id="enrol", status_code=201)
async def enrol(body: Enrolment, control: Control, token: Joining) -> Enrolled:
    """Joins a region. The join token, sent as the bearer, is spent by that; where the answer was lost, the same name may ask again."""
    async with control.database.writing() as session:
        # The region before the token, as whoever deletes a region does.
        await regions.by_id(session, (await service.join_token(session, control.clock, token)).region_id, lock=True)
        row, text = await service.enrol(session, control.clock, token, body.name, body.labels, body.told.report())
        region = await regions.by_id(session, row.region_id)
        await regions.bump(session, region.id)
        record(session, control.clock, _subject(row), "node-joined", f"node {row.name}", region=region.name)
    return Enrolled(id=row.id, region=region.name, token=text, heartbeat_seconds=service.HEARTBEAT_SECONDS)


@router.post("/node/heartbeat", operation_id="heartbeat")
async def heartbeat(body: Told, control: Control, identity: OfNode) -> Beat:
    """A node is alive, and tells how it is."""
    async with control.database.writing() as session:
        await service.heard(session, control.clock, identity, body.report())
    desired = await control.watch.wait(identity.region_id, -1, 0)
    return Beat(desired=desired, heartbeat_seconds=service.HEARTBEAT_SECONDS)


@router.get("/nodes", operation_id="list_nodes")
async def list_nodes(
    control: Control, _caller: Reader, after: After = None, limit: Limit = 50, region: Annotated[SoughtName | None, Query()] = None
) -> PageOf[NodeDocument]:
    """Nodes, in the order in which they joined."""
    async with control.database.reading() as session:
        region_id = (await regions.find(session, region)).id if region is not None else None
        found = await service.listed(session, after=after, limit=limit, region_id=region_id)
        names = await regions.names(session, {row.region_id for row in found.items})
    return _page(found, names, control.clock.now())


@router.get("/nodes/{identifier}", operation_id="show_node")
async def show_node(identifier: IdPath, control: Control, _caller: Reader) -> NodeDocument:
    """One node."""
    async with control.database.reading() as session:
        row = await service.find(session, identifier)
        region = await regions.by_id(session, row.region_id)
    return _document(row, region.name, control.clock.now())


@router.patch("/nodes/{identifier}", operation_id="edit_node")
async def edit_node(identifier: IdPath, body: NodeEdit, control: Control, caller: Writer) -> NodeDocument:
    """Drains a node, or takes it back into use; changes its labels. For administrators."""
    async with control.database.writing() as session:
        row = await service.find(session, identifier, lock=True)
        region = await regions.by_id(session, row.region_id)
        if body.draining is not None and row.draining != body.draining:
            service.drain(row, draining=body.draining)
            await regions.bump(session, region.id)
            record(session, control.clock, _subject(row), "node-draining" if body.draining else "node-in-use", caller.subject)
        if changed := service.label(row, body.labels or {}, most=_LABELS_MAX):
            await regions.bump(session, region.id)
            record(session, control.clock, _subject(row), "node-labelled", caller.subject, labels=changed)
    return _document(row, region.name, control.clock.now())


@router.delete("/nodes/{identifier}", operation_id="remove_node", status_code=204)
async def remove_node(identifier: IdPath, control: Control, caller: Writer) -> None:
    """Removes a node; its identity ends at once. For administrators."""
    async with control.database.writing() as session:
        row = await service.find(session, identifier, lock=True)
        await regions.bump(session, row.region_id)
        record(session, control.clock, _subject(row), "node-removed", caller.subject)
        await accelerations.forget_node(session, row.id)
        await warmups.forget_node(session, row.id)
        await traffic.forget_node(session, row.id)
        await service.remove(session, row)


def _page(found: Page[Node], names: dict[str, str], now: datetime) -> PageOf[NodeDocument]:
    return PageOf(items=[_document(row, names[row.region_id], now) for row in found.items], next=found.next)


def _document(row: Node, region: str, now: datetime) -> NodeDocument:
    return NodeDocument(
        id=row.id,
        name=row.name,
        region=region,
        state=service.state_of(row, now),
        labels=row.labels,
        version=row.version,
        capacity_bytes=row.capacity_bytes,
        used_bytes=row.used_bytes,
        applied=row.applied,
        health=row.health,
        joined=row.joined,
        heard=row.heard,
    )


def _subject(row: Node) -> Subject:
    return Subject("node", row.id, row.name, "")
