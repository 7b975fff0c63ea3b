"""Bytes that nodes moved: received from origins, answered to readers, opened to be read without a node; inside the caller's transaction.

A node tells sums that only grow, by volume, since an epoch of its own: a random name that it takes when it starts, and its counts with it. What
is counted is what a sum has grown by, beyond the most that was known of that epoch. So a report that is lost is made good by the next, and one
that is repeated, or late, adds nothing. The last few epochs are kept: a report of one that has ended may be under way yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import BigInteger, ColumnElement, case, delete, func, literal, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.elements import KeyedColumnElement

from headrace.control.accelerations import queries
from headrace.control.nodes import service as nodes
from headrace.control.usage import hours
from headrace.control.usage.models import UsageHour, UsageTold

COUNTS = ("origin_bytes", "served_bytes", "opened_bytes")
# Of a count: sums stay within what databases hold, whatever nodes tell.
COUNT_MAX = 2**62
_EPOCHS_KEPT = 4
_NAMED_AT_ONCE = 1000


@dataclass(frozen=True)
class Told:
    """Sums of a volume since the epoch began."""

    volume_id: str
    origin_bytes: int
    served_bytes: int
    opened_bytes: int


async def tell(session: AsyncSession, now: datetime, identity: nodes.Identity, epoch: str, said: Sequence[Told]) -> None:
    """Counts what a node's sums have grown by, in the hour of now. Volumes that are not accelerated in its region are left out."""
    # One after the other, also where the node asks two replicas.
    await nodes.find(session, identity.id, lock=True)
    there = {row.volume_id: row for row in await queries.of_volumes(session, [one.volume_id for one in said]) if row.region_id == identity.region_id}
    if not there:
        return
    known = await _known(session, identity.id, epoch, [row.id for row in there.values()])
    number = next((row.number for row in known.values()), None) or await _number(session, identity.id, epoch)
    grown: dict[str, dict[str, int]] = {}
    for one in said:
        if (acceleration := there.get(one.volume_id)) is None:
            continue
        row = known.get(acceleration.id)
        if row is None:
            key = {"node_id": identity.id, "epoch": epoch, "acceleration_id": acceleration.id}
            row = known[acceleration.id] = UsageTold(**key, number=number, **dict.fromkeys(COUNTS, 0))
            session.add(row)
        for name, growth in _grow(row, one).items():
            sums = grown.setdefault(acceleration.id, dict.fromkeys(COUNTS, 0))
            sums[name] = min(sums[name] + growth, COUNT_MAX)
    await _add(session, now, [row for row in there.values() if row.id in grown], grown)


async def forget_node(session: AsyncSession, node_id: str) -> None:
    """A node is gone: it tells nothing more. What it moved stays counted."""
    await session.execute(delete(UsageTold).where(UsageTold.node_id == node_id))


async def drop_gone(session: AsyncSession) -> None:
    """Forgets what was told of accelerations that went with their volume or region."""
    named = list(await session.scalars(select(UsageTold.acceleration_id).distinct()))
    for start in range(0, len(named), _NAMED_AT_ONCE):
        some = named[start : start + _NAMED_AT_ONCE]
        if gone := set(some) - await queries.known(session, some):
            await session.execute(delete(UsageTold).where(UsageTold.acceleration_id.in_(gone)))


def _grow(row: UsageTold, one: Told) -> dict[str, int]:
    """What is new of each count; from now on it is known."""
    new = {}
    for name in COUNTS:
        said, known = getattr(one, name), getattr(row, name)
        if said > known:
            new[name] = said - known
            setattr(row, name, said)
    return new


async def _known(session: AsyncSession, node_id: str, epoch: str, accelerations: Sequence[str]) -> dict[str, UsageTold]:
    """What is known of the epoch; locked, so that nobody takes it for gone meanwhile."""
    query = select(UsageTold).where(UsageTold.node_id == node_id, UsageTold.epoch == epoch, UsageTold.acceleration_id.in_(accelerations))
    found = await session.scalars(query.order_by(UsageTold.acceleration_id).with_for_update())
    return {row.acceleration_id: row for row in found}


async def _number(session: AsyncSession, node_id: str, epoch: str) -> int:
    """Which epoch of the node it is. A new one has the oldest forgotten."""
    query = select(UsageTold.epoch, func.max(UsageTold.number)).where(UsageTold.node_id == node_id).group_by(UsageTold.epoch)
    numbers: dict[str, int] = dict((await session.execute(query)).all())
    if epoch in numbers:
        return numbers[epoch]
    number = 1 + max(numbers.values(), default=0)
    await session.execute(delete(UsageTold).where(UsageTold.node_id == node_id, UsageTold.number <= number - _EPOCHS_KEPT))
    return number


async def _add(session: AsyncSession, now: datetime, rows: Sequence[hours.Accelerated], grown: dict[str, dict[str, int]]) -> None:
    if not rows:
        return
    hour = hours.begin(now)
    named = sorted(await hours.named(session, rows), key=lambda one: one.acceleration_id)
    adding = hours.insert(session, UsageHour)
    sums = {name: _sum(getattr(UsageHour, name), adding.excluded[name]) for name in COUNTS}
    added = [hours.row(hour, one, **grown[one.acceleration_id]) for one in named]
    await session.execute(adding.on_conflict_do_update(index_elements=[UsageHour.id], set_=sums), added)


def _sum(there: ColumnElement[int], more: KeyedColumnElement[int]) -> ColumnElement[int]:
    most = literal(COUNT_MAX, BigInteger)
    return case((there > most - more, most), else_=there + more)
