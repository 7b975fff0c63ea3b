"""What can be done with tasks; each inside the caller's transaction.

A task is alive while its lease is renewed: by the node that has its mounts, or by whoever runs it elsewhere. `lease` is a fencing token:
taking a lease over makes it greater, and who comes with an older one is refused. Rows are locked in one order everywhere: the task, then
accelerations by id.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import BigInteger, cast, delete, func, select, type_coerce, update
from sqlalchemy.ext.asyncio import AsyncSession

from headrace.control.accelerations import uses
from headrace.control.clock import Clock
from headrace.control.database import Instant
from headrace.control.events.service import Subject, record
from headrace.control.ids import new_id
from headrace.control.pages import Page, page
from headrace.control.problems import Text, refused
from headrace.control.regions import service as regions
from headrace.control.tasks.models import Task, TaskMount
from headrace.control.tokens.caller import Caller

# A node renews every half minute at the latest, so three of them may be lost.
LEASE_SECONDS = 120
# Ended tasks are shown for a while.
_SHOWN_LASTS = timedelta(days=7)
_DROPPED_AT_ONCE = 500
# Of two replicas, at most.
_CLOCKS_DIFFER = timedelta(seconds=60)


class End(StrEnum):
    """How a task ended."""

    NONE = ""
    # Its command, or whoever held its lease, said so.
    DONE = "done"
    # Nobody renewed the lease. Who proves to be alive afterwards may revive it.
    LEASE = "lease"
    # What it mounted is not there any more.
    LOST = "lost"


# Of one owner, that have not ended.
TASKS_MAX = 10_000

_LEASE_RAN_OUT = Text("nobody renewed its lease", "租约未续期")


@dataclass(frozen=True)
class Wanted:
    """What a task is."""

    name: str
    region_id: str
    node_id: str | None
    user_id: int | None
    lasts_seconds: int


@dataclass(frozen=True)
class WantedMount:
    """A volume at a path; the acceleration is the volume's in the task's region."""

    acceleration_id: str
    volume: str
    path: str
    version: str | None
    follow: bool


async def must_have_room(session: AsyncSession, owner: str) -> None:
    """Raises `too-many-tasks`: whoever creates them in a circle is stopped before the database is full of them."""
    alive = select(func.count()).select_from(Task).where(Task.owner == owner, Task.ended.is_(None))
    if (await session.scalar(alive) or 0) >= TASKS_MAX:
        raise refused("too-many-tasks", most=TASKS_MAX)


def create(session: AsyncSession, clock: Clock, caller: Caller, wanted: Wanted, mounts: Sequence[WantedMount]) -> Task:
    """A new task with a lease; its mounts are taken by the caller."""
    now = clock.now()
    row = Task(
        id=new_id(now),
        name=wanted.name,
        region_id=wanted.region_id,
        node_id=wanted.node_id,
        owner=caller.subject,
        user_id=wanted.user_id,
        lease=1,
        lasts_seconds=wanted.lasts_seconds,
        lease_until=now + timedelta(seconds=wanted.lasts_seconds),
        created=now,
        ended=None,
        end=End.NONE.value,
        because={},
    )
    session.add(row)
    for ordinal, mount in enumerate(mounts):
        session.add(
            TaskMount(
                task_id=row.id,
                ordinal=ordinal,
                acceleration_id=mount.acceleration_id,
                volume=mount.volume,
                path=mount.path,
                wanted=mount.version,
                follow=mount.follow,
                version=None,
            )
        )
    record(session, clock, _subject(row), "task-started", caller.subject, mounts=[mount.volume for mount in mounts])
    return row


def renew(clock: Clock, row: Task, lease: int, *, late: bool = False) -> None:
    """Makes the lease last from now on. Raises `lease-ended`, or `stale-lease` where somebody has taken it over.

    `late`: one that ran out and was not ended yet is taken all the same, since nobody could be asked before.
    """
    _must_be_alive(clock, row, late=late)
    if row.lease != lease:
        raise refused("stale-lease")
    row.lease_until = clock.now() + timedelta(seconds=row.lasts_seconds)


def attach(session: AsyncSession, clock: Clock, row: Task, caller: Caller, lasts_seconds: int) -> None:
    """Takes the lease over; whoever had it is refused from now on. Raises `lease-ended`."""
    _must_be_alive(clock, row)
    row.lease += 1
    row.lasts_seconds, row.lease_until = lasts_seconds, clock.now() + timedelta(seconds=lasts_seconds)
    record(session, clock, _subject(row), "task-attached", caller.subject, lease=row.lease)


async def end(session: AsyncSession, clock: Clock, row: Task, who: str, how: End, because: Text, lease: int | None = None) -> None:
    """Ends a task whose node, where it has one, does not know yet: it hears of it now, and not when it renews the lease."""
    if row.ended is None:
        await finish(session, clock, row, who, how, because, lease)
        if row.node_id is not None:
            await regions.tell(session, row.region_id)


async def finish(session: AsyncSession, clock: Clock, row: Task, who: str, how: End, because: Text, lease: int | None = None) -> None:
    """Ends a task: its mounts count as use no longer. One that has ended stays as it ended. Raises `stale-lease`."""
    if row.ended is not None:
        return
    if lease is not None and lease != row.lease:
        raise refused("stale-lease")
    row.ended, row.end, row.because = clock.now(), how.value, because.document()
    read = {use.ordinal: use.version for use, _ in (await uses.of_tasks(session, [row.id]))[row.id]}
    for mount in await mounts_of(session, row.id):
        mount.version = read.get(mount.ordinal)
    await uses.end(session, row.ended, row.id)
    record(session, clock, _subject(row), "task-ended", who, because.en)


def revive(session: AsyncSession, clock: Clock, row: Task, who: str) -> None:
    """Takes back that a task ended: its node was away, or we were, and its mounts are there all the time. The caller takes them again."""
    row.ended, row.end, row.because = None, End.NONE.value, {}
    row.lease_until = clock.now() + timedelta(seconds=row.lasts_seconds)
    record(session, clock, _subject(row), "task-revived", who)


async def renew_all(session: AsyncSession, clock: Clock, node_id: str, leases: dict[str, int]) -> dict[str, bool]:
    """Renews leases of tasks on a node. What is missing in the answer is gone; False is one whose lease ran out, which may be revived."""
    rows = await session.scalars(select(Task).where(Task.id.in_(leases), Task.node_id == node_id))
    known = {row.id: row for row in rows if row.lease == leases[row.id]}
    alive = [row.id for row in known.values() if row.ended is None]
    until: dict[tuple[int, int], list[str]] = {}
    for identifier in alive:
        until.setdefault((known[identifier].lease, known[identifier].lasts_seconds), []).append(identifier)
    for (lease, seconds), identifiers in until.items():
        later = clock.now() + timedelta(seconds=seconds)
        # They are not locked: who takes a lease over at this moment must not find it renewed by the older one.
        which = (Task.id.in_(identifiers), Task.lease == lease, Task.ended.is_(None))
        await session.execute(update(Task).where(*which).values(lease_until=later))
    return {row.id: row.ended is None for row in known.values() if row.ended is None or row.end == End.LEASE}


async def shorten(session: AsyncSession, now: datetime) -> None:
    """Has no lease last longer than any renewal makes it: after a clock was set back it would, and nobody would notice that its holder has died."""
    until_ms = type_coerce(Task.lease_until, BigInteger)
    longest_ms = int((now + _CLOCKS_DIFFER).timestamp() * 1000) + cast(Task.lasts_seconds, BigInteger) * 1000
    later = int(now.timestamp() * 1000) + cast(Task.lasts_seconds, BigInteger) * 1000
    shorter = update(Task).where(Task.ended.is_(None), until_ms > longest_ms).values(lease_until=type_coerce(later, Instant))
    await session.execute(shorter.execution_options(synchronize_session=False))


async def due(session: AsyncSession, now: datetime, limit: int) -> list[str]:
    """Ids of tasks whose lease ran out."""
    query = select(Task.id).where(Task.ended.is_(None), Task.lease_until <= now).order_by(Task.lease_until)
    return list(await session.scalars(query.limit(limit)))


async def expire(session: AsyncSession, clock: Clock, row: Task) -> None:
    """Ends a task whose lease ran out; looks again, for somebody may have renewed it."""
    if row.lease_until <= clock.now():
        await finish(session, clock, row, "headrace", End.LEASE, _LEASE_RAN_OUT)


async def find(session: AsyncSession, caller: Caller, identifier: str, *, lock: bool = False) -> Task:
    """The task of this id. Raises `not-found`, also for one that the caller may not see."""
    row = await lookup(session, identifier, lock=lock)
    if row is None or not caller.may_see(row.owner):
        raise refused("not-found", noun="task", name=identifier)
    return row


async def lookup(session: AsyncSession, identifier: str, *, lock: bool = False) -> Task | None:
    return await session.get(Task, identifier, with_for_update=lock or None)


async def listed(
    session: AsyncSession,
    caller: Caller,
    *,
    after: str | None,
    limit: int,
    region_id: str | None,
    acceleration_ids: Collection[str] | None,
    ended: bool | None,
) -> Page[Task]:
    """Tasks that the caller may see, newest first."""
    query = select(Task)
    if not caller.is_admin:
        query = query.where(Task.owner == caller.subject)
    if region_id is not None:
        query = query.where(Task.region_id == region_id)
    if acceleration_ids is not None:
        query = query.where(Task.id.in_(select(TaskMount.task_id).where(TaskMount.acceleration_id.in_(acceleration_ids))))
    if ended is not None:
        query = query.where(Task.ended.is_not(None) if ended else Task.ended.is_(None))
    return await page(session, query, Task.id, after=after, limit=limit, newest_first=True)


async def mounts_of(session: AsyncSession, identifier: str) -> Sequence[TaskMount]:
    return (await mounts_of_all(session, [identifier]))[identifier]


async def mounts_of_all(session: AsyncSession, identifiers: Sequence[str]) -> dict[str, list[TaskMount]]:
    """What tasks mount, each in the order in which it was said."""
    found: dict[str, list[TaskMount]] = {identifier: [] for identifier in identifiers}
    query = select(TaskMount).where(TaskMount.task_id.in_(identifiers)).order_by(TaskMount.task_id, TaskMount.ordinal)
    for mount in await session.scalars(query):
        found[mount.task_id].append(mount)
    return found


async def readers(session: AsyncSession, accelerations: Sequence[str]) -> dict[str, set[str]]:
    """Nodes that have tasks with mounts of accelerations, by their ids."""
    query = select(TaskMount.acceleration_id, Task.node_id).join(Task, Task.id == TaskMount.task_id)
    found: dict[str, set[str]] = {}
    for acceleration, node in await session.execute(query.where(TaskMount.acceleration_id.in_(accelerations), Task.ended.is_(None))):
        found.setdefault(acceleration, set()).update({node} if node is not None else ())
    return found


async def counts(session: AsyncSession, nodes: Collection[str]) -> dict[str, int]:
    """How many tasks run on each node; one without any is missing."""
    query = select(Task.node_id, func.count()).where(Task.node_id.in_(nodes), Task.ended.is_(None)).group_by(Task.node_id)
    return {node: count for node, count in (await session.execute(query)) if node is not None}


async def drop_old(session: AsyncSession, now: datetime) -> None:
    """Forgets tasks that ended long ago, some at a time; not one that a node revives at this moment."""
    query = select(Task.id).where(Task.ended <= now - _SHOWN_LASTS).limit(_DROPPED_AT_ONCE)
    old = list(await session.scalars(query.with_for_update(skip_locked=True)))
    await session.execute(delete(TaskMount).where(TaskMount.task_id.in_(old)))
    await session.execute(delete(Task).where(Task.id.in_(old)))


def _must_be_alive(clock: Clock, row: Task, *, late: bool = False) -> None:
    if row.ended is not None:
        raise refused("lease-ended", reason=Text(row.because["en"], row.because["zh"]))
    if row.lease_until <= clock.now() and not late:
        raise refused("lease-ended", reason=_LEASE_RAN_OUT)


def _subject(row: Task) -> Subject:
    return Subject("task", row.id, row.name, row.owner)
