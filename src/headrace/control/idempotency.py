"""A creation that is sent again creates nothing again: it gets the first answer, as long as that is kept.

The key is claimed before anything is created: whoever sends the same at the same moment, to whatever replica, waits for the first one's
transaction and gets its answer, or is the first when that failed. The answer is written in the transaction of the change, sealed (it may
hold a token's text). The request is remembered as a keyed digest, so that a key which comes with another request is refused.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, TypeVar

from fastapi import Header
from pydantic import BaseModel, SecretStr
from sqlalchemy import LargeBinary, String, delete, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from headrace.control.database import Base, Instant
from headrace.control.problems import refused
from headrace.control.tokens.caller import Caller

if TYPE_CHECKING:
    from headrace.control.requests import ControlPlane

_KEPT = timedelta(days=1)

Answer = TypeVar("Answer", bound=BaseModel)
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=128,
        pattern=r"^[\x21-\x7e]+$",
        description="Chosen by the caller; the same request with the same key is done once, within a day.",
    ),
]


class Answered(Base):
    """The answer to a request that carried a key."""

    __tablename__ = "idempotency"

    subject: Mapped[str] = mapped_column(String(128), primary_key=True)
    key: Mapped[str] = mapped_column(String(128), primary_key=True)
    request: Mapped[bytes] = mapped_column(LargeBinary)
    answer: Mapped[bytes] = mapped_column(LargeBinary)
    at: Mapped[datetime] = mapped_column(Instant)


class Replayable:
    """One creation and its key, inside the transaction that creates."""

    def __init__(self, control: ControlPlane, session: AsyncSession, caller: Caller, operation: str, key: str | None, body: BaseModel) -> None:
        self._control, self._session, self._caller, self._key = control, session, caller, key
        self._request = f"{operation}\n{json.dumps(body.model_dump(), default=_plain, sort_keys=True)}".encode()

    async def answer(self, kind: type[Answer]) -> Answer | None:
        """What was answered to this request before; None when it is new. Raises when the key belongs to another request."""
        if self._key is None:
            return None
        row = await self._session.get(Answered, (self._caller.subject, self._key))
        if row is None or row.at + _KEPT <= self._control.clock.now():
            return None
        if row.request != await self._control.vault.digest(self._session, self._request):
            raise refused("idempotency-mismatch")
        return kind.model_validate_json(await self._control.vault.open(self._session, row.answer, self._place))

    async def claim(self, kind: type[Answer]) -> Answer | None:
        """Makes the key this request's own, and None; or what was answered before. Whoever gets None creates, and calls `keep`."""
        if self._key is None:
            return None
        session, now = self._session, self._control.clock.now()
        mine = (Answered.subject == self._caller.subject, Answered.key == self._key)
        await session.execute(delete(Answered).where(*mine, Answered.at <= now - _KEPT))
        request = await self._control.vault.digest(session, self._request)
        row = {"subject": self._caller.subject, "key": self._key, "request": request, "answer": b"", "at": now}
        insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
        # Waits for another transaction that has inserted the same, until that is over.
        claimed = await session.execute(insert(Answered).values(row).on_conflict_do_nothing().returning(Answered.key))
        return None if claimed.first() is not None else await self.answer(kind)

    async def keep(self, answer: Answer) -> Answer:
        """Keeps the answer for whoever sends the same again, and returns it."""
        if self._key is None:
            return answer
        vault, session = self._control.vault, self._session
        sealed = await vault.seal(session, answer.model_dump_json().encode(), self._place)
        mine = (Answered.subject == self._caller.subject, Answered.key == self._key)
        await session.execute(update(Answered).where(*mine).values(answer=sealed))
        return answer

    @property
    def _place(self) -> str:
        return f"idempotency/{self._caller.subject}/{self._key}"


def _plain(value: object) -> object:
    """Secrets as they are, for two requests that differ in one are two; anything else as text."""
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


async def drop_old(session: AsyncSession, now: datetime) -> None:
    """Forgets answers that nobody may ask for any more."""
    await session.execute(delete(Answered).where(Answered.at <= now - _KEPT))
