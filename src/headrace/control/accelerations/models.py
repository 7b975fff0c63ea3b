"""Accelerations, their versions, what nodes hold of them, and the lists of files that versions are."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, ForeignKey, Integer, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from headrace.control.database import Base, Instant


class Acceleration(Base):
    """A volume in a region."""

    __tablename__ = "accelerations"
    __table_args__ = (UniqueConstraint("volume_id", "region_id"),)

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    volume_id: Mapped[str] = mapped_column(String(26), index=True)
    region_id: Mapped[str] = mapped_column(String(26), index=True)
    owner: Mapped[str] = mapped_column(String(128), index=True)
    state: Mapped[str] = mapped_column(String(16), index=True)
    condition: Mapped[str] = mapped_column(String(32))
    # Why it has that condition, in both languages.
    reason: Mapped[dict[str, str]] = mapped_column(JSON)
    selection: Mapped[dict[str, Any]] = mapped_column(JSON)
    placement: Mapped[dict[str, Any]] = mapped_column(JSON)
    # What tasks mount; and what is being pulled, which is current once it is held.
    current: Mapped[int | None] = mapped_column(Integer)
    pulling: Mapped[int | None] = mapped_column(Integer)
    # The last number that a version was given; numbers are not given twice.
    numbered: Mapped[int] = mapped_column(Integer)
    # Grows with every listing that is asked for; an answer to an older one is refused.
    listing: Mapped[int] = mapped_column(Integer)
    lister: Mapped[str | None] = mapped_column(String(26))
    lister_until: Mapped[datetime | None] = mapped_column(Instant)
    # When this pull began, and the last time that it got further; a pull without progress fails by itself.
    began: Mapped[datetime] = mapped_column(Instant)
    progressed: Mapped[datetime] = mapped_column(Instant)
    # End of the last use, or of the pull when there was none.
    used: Mapped[datetime] = mapped_column(Instant, index=True)
    expire_seconds: Mapped[int] = mapped_column(Integer)
    release_seconds: Mapped[int] = mapped_column(Integer)
    keep_versions: Mapped[int] = mapped_column(Integer)
    # Of a schedule that somebody asked for; 0 is none.
    refresh_every_seconds: Mapped[int] = mapped_column(Integer)
    # Made current as soon as it is published, instead of when it is held.
    at_once: Mapped[bool] = mapped_column(Boolean)
    revision: Mapped[int] = mapped_column(Integer)
    created: Mapped[datetime] = mapped_column(Instant)
    changed: Mapped[datetime] = mapped_column(Instant)


class Version(Base):
    """A published list of files."""

    __tablename__ = "versions"

    acceleration_id: Mapped[str] = mapped_column(String(26), ForeignKey("accelerations.id"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    label: Mapped[str] = mapped_column(String(63))
    digest: Mapped[str] = mapped_column(String(64), index=True)
    files: Mapped[int] = mapped_column(BigInteger)
    bytes: Mapped[int] = mapped_column(BigInteger)
    skipped: Mapped[int] = mapped_column(BigInteger)
    # Was complete once: what a refresh that fails falls back to.
    pulled: Mapped[bool] = mapped_column(Boolean)
    created: Mapped[datetime] = mapped_column(Instant)


class SnapshotPart(Base):
    """A part of a snapshot file: metadata only, and the same for all who have the same list."""

    __tablename__ = "snapshot_parts"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    part: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    content: Mapped[bytes] = mapped_column(LargeBinary)
    # When, and for whom, it was sent: one that no version needs in the end is forgotten.
    sent: Mapped[datetime] = mapped_column(Instant)
    acceleration_id: Mapped[str] = mapped_column(String(26), index=True)


class Holding(Base):
    """What a node has of a version, as it told last."""

    __tablename__ = "holdings"

    acceleration_id: Mapped[str] = mapped_column(String(26), ForeignKey("accelerations.id"), primary_key=True)
    node_id: Mapped[str] = mapped_column(String(26), primary_key=True)
    version: Mapped[int] = mapped_column(Integer)
    files: Mapped[int] = mapped_column(BigInteger)
    files_total: Mapped[int] = mapped_column(BigInteger)
    bytes: Mapped[int] = mapped_column(BigInteger)
    bytes_total: Mapped[int] = mapped_column(BigInteger)
    # All that was selected, or as much as fits.
    complete: Mapped[bool] = mapped_column(Boolean)
    error: Mapped[str] = mapped_column(String(1024))
    told: Mapped[datetime] = mapped_column(Instant)


class KeptVersion(Base):
    """What a node has of a version that it keeps beside the one it holds, and how many of its files nobody can get any more."""

    __tablename__ = "kept_versions"

    acceleration_id: Mapped[str] = mapped_column(String(26), ForeignKey("accelerations.id"), primary_key=True)
    node_id: Mapped[str] = mapped_column(String(26), primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    bytes: Mapped[int] = mapped_column(BigInteger)
    bytes_total: Mapped[int] = mapped_column(BigInteger)
    # Overwritten or deleted in a bucket without versions, and not whole in this node's cache.
    lost_files: Mapped[int] = mapped_column(BigInteger)


class Use(Base):
    """A mount of a task: what it reads of an acceleration. `lost` says, in both languages, why it can't be read any more."""

    __tablename__ = "uses"

    task_id: Mapped[str] = mapped_column(String(26), primary_key=True)
    ordinal: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    acceleration_id: Mapped[str] = mapped_column(String(26), index=True)
    holder: Mapped[str] = mapped_column(String(160))
    # None while it waits for the first version, and where it follows.
    version: Mapped[int | None] = mapped_column(Integer)
    follow: Mapped[bool] = mapped_column(Boolean)
    lost: Mapped[dict[str, str] | None] = mapped_column(JSON(none_as_null=True))
