"""Checks that a node is asked for."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Integer, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from headrace.control.database import Base, Instant


class Check(Base):
    """A job for one node, under a lease; whoever answers an older one is refused. It goes when its answer is taken, and at its end in any case."""

    __tablename__ = "checks"

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    region_id: Mapped[str] = mapped_column(String(26))
    node_id: Mapped[str] = mapped_column(String(26), index=True)
    # A fencing token, and until when its holder is not doubted.
    lease: Mapped[int] = mapped_column(Integer)
    leased: Mapped[datetime] = mapped_column(Instant)
    expires: Mapped[datetime] = mapped_column(Instant, index=True)
    # What is asked, keys included; nothing once it is answered.
    question: Mapped[bytes | None] = mapped_column(LargeBinary)
    findings: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON(none_as_null=True))
