"""`/v1/warmups`, and how one is begun for a volume in a region."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession

from headrace.control import streams
from headrace.control.accelerations import mounting, queries
from headrace.control.accelerations.documents import SelectionDocument
from headrace.control.accelerations.names import Names
from headrace.control.idempotency import Key, Replayable
from headrace.control.nodes import service as nodes
from headrace.control.pages import After, Limit, PageOf
from headrace.control.problems import refused
from headrace.control.regions import service as regions
from headrace.control.requests import Control, ControlPlane, Guarded, allowed
from headrace.control.tasks.documents import SoughtVersion
from headrace.control.texts import IdPath, LabelValue, Line, NamePath, SoughtId, SoughtName
from headrace.control.tokens.caller import Caller
from headrace.control.volumes import service as volumes
from headrace.control.warmups import service
from headrace.control.warmups.models import Warmup, WarmupNode

router = APIRouter(prefix="/v1", tags=["warm-ups"], route_class=Guarded)

Reader = Annotated[Caller, allowed("warmups:read")]
Writer = Annotated[Caller, allowed("warmups:write")]
_NODES_MAX = 1000


class WarmupCreation(BaseModel):
    """What to warm, and where: nodes by id or by labels, else every node of the region that is ready."""

    model_config = ConfigDict(extra="forbid")

    selection: SelectionDocument = SelectionDocument()
    version: Annotated[SoughtVersion | None, Field(description="A number, as `v3`, or a label; else the current one.")] = None
    nodes: Annotated[list[SoughtId], Field(max_length=_NODES_MAX)] = []
    labels: Annotated[dict[Line, LabelValue], Field(max_length=64)] = {}


class WarmupNodeDocument(BaseModel):
    """How far a node is."""

    model_config = ConfigDict(from_attributes=True)

    node_id: str
    files: int
    files_total: int
    bytes: int
    bytes_total: int
    complete: bool
    error: str


class WarmupDocument(BaseModel):
    """A warm-up, with its progress, all nodes together and each."""

    id: str
    volume: str
    region: str
    owner: str
    who: str
    version: int
    selection: SelectionDocument
    state: Literal["running", "ended"]
    end: Literal["", "done", "cancelled", "stalled", "gone"]
    files: int
    files_total: int
    bytes: int
    bytes_total: int
    bytes_per_second: float
    seconds_left: float | None
    nodes: list[WarmupNodeDocument]
    created: datetime
    ended: datetime | None


@router.post("/volumes/{volume}/accelerations/{region}/warmups", operation_id="start_warmup", status_code=201)
async def start_warmup(volume: NamePath, region: NamePath, body: WarmupCreation, control: Control, caller: Writer, key: Key = None) -> WarmupDocument:
    """Begins to pull data of a version to nodes (预热). They may be others than those that hold the acceleration."""
    async with control.database.writing() as session:
        once = Replayable(control, session, caller, f"start_warmup {volume} {region}", key, body)
        if (before := await once.claim(WarmupDocument)) is not None:
            return before
        found = await volumes.find(session, caller, volume)
        names, region_id = Names(found.name, region), (await regions.find(session, region)).id
        row = await queries.of(session, found.id, region_id)
        mounting.must_be_mountable(row, names)
        if row is None or row.current is None:
            raise refused("not-found", noun="version", name=body.version or "v1")
        number = await mounting.number_of(session, row, body.version) if body.version is not None else row.current
        there = await _chosen(control, session, region_id, body)
        if not there:
            raise refused("no-nodes", region=region)
        wanted = service.Wanted(row.id, region_id, row.owner, number, body.selection.model_dump(), there)
        made = await service.start(session, control.clock, caller, names, wanted)
        return await once.keep(await _document(control, session, made))


@router.get("/warmups", operation_id="list_warmups")
async def list_warmups(
    control: Control,
    caller: Reader,
    after: After = None,
    limit: Limit = 50,
    region: Annotated[SoughtName | None, Query()] = None,
    ended: bool | None = None,
) -> PageOf[WarmupDocument]:
    """Warm-ups, newest first; a user sees those of own volumes. Those that ended are shown for a week."""
    async with control.database.reading() as session:
        region_id = (await regions.find(session, region)).id if region is not None else None
        found = await service.listed(session, caller, after=after, limit=limit, region_id=region_id, ended=ended)
        warmed = await service.nodes_of_all(session, [row.id for row in found.items])
    now = control.clock.now()
    return PageOf(items=[_shown(row, warmed[row.id], now) for row in found.items], next=found.next)


@router.get("/warmups/{identifier}", operation_id="show_warmup")
async def show_warmup(identifier: IdPath, control: Control, caller: Reader) -> WarmupDocument:
    """One warm-up, with its progress."""
    async with control.database.reading() as session:
        return await _document(control, session, await service.find(session, caller, identifier))


@router.get("/warmups/{identifier}/stream", operation_id="stream_warmup", response_class=streams.EventStream, responses=streams.ANSWERS)
async def stream_warmup(identifier: IdPath, request: Request, control: Control, caller: Reader) -> streams.EventStream:
    """The progress of a warm-up as server-sent events, until it has ended."""
    return await streams.stream(control, request, lambda: show_warmup(identifier, control, caller), lambda shown: shown.state == "ended")


@router.post("/warmups/{identifier}/cancel", operation_id="cancel_warmup")
async def cancel_warmup(identifier: IdPath, control: Control, caller: Writer) -> WarmupDocument:
    """Ends a warm-up; what was pulled stays cached as anything else."""
    async with control.database.writing() as session:
        row = await service.find(session, caller, identifier, lock=True)
        await service.finish(session, control.clock, row, service.End.CANCELLED, caller.subject)
        return await _document(control, session, row)


async def _chosen(control: ControlPlane, session: AsyncSession, region_id: str, body: WarmupCreation) -> set[str]:
    """Ids of nodes. Raises `not-found` for one that is named and not ready in the region."""
    ready = {row.id: row for row in await nodes.usable(session, control.clock.now(), region_id)}
    for name in body.nodes:
        if name not in ready:
            raise refused("not-found", noun="node", name=name)
    named = set(body.nodes) or set(ready)
    return {one for one in named if body.labels.items() <= ready[one].labels.items()}


async def _document(control: ControlPlane, session: AsyncSession, row: Warmup) -> WarmupDocument:
    return _shown(row, await service.nodes_of(session, row.id), control.clock.now())


def _shown(row: Warmup, warmed: Sequence[WarmupNode], now: datetime) -> WarmupDocument:
    done, total = sum(one.bytes for one in warmed), sum(one.bytes_total for one in warmed)
    speed = done / max((now - row.created).total_seconds(), 1.0) if row.ended is None else 0.0
    return WarmupDocument(
        id=row.id,
        volume=row.volume,
        region=row.region,
        owner=row.owner,
        who=row.who,
        version=row.version,
        selection=SelectionDocument.model_validate(row.selection),
        state="running" if row.ended is None else "ended",
        end=row.end,  # type: ignore[arg-type]
        files=sum(one.files for one in warmed),
        files_total=sum(one.files_total for one in warmed),
        bytes=done,
        bytes_total=total,
        bytes_per_second=speed,
        seconds_left=(total - done) / speed if speed > 0 else None,
        nodes=[WarmupNodeDocument.model_validate(one) for one in warmed],
        created=row.created,
        ended=row.ended,
    )
