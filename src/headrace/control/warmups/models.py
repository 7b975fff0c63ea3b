"""Warm-ups, and how far nodes are with them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, ForeignKey, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from headrace.control.database import Base, Instant


class Warmup(Base):
    """Data of a version for some nodes, once."""

    __tablename__ = "warmups"

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    acceleration_id: Mapped[str] = mapped_column(String(26), index=True)
    region_id: Mapped[str] = mapped_column(String(26), index=True)
    owner: Mapped[str] = mapped_column(String(128), index=True)
    # As they were called when it began.
    volume: Mapped[str] = mapped_column(String(63))
    region: Mapped[str] = mapped_column(String(63))
    who: Mapped[str] = mapped_column(String(128))
    version: Mapped[int] = mapped_column(Integer)
    selection: Mapped[dict[str, Any]] = mapped_column(JSON)
    created: Mapped[datetime] = mapped_column(Instant)
    # When any node got further; one that nobody works on ends by itself.
    progressed: Mapped[datetime] = mapped_column(Instant)
    ended: Mapped[datetime | None] = mapped_column(Instant, index=True)
    end: Mapped[str] = mapped_column(String(16))


class WarmupNode(Base):
    """How far a node is, as it told last."""

    __tablename__ = "warmup_nodes"

    warmup_id: Mapped[str] = mapped_column(String(26), ForeignKey("warmups.id"), primary_key=True)
    node_id: Mapped[str] = mapped_column(String(26), primary_key=True, index=True)
    files: Mapped[int] = mapped_column(BigInteger)
    files_total: Mapped[int] = mapped_column(BigInteger)
    bytes: Mapped[int] = mapped_column(BigInteger)
    bytes_total: Mapped[int] = mapped_column(BigInteger)
    complete: Mapped[bool] = mapped_column(Boolean)
    error: Mapped[str] = mapped_column(String(1024))
