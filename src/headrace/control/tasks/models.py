"""Tasks and what they mount."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import JSON, BigInteger, Boolean, ForeignKey, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from headrace.control.database import Base, Instant


class Task(Base):
    """A job, alive as long as somebody renews its lease."""

    __tablename__ = "tasks"

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    name: Mapped[str] = mapped_column(String(63))
    region_id: Mapped[str] = mapped_column(String(26), index=True)
    node_id: Mapped[str | None] = mapped_column(String(26), index=True)
    owner: Mapped[str] = mapped_column(String(128), index=True)
    # Of the machine's user whom the node may serve.
    user_id: Mapped[int | None] = mapped_column(BigInteger)
    # Grows whenever somebody takes the lease over; who holds an older one is refused.
    lease: Mapped[int] = mapped_column(Integer)
    lasts_seconds: Mapped[int] = mapped_column(Integer)
    lease_until: Mapped[datetime] = mapped_column(Instant, index=True)
    created: Mapped[datetime] = mapped_column(Instant)
    ended: Mapped[datetime | None] = mapped_column(Instant, index=True)
    # How it ended, as a code and in both languages.
    end: Mapped[str] = mapped_column(String(16))
    because: Mapped[dict[str, str]] = mapped_column(JSON)


class TaskMount(Base):
    """A volume at a path, in a task."""

    __tablename__ = "task_mounts"

    task_id: Mapped[str] = mapped_column(String(26), ForeignKey("tasks.id"), primary_key=True)
    ordinal: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    acceleration_id: Mapped[str] = mapped_column(String(26))
    volume: Mapped[str] = mapped_column(String(63))
    path: Mapped[str] = mapped_column(String(1024))
    # The version that it was asked for, by number or label; and the one that it read when the task ended.
    wanted: Mapped[str | None] = mapped_column(String(63))
    follow: Mapped[bool] = mapped_column(Boolean)
    version: Mapped[int | None] = mapped_column(Integer)
