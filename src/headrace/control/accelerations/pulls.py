"""A pull: what nodes tell of it, how it ends, and what time brings about; each inside the caller's transaction, on a row that it has locked.

One node lists the origin (`listing` is its fencing token), publishes a snapshot, which can be mounted from then on; the nodes
that hold it pull what is selected and tell how far they are; when all of them have it, or as much as fits, the pull is complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from headrace.control.accelerations import snapshots, uses
from headrace.control.accelerations.changes import SYSTEM, change, holding_nodes, let_go, subject, touch
from headrace.control.accelerations.models import Acceleration, Holding, Version
from headrace.control.accelerations.names import Names
from headrace.control.accelerations.placement import Candidate, ranked
from headrace.control.accelerations.queries import holdings_of, versions_of
from headrace.control.accelerations.states import Happening, State
from headrace.control.clock import Clock
from headrace.control.events.service import record
from headrace.control.nodes.service import Identity
from headrace.control.problems import Text, refused
from headrace.control.regions import service as regions

# A node that lists renews its right to with every heartbeat.
LISTER_LASTS = timedelta(seconds=60)
# A pull that gets no further for this long fails.
STALLED_AFTER = timedelta(minutes=10)


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


async def ask_for_listing(session: AsyncSession, clock: Clock, row: Acceleration, nodes: Sequence[Candidate]) -> None:
    """Gives the listing to a node, another one each time it is asked for."""
    row.listing += 1
    order = ranked(f"{row.id}/{row.listing}", (node.id for node in nodes))
    row.lister = order[0] if order else None
    row.lister_until = clock.now() + LISTER_LASTS
    await regions.bump(session, row.region_id)


async def publish(
    session: AsyncSession, clock: Clock, row: Acceleration, node: Identity, listing: int, listed: Listed, names: Names, nodes: Sequence[Candidate]
) -> int:
    """A snapshot that the lister has made becomes a version; its number. A list that is the current one's makes no new version."""
    must_be_lister(row, node.id, listing)
    parts = await snapshots.count(session, listed.digest)
    if parts != listed.parts:
        raise refused("snapshot-incomplete", parts=parts, of=listed.parts)
    now = clock.now()
    row.lister, row.lister_until, row.progressed = None, None, now
    current = await session.get(Version, (row.id, row.current)) if row.current is not None else None
    if current is not None and current.digest == listed.digest:
        row.pulling = current.number
        record(session, clock, subject(row, names), "nothing-new", node.who, version=current.number)
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
            await uses.settle_versions(session, row.id, row.current)
        record(session, clock, subject(row, names), "published", node.who, version=row.numbered, files=listed.files, bytes=listed.bytes)
    touch(row, clock)
    await regions.bump(session, row.region_id)
    await session.flush()
    await settle(session, clock, row, names, nodes)
    return row.pulling or row.numbered


async def listing_failed(session: AsyncSession, clock: Clock, row: Acceleration, node: Identity, listing: int, names: Names, reason: str) -> None:
    """The origin could not be listed."""
    must_be_lister(row, node.id, listing)
    await fail(session, clock, row, names, Text(reason, reason), who=node.who)


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


async def told_again(session: AsyncSession, clock: Clock, region_id: str, node_id: str, reports: Sequence[Held]) -> list[Held]:
    """Notes that a node has told the same as before, and gives what is news. Nodes tell everything once a minute, and hardly ever is any of it news.

    Without locks of accelerations: where one is changed or let go of at this moment, its holding is locked too, and is looked at in its turn.
    """
    query = select(Holding, Acceleration.current, Acceleration.pulling).join(Acceleration, Acceleration.id == Holding.acceleration_id)
    query = query.where(Holding.node_id == node_id, Holding.acceleration_id.in_([one.acceleration_id for one in reports]))
    query = query.where(Acceleration.region_id == region_id, Acceleration.state != State.SYNCING.value)
    rows = await session.execute(query.with_for_update(of=Holding, skip_locked=True))
    known = {held.acceleration_id: _report(held) for held, current, pulling in rows if held.version in (current, pulling)}
    same = [one.acceleration_id for one in reports if known.get(one.acceleration_id) == one]
    if same:
        told_now = update(Holding).where(Holding.node_id == node_id, Holding.acceleration_id.in_(same)).values(told=clock.now())
        await session.execute(told_now.execution_options(synchronize_session=False))
    return [one for one in reports if known.get(one.acceleration_id) != one]


def _report(held: Holding) -> Held:
    """What a node told to get this row."""
    counts = (held.files, held.files_total, held.bytes, held.bytes_total)
    return Held(held.acceleration_id, held.version, *counts, held.complete, held.error)


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
    await change(session, clock, row, Happening.PULLED, SYSTEM, names, version=row.current)
    row.used = max(row.used, clock.now())
    await _prune(session, row)


async def fail(session: AsyncSession, clock: Clock, row: Acceleration, names: Names, reason: Text, who: str = SYSTEM) -> None:
    """Ends a pull that failed: a first one leaves nothing, a later one the version before."""
    versions = await versions_of(session, row.id)
    pulled = [version.number for version in versions if version.pulled]
    happening = Happening.REFRESH_FAILED if pulled else Happening.PULL_FAILED
    await change(session, clock, row, happening, who, names, why=reason.en)
    row.reason = reason.document()
    if not pulled:
        await let_go(session, row)
        # What is mounted reads on from the origin: the pull has failed, not the mount.
        await uses.lose(session, row.id, reason, waiting_only=True)
        return
    row.current = row.current if row.current in pulled else pulled[-1]
    row.pulling, row.lister, row.lister_until = None, None, None
    read = await uses.versions(session, row.id)
    unfinished = [version for version in versions if not version.pulled and version.number not in read]
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
            await ask_for_listing(session, clock, row, nodes)
        else:
            await settle(session, clock, row, names, nodes)
    elif await uses.counts(session, [row.id]):
        return
    elif row.state == State.ACTIVE and now - row.used > timedelta(seconds=row.expire_seconds):
        await change(session, clock, row, Happening.UNUSED, SYSTEM, names)
    elif row.state == State.EXPIRING and now - row.used > timedelta(seconds=row.release_seconds):
        await change(session, clock, row, Happening.UNUSED_LONG, SYSTEM, names)
        await let_go(session, row)


def renew_lister(row: Acceleration, clock: Clock, node_id: str) -> None:
    """The node that lists is alive and at it."""
    if row.lister == node_id:
        row.lister_until = clock.now() + LISTER_LASTS
        row.progressed = clock.now()


def must_be_lister(row: Acceleration, node_id: str, listing: int) -> None:
    """Only the node that was asked last may answer: another one, or an answer that comes late, would publish something old."""
    if row.state != State.SYNCING or row.lister != node_id or row.listing != listing:
        raise refused("stale-listing")


async def _prune(session: AsyncSession, row: Acceleration) -> None:
    """Keeps the newest versions, the current one, those with a label, and those that tasks read."""
    versions = await versions_of(session, row.id)
    keep = {version.number for version in versions[-row.keep_versions :]} | {row.current} | await uses.versions(session, row.id)
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
