"""Hours of usage, and what nodes told of the bytes they moved."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from headrace.control.database import Base, Instant


class UsageHour(Base):
    """What an acceleration held and moved in an hour. Names and owner are those of that time: the volume may be gone when somebody asks."""

    __tablename__ = "usage_hours"
    __table_args__ = (Index(None, "owner", "id"),)

    # The hour and the acceleration, so that ids are in the order of time.
    id: Mapped[str] = mapped_column(String(48), primary_key=True)
    hour: Mapped[datetime] = mapped_column(Instant)
    acceleration_id: Mapped[str] = mapped_column(String(26))
    volume: Mapped[str] = mapped_column(String(63))
    region: Mapped[str] = mapped_column(String(63))
    owner: Mapped[str] = mapped_column(String(128))
    # KiB times seconds: bytes times seconds of some petabytes are more than 64 bits hold.
    kib_seconds: Mapped[int] = mapped_column(BigInteger, default=0)
    bytes_max: Mapped[int] = mapped_column(BigInteger, default=0)
    origin_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    served_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    opened_bytes: Mapped[int] = mapped_column(BigInteger, default=0)


class UsageTold(Base):
    """The most that a node has told of an acceleration since an epoch of its counts began."""

    __tablename__ = "usage_told"

    node_id: Mapped[str] = mapped_column(String(26), primary_key=True)
    epoch: Mapped[str] = mapped_column(String(32), primary_key=True)
    acceleration_id: Mapped[str] = mapped_column(String(26), primary_key=True)
    # Which one of the node's epochs it is; the oldest are forgotten.
    number: Mapped[int] = mapped_column(Integer)
    origin_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    served_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    opened_bytes: Mapped[int] = mapped_column(BigInteger, default=0)


class UsageClock(Base):
    """Until when usage is counted; one row, locked by whoever counts on."""

    __tablename__ = "usage_clock"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    counted: Mapped[datetime] = mapped_column(Instant)
