"""Data keys, sealed."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from headrace.control.database import Base, Instant


class DataKey(Base):
    """A key that secrets are sealed with. The newest is in use; older ones open what they sealed."""

    __tablename__ = "data_keys"

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    master: Mapped[str] = mapped_column(String(64))
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    created: Mapped[datetime] = mapped_column(Instant)
