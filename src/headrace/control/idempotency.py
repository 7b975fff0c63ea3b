"""A creation that is sent again creates nothing again: it gets the first answer, as long as that is kept.

The answer is written in the transaction of the change, sealed (it may hold a token's text). The request is remembered as a keyed
digest, so that a key which comes with another request is refused.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, TypeVar

from fastapi import Header
from pydantic import BaseModel, SecretStr
from sqlalchemy import LargeBinary, String, delete
from sqlalchemy.exc import IntegrityError
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
        if row is None:
            return None
        if row.at + _KEPT <= self._control.clock.now():
            await self._session.delete(row)
            await self._session.flush()
            return None
        if row.request != await self._control.vault.digest(self._session, self._request):
            raise refused("idempotency-mismatch")
        return kind.model_validate_json(await self._control.vault.open(self._session, row.answer, self._place))

    async def keep(self, answer: Answer) -> Answer:
        """Keeps the answer for whoever sends the same again, and returns it."""
        if self._key is None:
            return answer
        vault, session = self._control.vault, self._session
        session.add(
            Answered(
                subject=self._caller.subject,
                key=self._key,
                request=await vault.digest(session, self._request),
                answer=await vault.seal(session, answer.model_dump_json().encode(), self._place),
                at=self._control.clock.now(),
            )
        )
        try:
            await session.flush()
        except IntegrityError:
            # The same request, at the same moment: whoever was second asks again and gets the first one's answer.
            raise refused("database-away") from None
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
