"""What nodes ask and tell of tasks."""

from __future__ import annotations

from fastapi import APIRouter

from headrace.control.accelerations import queries, uses
from headrace.control.accelerations.node_documents import OriginDocument, version_wanted
from headrace.control.ceilings import shared
from headrace.control.nodes.identity import OfNode
from headrace.control.problems import Text, refused
from headrace.control.requests import Control, Guarded
from headrace.control.tasks import service
from headrace.control.tasks.documents import Gone, NodeMount, NodeTask, NodeTasks
from headrace.control.tasks.taking import revive
from headrace.control.texts import IdPath
from headrace.control.volumes import service as volumes

router = APIRouter(prefix="/v1/node/tasks", tags=["nodes"], route_class=Guarded)


@router.get("/{identifier}", operation_id="node_task")
async def node_task(identifier: IdPath, control: Control, identity: OfNode) -> NodeTask:
    """A task of this node that has not ended, with what it mounts."""
    async with control.database.reading() as session:
        row = await service.lookup(session, identifier)
        if row is None or row.node_id != identity.id or row.ended is not None:
            raise refused("not-found", noun="task", name=identifier)
        used = {use.ordinal: (use, found) for use, found in (await uses.of_tasks(session, [row.id]))[row.id]}
        origins = await volumes.for_nodes_by_id(session, {found.volume_id for _, found in used.values()})
        origins = await shared(session, control.clock, identity.id, origins)
        mounts = []
        for mount in await service.mounts_of(session, row.id):
            if mount.ordinal not in used:  # it has ended since
                raise refused("not-found", noun="task", name=identifier)
            use, found = used[mount.ordinal]
            number = found.current if use.follow else use.version
            version = await queries.version(session, found.id, number) if number is not None else None
            mounts.append(
                NodeMount(
                    acceleration=found.id,
                    path=mount.path,
                    follow=mount.follow,
                    origin=OriginDocument(**origins[found.volume_id]),
                    version=version_wanted(version) if version is not None else None,
                )
            )
    return NodeTask(id=row.id, name=row.name, owner=row.owner, user=row.user_id, lease=row.lease, mounts=mounts)


@router.post("", operation_id="tell_tasks")
async def tell_tasks(body: NodeTasks, control: Control, identity: OfNode) -> Gone:
    """Renews the leases of tasks whose mounts are on this node, and ends those whose mounts are gone.

    A task whose lease ran out while nobody heard of the node lives on: its programs read all the time.
    """
    for ended in body.ended:
        async with control.database.writing() as session:
            row = await service.lookup(session, ended.id, lock=True)
            if row is not None and row.node_id == identity.id and row.lease == ended.lease:
                reason = ended.reason or "its mounts have ended"
                await service.finish(session, control.clock, row, identity.who, service.End.DONE, Text(reason, ended.reason or "其挂载已结束"))
    leases = {held.id: held.lease for held in body.held}
    if not leases:
        return Gone(gone=[])
    async with control.database.writing() as session:
        known = await service.renew_all(session, control.clock, identity.id, leases)
    gone = [identifier for identifier in leases if identifier not in known]
    for identifier in [one for one, alive in known.items() if not alive]:
        async with control.database.writing() as session:
            if not await revive(session, control.clock, identifier, leases[identifier], identity.who):
                gone.append(identifier)
    return Gone(gone=gone)
