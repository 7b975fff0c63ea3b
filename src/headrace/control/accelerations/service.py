"""What people can do with accelerations; each inside the caller's transaction, on a row that it has locked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Literal

from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncSession

from headrace.control.accelerations import kept, uses
from headrace.control.accelerations.changes import NO_REASON, SYSTEM, change, holding_nodes, let_go, situation, subject, touch
from headrace.control.accelerations.models import Acceleration, Holding, Version
from headrace.control.accelerations.names import Names
from headrace.control.accelerations.placement import Candidate, Placement
from headrace.control.accelerations.pulls import ask_for_listing, fail
from headrace.control.accelerations.queries import of, versions_of
from headrace.control.accelerations.states import Condition, Happening, Operation, State, must_allow
from headrace.control.clock import Clock
from headrace.control.events.service import record
from headrace.control.ids import new_id
from headrace.control.problems import Text, refused
from headrace.control.regions import service as regions
from headrace.control.tokens.caller import Caller


@dataclass(frozen=True)
class Selection:
    """What is pulled: everything, what patterns choose, or the list of files only."""

    kind: Literal["all", "patterns", "metadata"] = "all"
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()


@dataclass(frozen=True)
class Wanted:
    """What a start asks for."""

    selection: Selection = field(default_factory=Selection)
    placement: Placement = field(default_factory=Placement)
    expire_seconds: int = 86_400
    release_seconds: int = 15 * 86_400
    keep_versions: int = 5
    refresh_every_seconds: int = 0


@dataclass(frozen=True)
class Kept:
    """What can be changed of an acceleration in any state; None stays as it is."""

    expire_seconds: int | None = None
    release_seconds: int | None = None
    keep_versions: int | None = None
    refresh_every_seconds: int | None = None


async def start(
    session: AsyncSession,
    clock: Clock,
    caller: Caller,
    *,
    names: Names,
    volume_id: str,
    owner: str,
    region_id: str,
    wanted: Wanted,
    nodes: Sequence[Candidate],
) -> Acceleration:
    """Begins to accelerate. Raises `state-forbids`, or `no-nodes` where nobody could hold it."""
    row = await of(session, volume_id, region_id)
    if row is None:
        row = _new(clock, volume_id=volume_id, region_id=region_id, owner=owner)
        session.add(row)
    must_allow(situation(row), Operation.START)
    row.selection, row.placement = asdict(wanted.selection), {**asdict(wanted.placement), "labels": dict(wanted.placement.labels)}
    row.expire_seconds, row.release_seconds, row.keep_versions = wanted.expire_seconds, wanted.release_seconds, wanted.keep_versions
    if not holding_nodes(row, nodes):
        raise refused("no-nodes", region=names.region)
    row.at_once = False
    row.refresh_every_seconds = wanted.refresh_every_seconds
    await change(session, clock, row, Happening.START, caller.subject, names)
    await ask_for_listing(session, clock, row, nodes)
    return row


async def refresh(
    session: AsyncSession, clock: Clock, row: Acceleration, who: str, names: Names, nodes: Sequence[Candidate], *, at_once: bool, why: str = ""
) -> None:
    """Lists the origin again (回源上游). What is new becomes current when it is held, or at once."""
    must_allow(situation(row), Operation.REFRESH)
    if not holding_nodes(row, nodes):
        raise refused("no-nodes", region=names.region)
    row.at_once = at_once
    await change(session, clock, row, Happening.REFRESH, who, names, why)
    await ask_for_listing(session, clock, row, nodes)


async def refresh_if_due(session: AsyncSession, clock: Clock, row: Acceleration, names: Names, nodes: Sequence[Candidate]) -> None:
    """Refreshes what has a schedule, once its time has come; where nobody could hold it now, the next sweep looks again."""
    due = row.refresh_every_seconds and clock.now() >= row.began + timedelta(seconds=row.refresh_every_seconds)
    if due and row.state == State.ACTIVE and holding_nodes(row, nodes):
        await refresh(session, clock, row, SYSTEM, names, nodes, at_once=False, why=f"every {row.refresh_every_seconds} s, as scheduled")


def keep(session: AsyncSession, clock: Clock, row: Acceleration, caller: Caller, names: Names, said: Kept) -> None:
    """Changes how long it is kept, how much of it, and its schedule. Raises ValueError where it would be released before it expires."""
    changed = {name: value for name, value in asdict(said).items() if value is not None and value != getattr(row, name)}
    for name, value in changed.items():
        setattr(row, name, value)
    if row.release_seconds < row.expire_seconds:
        raise ValueError("release_seconds is less than expire_seconds")
    if changed:
        touch(row, clock)
        record(session, clock, subject(row, names), "acceleration-edited", caller.subject, **changed)


async def release(session: AsyncSession, clock: Clock, row: Acceleration, caller: Caller, names: Names, *, force: bool = False) -> None:
    """Lets go of everything held (手动释放). Nothing is held in the books from now on; a node that is away catches up when it is back.

    Raises `tasks-mounted` while tasks mount it; with `force` their mounts end.
    """
    must_allow(situation(row), Operation.RELEASE)
    mounted = await uses.holders(session, row.id)
    if mounted and not force:
        raise refused("tasks-mounted", name=str(names), tasks=", ".join(mounted))
    await change(session, clock, row, Happening.RELEASE, caller.subject, names, tasks=mounted)
    await let_go(session, row)
    await uses.lose(session, row.id, Text(f"{names} was released by {caller.subject}", f"{names} 已被 {caller.subject} 释放"))


async def cancel(session: AsyncSession, clock: Clock, row: Acceleration, caller: Caller, names: Names) -> None:
    """Ends a pull that nobody wants any more: as if it had failed, with the operator's name as the reason."""
    must_allow(situation(row), Operation.CANCEL, operator=caller.is_admin)
    await fail(session, clock, row, names, Text(f"cancelled by {caller.subject}", f"已由 {caller.subject} 取消"), who=caller.subject)


async def roll_back(session: AsyncSession, clock: Clock, row: Acceleration, caller: Caller, names: Names, number: int) -> None:
    """Makes a kept version current. Tasks that started with another one go on with that. Raises `state-forbids` where it can't be read any more."""
    must_allow(situation(row), Operation.ROLL_BACK)
    if await session.get(Version, (row.id, number)) is None:
        raise refused("not-found", noun="version", name=f"v{number}")
    if (await kept.wholes(session, row)).get(number) == "not retrievable":
        reason = Text(
            f"files of v{number} were overwritten or deleted in the bucket, and no node has them",
            f"v{number} 的部分文件已在存储桶中被覆盖或删除，且没有节点持有",
        )
        raise refused("state-forbids", operation="roll back", reason=reason, remedy=Text("choose another version", "请选择其他版本"))
    before, row.current = row.current, number
    touch(row, clock)
    await regions.bump(session, row.region_id)
    record(session, clock, subject(row, names), "rolled-back", caller.subject, before=before, now=number)


async def label(session: AsyncSession, clock: Clock, row: Acceleration, caller: Caller, names: Names, number: int, text: str) -> Version:
    """Calls a version something; a version with a label is kept. Raises `not-found`, or `name-taken` where another one is called that."""
    found = await session.get(Version, (row.id, number))
    if found is None:
        raise refused("not-found", noun="version", name=f"v{number}")
    for other in await versions_of(session, row.id):
        if text and other.label == text and other.number != number:
            raise refused("name-taken", noun="label", name=text)
    found.label = text
    touch(row, clock)
    await regions.bump(session, row.region_id)
    record(session, clock, subject(row, names), "version-labelled", caller.subject, version=number, label=text)
    return found


async def forget_region(session: AsyncSession, region_id: str) -> None:
    """Takes the idle accelerations of a region away with it."""
    await session.execute(delete(Acceleration).where(Acceleration.region_id == region_id))


async def forget_node(session: AsyncSession, node_id: str) -> None:
    """A node is gone, and what it held with it: 加速用量 counts it no more."""
    await session.execute(delete(Holding).where(Holding.node_id == node_id))
    await kept.forget(session, node_id=node_id)


async def forget_volume(session: AsyncSession, volume_id: str) -> None:
    """Takes the idle accelerations of a volume away with it."""
    await session.execute(delete(Acceleration).where(Acceleration.volume_id == volume_id))


def _new(clock: Clock, *, volume_id: str, region_id: str, owner: str) -> Acceleration:
    now = clock.now()
    return Acceleration(
        id=new_id(now),
        volume_id=volume_id,
        region_id=region_id,
        owner=owner,
        state=State.IDLE.value,
        condition=Condition.NONE.value,
        reason=NO_REASON,
        current=None,
        pulling=None,
        numbered=0,
        listing=0,
        lister=None,
        lister_until=None,
        began=now,
        progressed=now,
        used=now,
        refresh_every_seconds=0,
        revision=0,
        created=now,
        changed=now,
    )
