"""Nodes, and the tokens that they join with."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from headrace.control.database import Base, Instant


class Node(Base):
    __tablename__ = "nodes"
    __table_args__ = (UniqueConstraint("region_id", "name"),)

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    name: Mapped[str] = mapped_column(String(63))
    region_id: Mapped[str] = mapped_column(String(26), ForeignKey("regions.id"), index=True)
    labels: Mapped[dict[str, str]] = mapped_column(JSON)
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    draining: Mapped[bool] = mapped_column()
    joined: Mapped[datetime] = mapped_column(Instant)
    heard: Mapped[datetime] = mapped_column(Instant)
    # What it told last: versions, health, room.
    version: Mapped[str] = mapped_column(String(64))
    capacity_bytes: Mapped[int] = mapped_column(BigInteger)
    used_bytes: Mapped[int] = mapped_column(BigInteger)
    applied: Mapped[int] = mapped_column(BigInteger)
    health: Mapped[dict[str, Any]] = mapped_column(JSON)


class JoinToken(Base):
    __tablename__ = "join_tokens"

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    region_id: Mapped[str] = mapped_column(String(26), ForeignKey("regions.id"), index=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    created: Mapped[datetime] = mapped_column(Instant)
    expires: Mapped[datetime] = mapped_column(Instant)
    # The node that joined with it; it may ask again under the same name as long as it was never heard.
    spent_by: Mapped[str | None] = mapped_column(String(26))
