"""Makes tokens and finds out whose one is.

A token is `hr_ID_SECRET`. The secret has 256 random bits, so a plain SHA-256 of it is enough to keep: there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from headrace.control.clock import Clock
from headrace.control.ids import new_id
from headrace.control.pages import Page, page
from headrace.control.problems import refused
from headrace.control.tokens.caller import Caller
from headrace.control.tokens.models import FirstStart, Token

_SECRET_BYTES = 32
_FIRST_TOKEN_LASTS = timedelta(days=1)
_EXCHANGED_LASTS = timedelta(days=90)
_SHAPE = re.compile(r"hr_([0-9a-z]{26})_([A-Za-z0-9_-]{43})")


async def first(session: AsyncSession, clock: Clock) -> str | None:
    """The one-time token of an administrator, at the first start; None ever after."""
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    made = await session.execute(insert(FirstStart).values(only=1, at=clock.now()).on_conflict_do_nothing().returning(FirstStart.only))
    if made.first() is None:
        return None
    return (await _add(session, clock, name="first start", subject="admin", role="admin", scopes=["*"], lasts=_FIRST_TOKEN_LASTS, one_time=True))[1]


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
    return Caller(subject=row.subject, role=row.role, scopes=tuple(row.scopes), token_id=row.id)


async def listed(session: AsyncSession, *, after: str | None, limit: int) -> Page[Token]:
    return await page(session, select(Token), Token.id, after=after, limit=limit)


async def revoke(session: AsyncSession, identifier: str) -> Token:
    """Ends a token. Raises the problem `not-found`."""
    row = await session.get(Token, identifier, with_for_update=True)
    if row is None:
        raise refused("not-found", noun="token", name=identifier)
    await session.delete(row)
    return row


async def drop_expired(session: AsyncSession, now: datetime) -> int:
    """Forgets tokens whose time is over; how many there were."""
    gone = await session.execute(delete(Token).where(Token.expires <= now).returning(Token.id))
    return len(gone.all())


async def _found(session: AsyncSession, clock: Clock, text: str) -> Token | None:
    shape = _SHAPE.fullmatch(text)
    if shape is None:
        return None
    row = await session.get(Token, shape[1])
    if row is None or not hmac.compare_digest(row.digest, _digest(shape[2])) or row.expires <= clock.now():
        return None
    return row


async def _add(
    session: AsyncSession, clock: Clock, *, name: str, subject: str, role: str, scopes: Sequence[str], lasts: timedelta, one_time: bool
) -> tuple[Token, str]:
    now = clock.now()
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    row = Token(
        id=new_id(now),
        name=name,
        subject=subject,
        role=role,
        scopes=list(scopes),
        digest=_digest(secret),
        one_time=one_time,
        created=now,
        expires=now + lasts,
    )
    session.add(row)
    await session.flush()
    return row, f"hr_{row.id}_{secret}"


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
