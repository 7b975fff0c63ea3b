"""What every change of an acceleration has in common: the state goes where the table says, nodes hear of it, an event tells of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncSession

from headrace.control.accelerations import kept, snapshots
from headrace.control.accelerations.models import Acceleration, Holding, Version
from headrace.control.accelerations.names import Names
from headrace.control.accelerations.placement import Candidate, Placement, holders
from headrace.control.accelerations.queries import versions_of
from headrace.control.accelerations.states import Condition, Happening, Situation, State, after
from headrace.control.clock import Clock
from headrace.control.events.service import Subject, record
from headrace.control.regions import service as regions

NO_REASON: dict[str, str] = {}
SYSTEM = "headrace"


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


def is_mountable(row: Acceleration) -> bool:
    """可挂载: true as soon as a snapshot is published."""
    return row.state != State.IDLE and row.current is not None


def left_seconds(row: Acceleration, now: datetime) -> Mapping[str, float]:
    """Seconds until it expires by itself, and until it is released, while nobody uses it."""
    unused = (now - row.used).total_seconds()
    return {"expire": max(row.expire_seconds - unused, 0.0), "release": max(row.release_seconds - unused, 0.0)}


def holding_nodes(row: Acceleration, nodes: Sequence[Candidate]) -> frozenset[str]:
    """Which nodes should hold it."""
    return holders(Placement(**row.placement), row.id, nodes)


async def change(
    session: AsyncSession, clock: Clock, row: Acceleration, happening: Happening, who: str, names: Names, why: str = "", **detail: Any
) -> None:
    """Takes the state where the table says, and tells of it."""
    before = row.state
    state, condition = after(State(row.state), happening)
    row.state, row.condition, row.reason = state.value, condition.value, NO_REASON
    touch(row, clock)
    if state == State.SYNCING:
        row.began = row.progressed = clock.now()
    await regions.bump(session, row.region_id)
    record(session, clock, subject(row, names), str(happening), who, why, before=before, now=state.value, **detail)


def touch(row: Acceleration, clock: Clock) -> None:
    row.revision += 1
    row.changed = clock.now()


def subject(row: Acceleration, names: Names) -> Subject:
    return Subject("acceleration", row.id, str(names), row.owner)


async def let_go(session: AsyncSession, row: Acceleration) -> None:
    """Nothing is held any more: 加速用量 is 0 at once."""
    await session.execute(delete(Holding).where(Holding.acceleration_id == row.id))
    await kept.forget(session, acceleration_id=row.id)
    gone = {version.digest for version in await versions_of(session, row.id)}
    await session.execute(delete(Version).where(Version.acceleration_id == row.id))
    row.current, row.pulling, row.lister, row.lister_until = None, None, None, None
    await snapshots.drop(session, gone)
