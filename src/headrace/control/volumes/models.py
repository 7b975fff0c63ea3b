"""Volumes and their sealed credentials."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Integer, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from headrace.control.database import Base, Instant


class Volume(Base):
    __tablename__ = "volumes"

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    name: Mapped[str] = mapped_column(String(63), unique=True)
    owner: Mapped[str] = mapped_column(String(128), index=True)
    provider: Mapped[str] = mapped_column(String(32))
    region: Mapped[str] = mapped_column(String(64))
    endpoint: Mapped[str] = mapped_column(String(512))
    # What was said (auto, virtual or path), and what it came to.
    addressing: Mapped[str] = mapped_column(String(16))
    addressing_used: Mapped[str] = mapped_column(String(16))
    bucket: Mapped[str] = mapped_column(String(255))
    directory: Mapped[str] = mapped_column(String(1024))
    anonymous: Mapped[bool] = mapped_column(Boolean)
    read_only: Mapped[bool] = mapped_column(Boolean)
    # Who the keys belong to, for people: the end of the access key. The keys themselves are sealed, as one JSON object.
    access_key_hint: Mapped[str] = mapped_column(String(16))
    credentials: Mapped[bytes | None] = mapped_column(LargeBinary)
    # A ceiling for all nodes together; 0 is none.
    bandwidth: Mapped[int] = mapped_column(BigInteger)
    requests: Mapped[int] = mapped_column(Integer)
    # What the last connection check found, and when.
    findings: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    checked: Mapped[datetime] = mapped_column(Instant)
    checked_from: Mapped[str] = mapped_column(String(128))
    revision: Mapped[int] = mapped_column(Integer)
    created: Mapped[datetime] = mapped_column(Instant)
    changed: Mapped[datetime] = mapped_column(Instant)
