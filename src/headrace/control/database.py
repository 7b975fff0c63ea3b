"""The database: SQLite for one machine, PostgreSQL for more than one replica, by the same code.

Every access is one of two: `reading` sees one state of the database, `writing` may change it and commits at its end. SQLite has one
writer: `writing` takes the lock when it begins, since a transaction that reads first and writes later is refused there when
somebody else wrote in between, however long it waits. Nothing slow (a network, another process) happens inside either.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, MetaData, TypeDecorator, event
from sqlalchemy.engine import Connection, Dialect, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from headrace.errors import UsageError

_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}
# Longer than any transaction here takes; a request that waits longer is told that the database is busy.
_BUSY_SECONDS = 10
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class Base(DeclarativeBase):
    """Tables. Constraints are named, so that a migration can name them too."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Instant(TypeDecorator[datetime]):
    """A time in UTC, kept as milliseconds since 1970: both databases compare and sort that alike."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002 - SQLAlchemy's interface
        return None if value is None else (value - _EPOCH) // _MILLISECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's interface
        return None if value is None else _EPOCH + value * _MILLISECOND


def database_url(text: str) -> str:
    """The URL with the driver that is used here. Raises UsageError; the message holds no password."""
    try:
        url = make_url(text)
    except ArgumentError:
        raise UsageError("bad-setting", "control database: not a database URL; write sqlite:////PATH or postgresql://USER@HOST/NAME") from None
    driver = _DRIVERS.get(url.drivername.split("+")[0])
    if driver is None:
        raise UsageError("bad-setting", f"control database: {url.drivername!r} is not supported; use sqlite or postgresql")
    return url.set(drivername=driver).render_as_string(hide_password=False)


class Database:
    """Transactions on one database. Use `close` when done."""

    def __init__(self, url: str) -> None:
        self.engine = _engine(database_url(url))
        self._reading = async_sessionmaker(self.engine, expire_on_commit=False)
        self._writing = async_sessionmaker(self.engine.execution_options(headrace_writes=True), expire_on_commit=False)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A session for reads; what it saw does not change meanwhile on SQLite, and by statement on PostgreSQL."""
        async with self._reading() as session:
            yield session

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncSession]:
        """A session whose changes are kept when the block ends, and all dropped when it raises."""
        async with self._writing.begin() as session:
            yield session

    async def close(self) -> None:
        await self.engine.dispose()


def _engine(url: str) -> AsyncEngine:
    if not url.startswith("sqlite"):
        return create_async_engine(url, hide_parameters=True, pool_size=8, max_overflow=8, pool_timeout=_BUSY_SECONDS, pool_pre_ping=True)
    engine = create_async_engine(url, hide_parameters=True, connect_args={"timeout": _BUSY_SECONDS})
    event.listen(engine.sync_engine, "connect", _prepare)
    event.listen(engine.sync_engine, "begin", _begin)
    return engine


def _prepare(connection: Any, _record: object) -> None:
    """Transactions begin where we say (`_begin`), references are checked, and readers don't wait for the writer."""
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("headrace_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
