"""Writes events, in the transaction of the change they tell of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from headrace.control.clock import Clock
from headrace.control.events.models import Event
from headrace.control.ids import new_id
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
    session: AsyncSession, caller: Caller, *, after: str | None, limit: int, noun: str | None = None, object_id: str | None = None
) -> Page[Event]:
    """Events the caller may see, newest first."""
    query = select(Event)
    if not caller.is_admin:
        query = query.where(Event.owner == caller.subject)
    if noun is not None:
        query = query.where(Event.noun == noun)
    if object_id is not None:
        query = query.where(Event.object_id == object_id)
    return await page(session, query, Event.id, after=after, limit=limit, newest_first=True)
