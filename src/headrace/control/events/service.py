"""Writes events, in the transaction of the change they tell of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from headrace.control.clock import Clock
from headrace.control.events.models import Event
from headrace.control.ids import first_id, new_id
from headrace.control.pages import Page, page
from headrace.control.tokens.caller import Caller


@dataclass(frozen=True)
class Subject:
    """What an event is about."""

    noun: str
    id: str
    name: str
    owner: str


def record(session: AsyncSession, clock: Clock, subject: Subject, kind: str, who: str, why: str = "", **detail: Any) -> None:
    """Notes that something happened. `detail` must hold no secret."""
    now = clock.now()
    session.add(
        Event(
            id=new_id(now),
            at=now,
            kind=kind,
            noun=subject.noun,
            object_id=subject.id,
            object_name=subject.name,
            owner=subject.owner,
            who=who,
            why=why[:255],
            detail=detail,
        )
    )


async def listed(
    session: AsyncSession,
    caller: Caller,
    *,
    after: str | None,
    limit: int,
    noun: str | None = None,
    object_id: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Page[Event]:
    """Events the caller may see, newest first; from `since` on, and before `until`."""
    query = select(Event)
    if not caller.is_admin:
        query = query.where(Event.owner == caller.subject)
    if noun is not None:
        query = query.where(Event.noun == noun)
    if object_id is not None:
        query = query.where(Event.object_id == object_id)
    # By ID, which begins with the time and has the indexes.
    if since is not None:
        query = query.where(Event.id >= first_id(since))
    if until is not None:
        query = query.where(Event.id < first_id(until))
    return await page(session, query, Event.id, after=after, limit=limit, newest_first=True)


async def drop_old(session: AsyncSession, before: datetime, most: int) -> int:
    """Forgets the oldest events of before a time; how many there were."""
    old = select(Event.id).where(Event.id < first_id(before)).order_by(Event.id).limit(most)
    gone = await session.execute(delete(Event).where(Event.id.in_(old)).returning(Event.id))
    return len(gone.all())
