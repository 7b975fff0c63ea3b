"""Regions."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from headrace.control.database import Base, Instant


class Region(Base):
    __tablename__ = "regions"

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    name: Mapped[str] = mapped_column(String(63), unique=True)
    title: Mapped[str] = mapped_column(String(255))
    title_zh: Mapped[str] = mapped_column(String(255))
    # Grows with every change that concerns what its nodes should do; nodes wait for it.
    desired: Mapped[int] = mapped_column(BigInteger)
    revision: Mapped[int] = mapped_column(Integer)
    created: Mapped[datetime] = mapped_column(Instant)
