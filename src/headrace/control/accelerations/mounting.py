"""Mounting: whether a task may, which version it reads, and that the acceleration is used from now on; inside the caller's transaction."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from headrace.control.accelerations.changes import SYSTEM, change, situation
from headrace.control.accelerations.models import Acceleration, Use, Version
from headrace.control.accelerations.names import Names
from headrace.control.accelerations.placement import Candidate
from headrace.control.accelerations.pulls import settle
from headrace.control.accelerations.states import Happening, Mount, State
from headrace.control.clock import Clock
from headrace.control.problems import Text, refused

_NUMBER = re.compile(r"v([1-9][0-9]{0,8})")


@dataclass(frozen=True)
class Wanted:
    """What a task mounts of an acceleration. Without a version it reads the current one, and with `follow` whichever is current."""

    task_id: str
    ordinal: int
    holder: str
    version: str | None
    follow: bool


async def mount(session: AsyncSession, clock: Clock, row: Acceleration, names: Names, nodes: Sequence[Candidate], wanted: Wanted) -> Use:
    """A use of the acceleration. Raises `state-forbids` where its state lets nobody mount, `not-found` for a version that isn't kept."""
    must_be_mountable(row, names)
    number = await number_of(session, row, wanted.version) if wanted.version is not None else (None if wanted.follow else row.current)
    await used(session, clock, row, names, nodes)
    use = Use(
        acceleration_id=row.id, task_id=wanted.task_id, ordinal=wanted.ordinal, holder=wanted.holder, version=number, follow=wanted.follow, lost=None
    )
    session.add(use)
    return use


def must_be_mountable(row: Acceleration | None, names: Names) -> None:
    """Raises `state-forbids` for what can't be mounted, with what to do first."""
    said = Mount.START_FIRST if row is None else situation(row).allowed.mount
    if said not in (Mount.START_FIRST, Mount.REASON):
        return
    reason = Text(f"{names} is not accelerated", f"{names} 未加速")
    if row is not None and said == Mount.REASON:
        reason = Text(f"the pull of {names} failed: {row.reason['en']}", f"{names} 同步失败：{row.reason['zh']}")
    start = f"headrace accelerate {names.volume} --region {names.region}"
    remedy = Text(f"start acceleration first (`{start}`)", f"请先开始加速（`{start}`）")
    raise refused("state-forbids", operation="mount", reason=reason, remedy=remedy)


async def used(session: AsyncSession, clock: Clock, row: Acceleration, names: Names, nodes: Sequence[Candidate]) -> None:
    """A task mounts it: the clock of its expiry begins anew, and what was let go of is pulled again."""
    row.used = clock.now()
    if row.state == State.EXPIRING:
        await change(session, clock, row, Happening.MOUNTED, SYSTEM, names)
        row.pulling = row.current
        await settle(session, clock, row, names, nodes)


async def number_of(session: AsyncSession, row: Acceleration, said: str) -> int:
    """The version of this number (`v3`) or label. Raises `not-found`."""
    match = _NUMBER.fullmatch(said)
    sought = Version.number == int(match[1]) if match else Version.label == said
    number: int | None = await session.scalar(select(Version.number).where(Version.acceleration_id == row.id, sought))
    if number is None:
        raise refused("not-found", noun="version", name=said)
    return number
