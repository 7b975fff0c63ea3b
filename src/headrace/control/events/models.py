"""One row a change; rows are never edited."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from headrace.control.database import Base, Instant


class Event(Base):
    __tablename__ = "events"
    __table_args__ = (Index(None, "noun", "object_id", "id"), Index(None, "owner", "id"))

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    at: Mapped[datetime] = mapped_column(Instant)
    kind: Mapped[str] = mapped_column(String(64))
    noun: Mapped[str] = mapped_column(String(32))
    object_id: Mapped[str] = mapped_column(String(26))
    object_name: Mapped[str] = mapped_column(String(255))
    owner: Mapped[str] = mapped_column(String(128))
    who: Mapped[str] = mapped_column(String(128))
    why: Mapped[str] = mapped_column(String(255))
    detail: Mapped[dict[str, Any]] = mapped_column(JSON)
