"""What can be done with accelerations, and what happens to them; each inside the caller's transaction, on a row that it has locked.

A pull is: one node lists the origin (`listing` is its fencing token), publishes a snapshot, which can be mounted from then on; the nodes
that hold it pull what is selected and tell how far they are; when all of them have it, or as much as fits, the pull is complete.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import BigInteger, ColumnElement, and_, cast, delete, or_, select, type_coerce
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from headrace.control.accelerations import snapshots
from headrace.control.accelerations.models import Acceleration, Holding, Version
from headrace.control.accelerations.placement import Candidate, Placement, holders, ranked
from headrace.control.accelerations.states import Condition, Happening, Operation, Situation, State, after, must_allow
from headrace.control.clock import Clock
from headrace.control.events.service import Subject, record
from headrace.control.ids import new_id
from headrace.control.pages import Page, page
from headrace.control.problems import Text, refused
from headrace.control.regions import service as regions
from headrace.control.tokens.caller import Caller

# A node that lists renews its right to with every heartbeat.
LISTER_LASTS = timedelta(seconds=60)
# A pull that gets no further for this long fails.
STALLED_AFTER = timedelta(minutes=10)
_NO_REASON: dict[str, str] = {}
_SYSTEM = "headrace"


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


@dataclass(frozen=True)
class Listed:
    """A snapshot that a node has made and sent in parts."""

    digest: str
    parts: int
    files: int
    bytes: int
    skipped: int


@dataclass(frozen=True)
class Held:
    """What a node tells of a version that it holds."""

    acceleration_id: str
    version: int
    files: int
    files_total: int
    bytes: int
    bytes_total: int
    complete: bool
    error: str


@dataclass(frozen=True)
class Names:
    """What an acceleration is called: by its volume and its region."""

    volume: str
    region: str

    def __str__(self) -> str:
        return f"{self.volume}@{self.region}"


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
    row = await _of(session, volume_id, region_id)
    if row is None:
        row = _new(clock, volume_id=volume_id, region_id=region_id, owner=owner)
        session.add(row)
    must_allow(situation(row), Operation.START)
    row.selection, row.placement = asdict(wanted.selection), {**asdict(wanted.placement), "labels": dict(wanted.placement.labels)}
    row.expire_seconds, row.release_seconds, row.keep_versions = wanted.expire_seconds, wanted.release_seconds, wanted.keep_versions
    if not holding_nodes(row, nodes):
        raise refused("no-nodes", region=names.region)
    row.at_once = False
    await _change(session, clock, row, Happening.START, caller.subject, names)
    await _ask_for_listing(session, clock, row, nodes)
    return row


async def refresh(
    session: AsyncSession, clock: Clock, row: Acceleration, caller: Caller, names: Names, nodes: Sequence[Candidate], *, at_once: bool
) -> None:
    """Lists the origin again (回源上游). What is new becomes current when it is held, or at once."""
    must_allow(situation(row), Operation.REFRESH)
    if not holding_nodes(row, nodes):
        raise refused("no-nodes", region=names.region)
    row.at_once = at_once
    await _change(session, clock, row, Happening.REFRESH, caller.subject, names)
    await _ask_for_listing(session, clock, row, nodes)


async def release(session: AsyncSession, clock: Clock, row: Acceleration, caller: Caller, names: Names) -> None:
    """Lets go of everything held (手动释放). Nothing is held in the books from now on; a node that is away catches up when it is back."""
    must_allow(situation(row), Operation.RELEASE)
    await _change(session, clock, row, Happening.RELEASE, caller.subject, names)
    await _let_go(session, row)


async def cancel(session: AsyncSession, clock: Clock, row: Acceleration, caller: Caller, names: Names) -> None:
    """Ends a pull that nobody wants any more: as if it had failed, with the operator's name as the reason."""
    must_allow(situation(row), Operation.CANCEL, operator=caller.is_admin)
    await fail(session, clock, row, names, Text(f"cancelled by {caller.subject}", f"已由 {caller.subject} 取消"), who=caller.subject)


async def roll_back(session: AsyncSession, clock: Clock, row: Acceleration, caller: Caller, names: Names, number: int) -> None:
    """Makes a kept version current. Tasks that started with another one go on with that."""
    must_allow(situation(row), Operation.ROLL_BACK)
    if await session.get(Version, (row.id, number)) is None:
        raise refused("not-found", noun="version", name=f"v{number}")
    before, row.current = row.current, number
    _touch(row, clock)
    await regions.bump(session, row.region_id)
    record(session, clock, _subject(row, names), "rolled-back", caller.subject, before=before, now=number)


async def used(session: AsyncSession, clock: Clock, row: Acceleration, names: Names, nodes: Sequence[Candidate]) -> None:
    """A task mounts it, or a door read it: the clock of its expiry begins anew, and what was let go of is pulled again."""
    row.used = clock.now()
    if row.state == State.EXPIRING:
        await _change(session, clock, row, Happening.MOUNTED, _SYSTEM, names)
        row.pulling = row.current
        await settle(session, clock, row, names, nodes)


async def publish(
    session: AsyncSession, clock: Clock, row: Acceleration, node_id: str, listing: int, listed: Listed, names: Names, nodes: Sequence[Candidate]
) -> int:
    """A snapshot that the lister has made becomes a version; its number. A list that is the current one's makes no new version."""
    must_be_lister(row, node_id, listing)
    parts = await snapshots.count(session, listed.digest)
    if parts != listed.parts:
        raise refused("snapshot-incomplete", parts=parts, of=listed.parts)
    now = clock.now()
    row.lister, row.lister_until, row.progressed = None, None, now
    current = await session.get(Version, (row.id, row.current)) if row.current is not None else None
    if current is not None and current.digest == listed.digest:
        row.pulling = current.number
        record(session, clock, _subject(row, names), "nothing-new", f"node {node_id}", version=current.number)
    else:
        row.numbered += 1
        row.pulling = row.numbered
        session.add(
            Version(
                acceleration_id=row.id,
                number=row.numbered,
                label="",
                digest=listed.digest,
                files=listed.files,
                bytes=listed.bytes,
                skipped=listed.skipped,
                pulled=False,
                created=now,
            )
        )
        if row.current is None or row.at_once:
            row.current = row.numbered
        record(session, clock, _subject(row, names), "published", f"node {node_id}", version=row.numbered, files=listed.files, bytes=listed.bytes)
    _touch(row, clock)
    await regions.bump(session, row.region_id)
    await session.flush()
    await settle(session, clock, row, names, nodes)
    return row.pulling or row.numbered


async def listing_failed(session: AsyncSession, clock: Clock, row: Acceleration, node_id: str, listing: int, names: Names, reason: str) -> None:
    """The origin could not be listed."""
    must_be_lister(row, node_id, listing)
    await fail(session, clock, row, names, Text(reason, reason), who=f"node {node_id}")


async def keep_part(
    session: AsyncSession, clock: Clock, row: Acceleration, node_id: str, listing: int, digest: str, part: int, content: bytes
) -> None:
    """Keeps a part of the snapshot that the lister makes; one that is there already is the same."""
    must_be_lister(row, node_id, listing)
    await snapshots.keep(session, clock.now(), row.id, digest, part, content)


async def told(session: AsyncSession, clock: Clock, row: Acceleration, node_id: str, held: Held, names: Names, nodes: Sequence[Candidate]) -> None:
    """A node tells what it has of a version. Of an acceleration that was released meanwhile nothing is kept."""
    if row.state == State.IDLE or held.version not in (row.current, row.pulling):
        return
    now = clock.now()
    known = await session.get(Holding, (row.id, node_id))
    if known is None:
        known = Holding(acceleration_id=row.id, node_id=node_id, version=held.version, bytes=0)
        session.add(known)
    if known.version != held.version or held.bytes > known.bytes or held.complete:
        row.progressed = now
    known.version, known.files, known.files_total = held.version, held.files, held.files_total
    known.bytes, known.bytes_total, known.complete, known.error, known.told = held.bytes, held.bytes_total, held.complete, held.error, now
    await session.flush()
    await settle(session, clock, row, names, nodes)


async def settle(session: AsyncSession, clock: Clock, row: Acceleration, names: Names, nodes: Sequence[Candidate]) -> None:
    """Ends a pull that is complete: every node that should hold it does."""
    if row.state != State.SYNCING or row.pulling is None:
        return
    wanted = holding_nodes(row, nodes)
    found = await session.scalars(select(Holding).where(Holding.acceleration_id == row.id))
    done = {one.node_id for one in found if one.version == row.pulling and one.complete}
    if not wanted or not wanted <= done:
        return
    version = await session.get(Version, (row.id, row.pulling))
    if version is not None:
        version.pulled = True
    row.current, row.pulling = row.pulling, None
    await _change(session, clock, row, Happening.PULLED, _SYSTEM, names, version=row.current)
    row.used = max(row.used, clock.now())
    await _prune(session, row)


async def fail(session: AsyncSession, clock: Clock, row: Acceleration, names: Names, reason: Text, who: str = _SYSTEM) -> None:
    """Ends a pull that failed: a first one leaves nothing, a later one the version before."""
    versions = await versions_of(session, row.id)
    pulled = [version.number for version in versions if version.pulled]
    happening = Happening.REFRESH_FAILED if pulled else Happening.PULL_FAILED
    await _change(session, clock, row, happening, who, names, why=reason.en)
    row.reason = reason.document()
    if not pulled:
        await _let_go(session, row)
        return
    row.current = row.current if row.current in pulled else pulled[-1]
    row.pulling, row.lister, row.lister_until = None, None, None
    unfinished = [version for version in versions if not version.pulled]
    for version in unfinished:
        await session.delete(version)
    await session.flush()
    await snapshots.drop(session, {version.digest for version in unfinished})


async def sweep(session: AsyncSession, clock: Clock, row: Acceleration, names: Names, nodes: Sequence[Candidate]) -> None:
    """What time alone brings about. Done by any replica, on a locked row, so doing it twice changes nothing."""
    now = clock.now()
    if row.state == State.SYNCING:
        if now - row.progressed > STALLED_AFTER:
            await fail(session, clock, row, names, await _why_stalled(session, row))
        elif row.lister is not None and (row.lister_until is None or row.lister_until <= now or row.lister not in {node.id for node in nodes}):
            await _ask_for_listing(session, clock, row, nodes)
        else:
            await settle(session, clock, row, names, nodes)
    elif row.state == State.ACTIVE and now - row.used > timedelta(seconds=row.expire_seconds):
        await _change(session, clock, row, Happening.UNUSED, _SYSTEM, names)
    elif row.state == State.EXPIRING and now - row.used > timedelta(seconds=row.release_seconds):
        await _change(session, clock, row, Happening.UNUSED_LONG, _SYSTEM, names)
        await _let_go(session, row)


async def due(session: AsyncSession, now: datetime) -> list[str]:
    """Ids of accelerations that `sweep` may have something to do for: those that pull, and those that nobody has used for long."""
    used_ms, now_ms = type_coerce(Acceleration.used, BigInteger), int(now.timestamp() * 1000)
    unused = and_(Acceleration.state == State.ACTIVE.value, used_ms + _milliseconds(Acceleration.expire_seconds) < now_ms)
    forgotten = and_(Acceleration.state == State.EXPIRING.value, used_ms + _milliseconds(Acceleration.release_seconds) < now_ms)
    query = select(Acceleration.id).where(or_(Acceleration.state == State.SYNCING.value, unused, forgotten)).order_by(Acceleration.id)
    return list(await session.scalars(query))


async def find(session: AsyncSession, caller: Caller, volume_id: str, region_id: str, names: Names, *, lock: bool = False) -> Acceleration:
    """The acceleration of a volume in a region. Raises the problem `not-found`."""
    row = await _of(session, volume_id, region_id, lock=lock)
    if row is None or not caller.may_see(row.owner):
        raise refused("not-found", noun="acceleration", name=str(names))
    return row


async def by_id(session: AsyncSession, identifier: str, *, lock: bool = False) -> Acceleration:
    row = await lookup(session, identifier, lock=lock)
    if row is None:
        raise refused("not-found", noun="acceleration", name=identifier)
    return row


async def lookup(session: AsyncSession, identifier: str, *, lock: bool = False) -> Acceleration | None:
    """The acceleration of this id, if it is there."""
    return await session.get(Acceleration, identifier, with_for_update=lock or None)


async def listed(
    session: AsyncSession, caller: Caller, *, after_id: str | None, limit: int, region_id: str | None, volume_id: str | None, state: str | None
) -> Page[Acceleration]:
    """Accelerations that the caller may see."""
    query = select(Acceleration)
    if not caller.is_admin:
        query = query.where(Acceleration.owner == caller.subject)
    for column, value in ((Acceleration.region_id, region_id), (Acceleration.volume_id, volume_id), (Acceleration.state, state)):
        if value is not None:
            query = query.where(column == value)
    return await page(session, query, Acceleration.id, after=after_id, limit=limit)


def _milliseconds(seconds: InstrumentedAttribute[int]) -> ColumnElement[int]:
    """Widened first: a month in milliseconds is more than PostgreSQL's integer holds."""
    return cast(seconds, BigInteger) * 1000


async def in_region(session: AsyncSession, region_id: str) -> Sequence[Acceleration]:
    """What is not idle in a region."""
    return (await session.scalars(select(Acceleration).where(Acceleration.region_id == region_id, Acceleration.state != State.IDLE.value))).all()


async def busy_regions(session: AsyncSession, volume_id: str) -> list[str]:
    """Ids of regions where a volume is not idle."""
    return list(
        await session.scalars(select(Acceleration.region_id).where(Acceleration.volume_id == volume_id, Acceleration.state != State.IDLE.value))
    )


async def forget_region(session: AsyncSession, region_id: str) -> None:
    """Takes the idle accelerations of a region away with it."""
    await session.execute(delete(Acceleration).where(Acceleration.region_id == region_id))


async def forget_node(session: AsyncSession, node_id: str) -> None:
    """A node is gone, and what it held with it: 加速用量 counts it no more."""
    await session.execute(delete(Holding).where(Holding.node_id == node_id))


async def forget_volume(session: AsyncSession, volume_id: str) -> None:
    """Takes the idle accelerations of a volume away with it."""
    await session.execute(delete(Acceleration).where(Acceleration.volume_id == volume_id))


async def versions_of(session: AsyncSession, identifier: str) -> Sequence[Version]:
    """Kept versions, oldest first."""
    return (await session.scalars(select(Version).where(Version.acceleration_id == identifier).order_by(Version.number))).all()


async def holdings_of_all(session: AsyncSession, identifiers: Sequence[str]) -> dict[str, list[Holding]]:
    """What nodes have of several accelerations, by their ids, in one question."""
    found: dict[str, list[Holding]] = {identifier: [] for identifier in identifiers}
    query = select(Holding).where(Holding.acceleration_id.in_(identifiers)).order_by(Holding.node_id)
    for holding in await session.scalars(query):
        found[holding.acceleration_id].append(holding)
    return found


async def holdings_of(session: AsyncSession, identifier: str) -> Sequence[Holding]:
    return (await session.scalars(select(Holding).where(Holding.acceleration_id == identifier).order_by(Holding.node_id))).all()


def situation(row: Acceleration) -> Situation:
    """State and condition, as far as they decide what may be done."""
    state = State(row.state)
    if state == State.IDLE:
        return Situation(state, Condition(row.condition), has_snapshot=False)
    if state == State.SYNCING:
        return Situation(state, has_snapshot=row.current is not None)
    if state == State.EXPIRING:
        return Situation(state)
    return Situation(state, Condition(row.condition))


def holding_nodes(row: Acceleration, nodes: Sequence[Candidate]) -> frozenset[str]:
    """Which nodes should hold it."""
    return holders(Placement(**row.placement), row.id, nodes)


def renew_lister(row: Acceleration, clock: Clock, node_id: str) -> None:
    """The node that lists is alive and at it."""
    if row.lister == node_id:
        row.lister_until = clock.now() + LISTER_LASTS
        row.progressed = clock.now()


def _new(clock: Clock, *, volume_id: str, region_id: str, owner: str) -> Acceleration:
    now = clock.now()
    return Acceleration(
        id=new_id(now),
        volume_id=volume_id,
        region_id=region_id,
        owner=owner,
        state=State.IDLE.value,
        condition=Condition.NONE.value,
        reason=_NO_REASON,
        current=None,
        pulling=None,
        numbered=0,
        listing=0,
        lister=None,
        lister_until=None,
        began=now,
        progressed=now,
        used=now,
        revision=0,
        created=now,
        changed=now,
    )


async def _of(session: AsyncSession, volume_id: str, region_id: str, *, lock: bool = True) -> Acceleration | None:
    query = select(Acceleration).where(Acceleration.volume_id == volume_id, Acceleration.region_id == region_id)
    found: Acceleration | None = await session.scalar(query.with_for_update() if lock else query)
    return found


async def _change(
    session: AsyncSession, clock: Clock, row: Acceleration, happening: Happening, who: str, names: Names, why: str = "", **detail: Any
) -> None:
    """Takes the state where the table says, and tells of it."""
    before = row.state
    state, condition = after(State(row.state), happening)
    row.state, row.condition, row.reason = state.value, condition.value, _NO_REASON
    _touch(row, clock)
    if state == State.SYNCING:
        row.began = row.progressed = clock.now()
    await regions.bump(session, row.region_id)
    record(session, clock, _subject(row, names), str(happening), who, why, before=before, now=state.value, **detail)


async def _ask_for_listing(session: AsyncSession, clock: Clock, row: Acceleration, nodes: Sequence[Candidate]) -> None:
    """Gives the listing to a node, another one each time it is asked for."""
    row.listing += 1
    order = ranked(f"{row.id}/{row.listing}", (node.id for node in nodes))
    row.lister = order[0] if order else None
    row.lister_until = clock.now() + LISTER_LASTS
    await regions.bump(session, row.region_id)


async def _let_go(session: AsyncSession, row: Acceleration) -> None:
    """Nothing is held any more: 加速用量 is 0 at once."""
    await session.execute(delete(Holding).where(Holding.acceleration_id == row.id))
    gone = {version.digest for version in await versions_of(session, row.id)}
    await session.execute(delete(Version).where(Version.acceleration_id == row.id))
    row.current, row.pulling, row.lister, row.lister_until = None, None, None, None
    await snapshots.drop(session, gone)


async def _prune(session: AsyncSession, row: Acceleration) -> None:
    """Keeps the newest versions, the current one, and those with a label."""
    versions = await versions_of(session, row.id)
    keep = {version.number for version in versions[-row.keep_versions :]} | {row.current}
    gone = [version for version in versions if version.number not in keep and not version.label]
    for version in gone:
        await session.delete(version)
    await session.flush()
    await snapshots.drop(session, {version.digest for version in gone})


async def _why_stalled(session: AsyncSession, row: Acceleration) -> Text:
    told_errors = [holding.error for holding in await holdings_of(session, row.id) if holding.error]
    minutes = int(STALLED_AFTER.total_seconds() // 60)
    last = f": {told_errors[0]}" if told_errors else ""
    return Text(f"no progress for {minutes} minutes{last}", f"{minutes} 分钟内没有进展{last}")


def must_be_lister(row: Acceleration, node_id: str, listing: int) -> None:
    """Only the node that was asked last may answer: another one, or an answer that comes late, would publish something old."""
    if row.state != State.SYNCING or row.lister != node_id or row.listing != listing:
        raise refused("stale-listing")


def _touch(row: Acceleration, clock: Clock) -> None:
    row.revision += 1
    row.changed = clock.now()


def _subject(row: Acceleration, names: Names) -> Subject:
    return Subject("acceleration", row.id, str(names), row.owner)


def is_mountable(row: Acceleration) -> bool:
    """可挂载: true as soon as a snapshot is published."""
    return row.state != State.IDLE and row.current is not None


def left_seconds(row: Acceleration, now: datetime) -> Mapping[str, float]:
    """Seconds until it expires by itself, and until it is released, when nobody uses it."""
    unused = (now - row.used).total_seconds()
    return {"expire": max(row.expire_seconds - unused, 0.0), "release": max(row.release_seconds - unused, 0.0)}
