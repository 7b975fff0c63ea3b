"""Makes tokens and finds out whose one is.

A token is a bearer of the kind `hr` (`bearers.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from headrace.control.bearers import Bearer
from headrace.control.clock import Clock
from headrace.control.ids import new_id
from headrace.control.pages import Page, page
from headrace.control.problems import refused
from headrace.control.tokens.caller import Caller
from headrace.control.tokens.models import FirstStart, Token

_KIND = "hr"
_FIRST_TOKEN_LASTS = timedelta(days=1)
_EXCHANGED_LASTS = timedelta(days=90)


async def first(session: AsyncSession, clock: Clock) -> str | None:
    """The one-time token of an administrator, at the first start; None ever after."""
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    made = await session.execute(insert(FirstStart).values(only=1, at=clock.now()).on_conflict_do_nothing().returning(FirstStart.only))
    if made.first() is None:
        return None
    return (await one_time(session, clock, "first start"))[1]


async def one_time(session: AsyncSession, clock: Clock, name: str) -> tuple[Token, str]:
    """A token of an administrator, to be exchanged within a day. Only for whoever is on the control plane's own machine."""
    return await _add(session, clock, name=name, subject="admin", role="admin", scopes=["*"], lasts=_FIRST_TOKEN_LASTS, one_time=True)


async def create(
    session: AsyncSession, clock: Clock, *, name: str, subject: str, role: str, scopes: Sequence[str], lasts: timedelta
) -> tuple[Token, str]:
    """A new token, and its text, which is nowhere kept."""
    return await _add(session, clock, name=name, subject=subject, role=role, scopes=scopes, lasts=lasts, one_time=False)


async def exchange(session: AsyncSession, clock: Clock, text: str) -> tuple[Token, str]:
    """An ordinary token for a one-time one, which ends by that. Of two that come at once, one is refused."""
    row = await _found(session, clock, text)
    if row is None or not row.one_time:
        raise refused("unauthenticated")
    spent = await session.execute(delete(Token).where(Token.id == row.id).returning(Token.id))
    if spent.first() is None:
        raise refused("unauthenticated")
    return await _add(session, clock, name="login", subject=row.subject, role=row.role, scopes=row.scopes, lasts=_EXCHANGED_LASTS, one_time=False)


async def caller_of(session: AsyncSession, clock: Clock, text: str) -> Caller | None:
    """Whose token this is; None for one that is unknown, at its end, or only to be exchanged."""
    row = await _found(session, clock, text)
    if row is None or row.one_time:
        return None
    return Caller(subject=row.subject, role=row.role, scopes=tuple(row.scopes), token_id=row.id, expires=row.expires)


async def listed(session: AsyncSession, *, after: str | None, limit: int) -> Page[Token]:
    return await page(session, select(Token), Token.id, after=after, limit=limit)


async def revoke(session: AsyncSession, clock: Clock, identifier: str) -> Token:
    """Ends a token. Raises the problem `not-found`, or `last-administrator` for the last that could make another one."""
    row = await session.get(Token, identifier, with_for_update=True)
    if row is None:
        raise refused("not-found", noun="token", name=identifier)
    if _makes_administrators(row):
        await _must_not_be_the_last(session, row, clock.now())
    await session.delete(row)
    return row


async def _must_not_be_the_last(session: AsyncSession, row: Token, now: datetime) -> None:
    """Raises `last-administrator`. All are locked, in one order: of two that revoke each other, the second finds the first one gone."""
    query = select(Token).where(Token.role == "admin", Token.one_time.is_(False), Token.expires > now).order_by(Token.id).with_for_update()
    there = (await session.scalars(query)).all()
    if row.expires > now and not any(one.id != row.id and _makes_administrators(one) for one in there):
        raise refused("last-administrator")


def _makes_administrators(row: Token) -> bool:
    return row.role == "admin" and not row.one_time and bool({"*", "tokens:write"} & set(row.scopes))


async def drop_expired(session: AsyncSession, now: datetime) -> int:
    """Forgets tokens whose time is over; how many there were."""
    gone = await session.execute(delete(Token).where(Token.expires <= now).returning(Token.id))
    return len(gone.all())


async def _found(session: AsyncSession, clock: Clock, text: str) -> Token | None:
    bearer = Bearer.read(_KIND, text)
    if bearer is None:
        return None
    row = await session.get(Token, bearer.id)
    if row is None or not bearer.fits(row.digest) or row.expires <= clock.now():
        return None
    return row


async def _add(
    session: AsyncSession, clock: Clock, *, name: str, subject: str, role: str, scopes: Sequence[str], lasts: timedelta, one_time: bool
) -> tuple[Token, str]:
    now = clock.now()
    bearer = Bearer.new(_KIND, new_id(now))
    row = Token(
        id=bearer.id,
        name=name,
        subject=subject,
        role=role,
        scopes=list(scopes),
        digest=bearer.digest,
        one_time=one_time,
        created=now,
        expires=now + lasts,
    )
    session.add(row)
    await session.flush()
    return row, bearer.text
