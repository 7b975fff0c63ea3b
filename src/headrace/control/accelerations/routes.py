"""`/v1/volumes/{volume}/accelerations` and `/v1/accelerations`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request
from sqlalchemy.ext.asyncio import AsyncSession

from headrace.control import streams
from headrace.control.accelerations import kept, queries, service, uses
from headrace.control.accelerations.documents import (
    AccelerationDocument,
    AccelerationEdit,
    AccelerationSummary,
    Refresh,
    Release,
    RollBack,
    Start,
    VersionDocument,
    VersionEdit,
    shown,
    summary,
    version_shown,
)
from headrace.control.accelerations.models import Acceleration
from headrace.control.accelerations.names import Names
from headrace.control.accelerations.placement import Candidate
from headrace.control.accelerations.sweeping import candidates
from headrace.control.idempotency import Key, Replayable
from headrace.control.pages import After, Limit, PageOf
from headrace.control.problems import Finding, Text, refused
from headrace.control.regions import service as regions
from headrace.control.requests import Control, ControlPlane, Guarded, allowed
from headrace.control.revisions import IfMatch, must_match
from headrace.control.texts import NamePath, SoughtName
from headrace.control.tokens.caller import Caller
from headrace.control.volumes import service as volumes

router = APIRouter(prefix="/v1", tags=["accelerations"], route_class=Guarded)

Reader = Annotated[Caller, allowed("accelerations:read")]
Writer = Annotated[Caller, allowed("accelerations:write")]
Number = Annotated[int, Path(ge=1, le=2**31 - 1)]
_BEFORE_IT_EXPIRES = Finding(
    "release_seconds",
    "bad-value",
    Text("it would be less than expire_seconds", "将小于 expire_seconds"),
    Text("change both: what is released has expired before", "请同时修改两者：释放发生在过期之后"),
)
_ONE = "/volumes/{volume}/accelerations/{region}"


@dataclass(frozen=True)
class Locked:
    """An acceleration whose row is ours until the transaction ends."""

    session: AsyncSession
    row: Acceleration
    names: Names
    nodes: list[Candidate]


@asynccontextmanager
async def _locked(control: ControlPlane, caller: Caller, volume: str, region: str) -> AsyncIterator[Locked]:
    async with control.database.writing() as session:
        names = Names(volume, region)
        row = await _found(session, caller, names, lock=True)
        yield Locked(session, row, names, await candidates(session, control.clock, row.region_id))


async def _found(session: AsyncSession, caller: Caller, names: Names, *, lock: bool = False) -> Acceleration:
    volume = await volumes.find(session, caller, names.volume)
    region = await regions.find(session, names.region)
    return await queries.find(session, caller, volume.id, region.id, names, lock=lock)


async def _document(control: ControlPlane, session: AsyncSession, row: Acceleration, names: Names) -> AccelerationDocument:
    used = await uses.counts(session, [row.id])
    return shown(row, names, await queries.holdings_of(session, row.id), used.get(row.id, 0), control.clock.now())


@router.post("/volumes/{volume}/accelerations", operation_id="start_acceleration", status_code=201)
async def start_acceleration(volume: NamePath, body: Start, control: Control, caller: Writer, key: Key = None) -> AccelerationDocument:
    """Begins to accelerate a volume in a region (开始加速): lists the directory, then pulls what is selected. It can be mounted in between."""
    async with control.database.writing() as session:
        once = Replayable(control, session, caller, f"start_acceleration {volume}", key, body)
        if (before := await once.claim(AccelerationDocument)) is not None:
            return before
        found = await volumes.find(session, caller, volume, lock=True)
        region = await regions.find(session, body.region)
        names = Names(found.name, region.name)
        row = await service.start(
            session,
            control.clock,
            caller,
            names=names,
            volume_id=found.id,
            owner=found.owner,
            region_id=region.id,
            wanted=body.wanted(),
            nodes=await candidates(session, control.clock, region.id),
        )
        return await once.keep(await _document(control, session, row, names))


@router.get("/accelerations", operation_id="list_accelerations")
async def list_accelerations(
    control: Control,
    caller: Reader,
    after: After = None,
    limit: Limit = 50,
    region: Annotated[SoughtName | None, Query()] = None,
    volume: Annotated[SoughtName | None, Query()] = None,
    state: Literal["idle", "syncing", "active", "expiring"] | None = None,
) -> PageOf[AccelerationSummary]:
    """Accelerations without what each node has, in the order in which they were first started; a user sees those of own volumes."""
    async with control.database.reading() as session:
        region_id = (await regions.find(session, region)).id if region is not None else None
        volume_id = (await volumes.find(session, caller, volume)).id if volume is not None else None
        found = await queries.listed(session, caller, after_id=after, limit=limit, region_id=region_id, volume_id=volume_id, state=state)
        # A question for the page, not for each of its rows.
        held = await queries.sums_of_all(session, [row.id for row in found.items])
        used = await uses.counts(session, [row.id for row in found.items])
        in_regions = await regions.names(session, {row.region_id for row in found.items})
        of_volumes = await volumes.names(session, {row.volume_id for row in found.items})
    now = control.clock.now()
    items = [summary(row, Names(of_volumes[row.volume_id], in_regions[row.region_id]), held[row.id], used.get(row.id, 0), now) for row in found.items]
    return PageOf(items=items, next=found.next)


@router.get(_ONE, operation_id="show_acceleration")
async def show_acceleration(volume: NamePath, region: NamePath, control: Control, caller: Reader) -> AccelerationDocument:
    """One acceleration, with the progress of its pull."""
    async with control.database.reading() as session:
        names = Names(volume, region)
        return await _document(control, session, await _found(session, caller, names), names)


@router.get(f"{_ONE}/stream", operation_id="stream_acceleration", response_class=streams.EventStream, responses=streams.ANSWERS)
async def stream_acceleration(volume: NamePath, region: NamePath, request: Request, control: Control, caller: Reader) -> streams.EventStream:
    """The progress of a pull as server-sent events, until it has ended."""
    return await streams.stream(control, request, lambda: show_acceleration(volume, region, control, caller), lambda shown: shown.state != "syncing")


@router.patch(_ONE, operation_id="edit_acceleration")
async def edit_acceleration(
    volume: NamePath, region: NamePath, body: AccelerationEdit, control: Control, caller: Writer, if_match: IfMatch = None
) -> AccelerationDocument:
    """Changes how long it is kept, how much of it, and its schedule."""
    async with _locked(control, caller, volume, region) as one:
        must_match(if_match, one.row.id, one.row.revision)
        try:
            service.keep(one.session, control.clock, one.row, caller, one.names, service.Kept(**body.model_dump()))
        except ValueError:
            raise refused("invalid", [_BEFORE_IT_EXPIRES]) from None
        return await _document(control, one.session, one.row, one.names)


@router.post(f"{_ONE}/release", operation_id="release_acceleration")
async def release_acceleration(
    volume: NamePath, region: NamePath, control: Control, caller: Writer, body: Release | None = None
) -> AccelerationDocument:
    """Releases what is held, on every node (手动释放). The volume stays. While tasks mount it, it is refused with their names unless forced."""
    async with _locked(control, caller, volume, region) as one:
        await service.release(one.session, control.clock, one.row, caller, one.names, force=body is not None and body.force)
        return await _document(control, one.session, one.row, one.names)


@router.post(f"{_ONE}/refresh", operation_id="refresh_acceleration")
async def refresh_acceleration(volume: NamePath, region: NamePath, body: Refresh, control: Control, caller: Writer) -> AccelerationDocument:
    """Lists the origin again (回源上游), and pulls what is new. Readers keep the old version until the new one is current."""
    async with _locked(control, caller, volume, region) as one:
        await service.refresh(one.session, control.clock, one.row, caller.subject, one.names, one.nodes, at_once=body.at_once)
        return await _document(control, one.session, one.row, one.names)


@router.post(f"{_ONE}/cancel", operation_id="cancel_pull")
async def cancel_pull(volume: NamePath, region: NamePath, control: Control, caller: Writer) -> AccelerationDocument:
    """Ends a pull, as if it had failed. For administrators."""
    async with _locked(control, caller, volume, region) as one:
        await service.cancel(one.session, control.clock, one.row, caller, one.names)
        return await _document(control, one.session, one.row, one.names)


@router.post(f"{_ONE}/rollback", operation_id="roll_back")
async def roll_back(volume: NamePath, region: NamePath, body: RollBack, control: Control, caller: Writer) -> AccelerationDocument:
    """Makes a kept version current."""
    async with _locked(control, caller, volume, region) as one:
        await service.roll_back(one.session, control.clock, one.row, caller, one.names, body.version)
        return await _document(control, one.session, one.row, one.names)


@router.get(f"{_ONE}/versions", operation_id="list_versions")
async def list_versions(volume: NamePath, region: NamePath, control: Control, caller: Reader) -> list[VersionDocument]:
    """Kept versions, oldest first."""
    async with control.database.reading() as session:
        row = await _found(session, caller, Names(volume, region))
        wholes = await kept.wholes(session, row)
        return [version_shown(one, row.current, wholes.get(one.number, "unknown")) for one in await queries.versions_of(session, row.id)]


@router.patch(f"{_ONE}/versions/{{number}}", operation_id="edit_version")
async def edit_version(volume: NamePath, region: NamePath, number: Number, body: VersionEdit, control: Control, caller: Writer) -> VersionDocument:
    """Gives a version a label, or takes it away."""
    async with _locked(control, caller, volume, region) as one:
        found = await service.label(one.session, control.clock, one.row, caller, one.names, number, body.label)
        return version_shown(found, one.row.current, (await kept.wholes(one.session, one.row)).get(number, "unknown"))
