"""Comparisons of an origin with what is current."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from headrace.control.database import Base, Instant


class Comparison(Base):
    """A job for one node, under a lease; whoever answers an older one is refused."""

    __tablename__ = "comparisons"

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    acceleration_id: Mapped[str] = mapped_column(String(26), index=True)
    region_id: Mapped[str] = mapped_column(String(26), index=True)
    who: Mapped[str] = mapped_column(String(128))
    version: Mapped[int] = mapped_column(Integer)
    lease: Mapped[int] = mapped_column(Integer)
    node_id: Mapped[str] = mapped_column(String(26))
    created: Mapped[datetime] = mapped_column(Instant)
    ended: Mapped[datetime | None] = mapped_column(Instant, index=True)
    # What was found, or why nothing could be.
    found: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    error: Mapped[str] = mapped_column(String(1024))
