"""Tokens: what is kept of one is a digest."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import JSON, Boolean, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from headrace.control.database import Base, Instant


class Token(Base):
    __tablename__ = "tokens"

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    name: Mapped[str] = mapped_column(String(128))
    subject: Mapped[str] = mapped_column(String(128))
    role: Mapped[str] = mapped_column(String(16))
    scopes: Mapped[list[str]] = mapped_column(JSON)
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    # Good for one thing: to be exchanged for another, once.
    one_time: Mapped[bool] = mapped_column(Boolean)
    created: Mapped[datetime] = mapped_column(Instant)
    expires: Mapped[datetime] = mapped_column(Instant)


class FirstStart(Base):
    """Has one row once the first token was made, whichever replica made it."""

    __tablename__ = "first_start"

    only: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[datetime] = mapped_column(Instant)
