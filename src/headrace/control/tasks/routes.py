"""`/v1/tasks`. A command never comes here: whoever runs it does so where it is typed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request
from sqlalchemy.ext.asyncio import AsyncSession

from headrace.control import streams
from headrace.control.accelerations import mounting, queries, uses
from headrace.control.accelerations.names import Names
from headrace.control.accelerations.progress import progress_of_all
from headrace.control.idempotency import Key, Replayable
from headrace.control.nodes import service as nodes
from headrace.control.pages import After, Limit, PageOf
from headrace.control.problems import Text, refused
from headrace.control.regions import service as regions
from headrace.control.requests import Control, ControlPlane, Guarded, allowed
from headrace.control.tasks import service
from headrace.control.tasks.documents import (
    Attachment,
    Ending,
    Placed,
    Placing,
    Renewal,
    TaskCreation,
    TaskDocument,
    shown,
)
from headrace.control.tasks.models import Task
from headrace.control.tasks.placing import best
from headrace.control.tasks.taking import take
from headrace.control.texts import IdPath, SoughtName
from headrace.control.tokens.caller import Caller
from headrace.control.volumes import service as volumes

router = APIRouter(prefix="/v1/tasks", tags=["tasks"], route_class=Guarded)

Reader = Annotated[Caller, allowed("tasks:read")]
Writer = Annotated[Caller, allowed("tasks:write")]
_ONE = "/{identifier}"


@router.post("", operation_id="create_task", status_code=201)
async def create_task(body: TaskCreation, control: Control, caller: Writer, key: Key = None) -> TaskDocument:
    """Starts a task: its mounts count as use of what they mount until its lease ends. It waits where nothing is published yet."""
    async with control.database.writing() as session:
        once = Replayable(control, session, caller, "create_task", key, body)
        if (before := await once.claim(TaskDocument)) is not None:
            return before
        await service.must_have_room(session, caller.subject)
        region = await regions.find(session, body.region)
        if body.node is not None:
            await _must_take_tasks(control, session, body.node, region.id)
        mounts = []
        for mount in body.mounts:
            volume = await volumes.find(session, caller, mount.volume)
            found = await queries.id_of(session, volume.id, region.id)
            if found is None:
                mounting.must_be_mountable(None, Names(volume.name, region.name))
            mounts.append(mount.of(str(found), volume.name))
        wanted = service.Wanted(body.name or "", region.id, body.node, body.user, body.lasts_seconds)
        row = service.create(session, control.clock, caller, wanted, mounts)
        await session.flush()
        await take(session, control.clock, row, await service.mounts_of(session, row.id))
        return await once.keep(await _document(control, session, row))


@router.get("", operation_id="list_tasks")
async def list_tasks(
    control: Control,
    caller: Reader,
    after: After = None,
    limit: Limit = 50,
    region: Annotated[SoughtName | None, Query()] = None,
    volume: Annotated[SoughtName | None, Query()] = None,
    ended: bool | None = None,
) -> PageOf[TaskDocument]:
    """Tasks, newest first; a user sees own ones. Those that ended are shown for a week."""
    async with control.database.reading() as session:
        region_id = (await regions.find(session, region)).id if region is not None else None
        ids = await queries.ids_of_volume(session, (await volumes.find(session, caller, volume)).id) if volume is not None else None
        found = await service.listed(session, caller, after=after, limit=limit, region_id=region_id, acceleration_ids=ids, ended=ended)
        return PageOf(items=await _documents(control, session, found.items), next=found.next)


@router.get(_ONE, operation_id="show_task")
async def show_task(identifier: IdPath, control: Control, caller: Reader) -> TaskDocument:
    """One task, with the progress of what it mounts."""
    async with control.database.reading() as session:
        return await _document(control, session, await service.find(session, caller, identifier))


@router.get(f"{_ONE}/stream", operation_id="stream_task", response_class=streams.EventStream, responses=streams.ANSWERS)
async def stream_task(identifier: IdPath, request: Request, control: Control, caller: Reader) -> streams.EventStream:
    """How a task gets on as server-sent events, until it waits no longer."""
    return await streams.stream(control, request, lambda: show_task(identifier, control, caller), lambda shown: shown.state != "waiting")


@router.post(f"{_ONE}/renew", operation_id="renew_task")
async def renew_task(identifier: IdPath, body: Renewal, control: Control, caller: Writer) -> TaskDocument:
    """Makes a lease last from now on. For whoever runs a task without a node's mounts."""
    async with control.database.writing() as session:
        row = await service.find(session, caller, identifier, lock=True)
        service.renew(control.clock, row, body.lease, late=control.hearing.has_just_begun())
        return await _document(control, session, row)


@router.post(f"{_ONE}/attach", operation_id="attach_task")
async def attach_task(identifier: IdPath, body: Attachment, control: Control, caller: Writer) -> TaskDocument:
    """Takes a lease over; whoever had it is refused from now on."""
    async with control.database.writing() as session:
        row = await service.find(session, caller, identifier, lock=True)
        service.attach(session, control.clock, row, caller, body.lasts_seconds)
        return await _document(control, session, row)


@router.post(f"{_ONE}/end", operation_id="end_task")
async def end_task(identifier: IdPath, body: Ending, control: Control, caller: Writer) -> TaskDocument:
    """Ends a task; one that has ended already stays as it is. Where a node has its mounts, they end."""
    async with control.database.writing() as session:
        row = await service.find(session, caller, identifier, lock=True)
        because = Text(f"ended by {caller.subject}", f"由 {caller.subject} 结束")
        await service.end(session, control.clock, row, caller.subject, service.End.DONE, because, body.lease)
        return await _document(control, session, row)


@router.post("/place", operation_id="place_task")
async def place_task(body: Placing, control: Control, caller: Reader) -> Placed:
    """Names a node of a region for a task: with these labels and room, that holds most of the volumes and has fewest tasks."""
    async with control.database.reading() as session:
        region = await regions.find(session, body.region)
        found = [await volumes.find(session, caller, name) for name in body.volumes]
        ids = [one for volume in found if (one := await queries.id_of(session, volume.id, region.id)) is not None]
        usable = [row for row in await nodes.usable(session, control.clock.now(), region.id) if body.labels.items() <= row.labels.items()]
        names = [row.id for row in usable]
        placed = best(usable, await queries.held_on(session, names, ids), await service.counts(session, names), body.room_bytes)
    if placed is None:
        raise refused("no-nodes", region=region.name)
    return placed


async def _must_take_tasks(control: ControlPlane, session: AsyncSession, identifier: str, region_id: str) -> None:
    """Raises `not-found` for a node of another region, `state-forbids` for one that gets no new tasks."""
    node = await nodes.find(session, identifier)
    if node.region_id != region_id:
        raise refused("not-found", noun="node", name=identifier)
    if (state := nodes.state_of(node, control.clock.now())) != "ready":
        chinese = {"draining": "正在排空", "lost": "已失联"}[state]
        reason = Text(f"the node {node.name} is {state}", f"节点 {node.name} {chinese}")
        raise refused("state-forbids", operation="mount", reason=reason, remedy=Text("choose another node", "请选择其他节点"))


async def _document(control: ControlPlane, session: AsyncSession, row: Task) -> TaskDocument:
    return (await _documents(control, session, [row]))[0]


async def _documents(control: ControlPlane, session: AsyncSession, rows: Sequence[Task]) -> list[TaskDocument]:
    """Several at once: a question for all, not for each."""
    ids = [row.id for row in rows]
    mounts, used = await service.mounts_of_all(session, ids), await uses.of_tasks(session, ids)
    in_regions = await regions.names(session, {row.region_id for row in rows})
    mounted = {found.id: found for pairs in used.values() for _, found in pairs}
    pulls = await progress_of_all(session, list(mounted.values()), control.clock.now())
    return [
        shown(row, in_regions.get(row.region_id, ""), mounts[row.id], {use.ordinal: use.version for use, _ in used[row.id]}, pulls) for row in rows
    ]
