"""The database: SQLite for one machine, PostgreSQL for more than one replica, by the same code.

Every access is one of two: `reading` sees one state of the database, `writing` may change it and commits at its end. SQLite has one
writer: `writing` takes the lock when it begins, since a transaction that reads first and writes later is refused there when
somebody else wrote in between, however long it waits. Nothing slow (a network, another process) happens inside either.

A database that is away, or that hangs, is told as `DatabaseAway` within a bound: PostgreSQL bounds statements and waits for locks,
the driver bounds what it waits for an answer, and a transaction as a whole has a bound here, in case neither keeps its word.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
from sqlalchemy import BigInteger, MetaData, TypeDecorator, event, func, select
from sqlalchemy.engine import URL, Connection, Dialect, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from headrace.errors import HeadraceError, UsageError

log = logging.getLogger("headrace.control")

_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}
_TRY_AGAIN_SECONDS = 0.01
# Longer than any transaction here takes; a request that waits longer is told that the database is busy.
_BUSY_SECONDS = 10
_CONNECT_SECONDS = 5
_LOCK_SECONDS = 5
_STATEMENT_SECONDS = 8
# Above what PostgreSQL bounds itself: it ends a statement more cleanly than a client that stops waiting.
_ANSWER_SECONDS = 10
_TRANSACTION_SECONDS = 20
_CLOSE_SECONDS = 3
# Of a migration, or of keys that are all sealed again: bounded too, but by patience.
_PATIENT_SECONDS = 3600
# What may be said of PostgreSQL in its URL; its driver takes `ssl` for what others call `sslmode`.
_SAID = frozenset({"host", "port", "ssl"})
# By PostgreSQL's states, for its sentences may be in any language: connections (08), rolled back to be tried again (40), too many
# clients (53300), a lock or a statement that took too long (55P03, 57014), and a server that starts or ends (57P).
_AWAY_STATES = ("08", "40", "53300", "55P03", "57014", "57P")
_DISK_FULL = "53100"
# By sentences: SQLite's, and the drivers' own.
_AWAY = ("database is locked", "unable to open", "connection", "readonly database", "disk I/O")
_FULL = ("disk is full", "No space left")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class DatabaseAway(HeadraceError):
    """The database cannot be reached, or does not answer in time."""

    def __init__(self, reason: str) -> None:
        super().__init__("database-away", f"control database: {reason}; start it, or correct control_database")
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.reason,)


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


def database_url(text: str) -> URL:
    """The URL with the driver that is used here. Raises UsageError; the message holds no password."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise UsageError("bad-setting", "control database: not a database URL; write sqlite:////PATH or postgresql://USER@HOST/NAME") from None
    driver = _DRIVERS.get(url.drivername.split("+")[0])
    if driver is None:
        raise UsageError("bad-setting", f"control database: {url.drivername!r} is not supported; use sqlite or postgresql")
    url = url.set(drivername=driver)
    return _on_disk(url) if driver.startswith("sqlite") else _with_ssl(url)


def _on_disk(url: URL) -> URL:
    if not url.database or ":memory:" in url.database or url.database.startswith("file:") or url.query:
        raise UsageError("bad-setting", "control database: one in memory would be forgotten at the end; name a file, as sqlite:////PATH")
    return url


def _with_ssl(url: URL) -> URL:
    if "sslmode" in url.query:
        url = url.difference_update_query(["sslmode"]).update_query_dict({"ssl": url.query["sslmode"]})
    if unknown := sorted(set(url.query) - _SAID):
        raise UsageError(
            "bad-setting", f"control database: {unknown[0]!r} can't be said in the URL; there are host, port and sslmode (files as PGSSLROOTCERT)"
        )
    return url


class Database:
    """Transactions on one database. Use `close` when done."""

    def __init__(self, url: str, *, patient: bool = False) -> None:
        self.url = url
        self.engine = _engine(database_url(url), patient=patient)
        self._seconds = _PATIENT_SECONDS if patient else _TRANSACTION_SECONDS
        self._reading = async_sessionmaker(self.engine, expire_on_commit=False)
        self._writing = async_sessionmaker(self.engine.execution_options(headrace_writes=True), expire_on_commit=False)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A session for reads; what it saw does not change meanwhile on SQLite, and by statement on PostgreSQL."""
        async with _bounded(self._reading(), self._seconds) as session:
            yield session

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncSession]:
        """A session whose changes are kept when the block ends, and all dropped when it raises."""
        async with _bounded(self._writing(), self._seconds) as session:
            yield session
            await session.commit()

    async def ahead_seconds(self) -> float:
        """How far this machine's clock is ahead of the database's, which all replicas share; one of our own process has no clock of its own."""
        if self.engine.dialect.name != "postgresql":
            return 0.0
        async with self.reading() as session:
            theirs: Any = await session.scalar(select(func.extract("epoch", func.clock_timestamp())))
        return time.time() - float(theirs)

    async def close(self) -> None:
        await self.engine.dispose()


@asynccontextmanager
async def _bounded(session: AsyncSession, seconds: float) -> AsyncIterator[AsyncSession]:
    """The session within a bound of time. What the driver raises raw, before SQLAlchemy has a connection to speak of, is DatabaseAway."""
    try:
        async with asyncio.timeout(seconds):
            yield session
    except TimeoutError:
        raise DatabaseAway("it does not answer in time") from None
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise DatabaseAway(f"it can't be reached: {_first_line(error)}") from None
    finally:
        await _close(session)


async def _close(session: AsyncSession) -> None:
    """Rolls back what was not committed. A database that does not even do that loses its connection."""
    try:
        await asyncio.wait_for(session.close(), _CLOSE_SECONDS)
    except (SQLAlchemyError, OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        log.warning("database: a connection is dropped: %s", _first_line(error) or type(error).__name__)
        await session.invalidate()


def problem_of(error: SQLAlchemyError) -> str | None:
    """The code of the problem that an error of the database is: away, busy or full; None for a fault of ours."""
    if isinstance(error, PoolTimeout):
        return "database-away"
    if not isinstance(error, DBAPIError):
        return None
    state, text = getattr(error.orig, "sqlstate", None) or "", str(error.orig)
    if state == _DISK_FULL or any(words in text for words in _FULL):
        return "database-full"
    away = error.connection_invalidated or isinstance(error.orig, OSError) or state.startswith(_AWAY_STATES) or any(words in text for words in _AWAY)
    return "database-away" if away else None


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _engine(url: URL, *, patient: bool) -> AsyncEngine:
    if url.get_backend_name() != "sqlite":
        bounds: dict[str, Any] = {"pool_size": 8, "max_overflow": 8, "pool_timeout": _BUSY_SECONDS, "pool_pre_ping": True}
        return create_async_engine(url, hide_parameters=True, connect_args=_waits(patient=patient), **bounds)
    engine = create_async_engine(url, hide_parameters=True, connect_args={"timeout": _PATIENT_SECONDS if patient else _BUSY_SECONDS})
    event.listen(engine.sync_engine, "connect", _prepare)
    event.listen(engine.sync_engine, "begin", _begin)
    return engine


def _waits(*, patient: bool) -> dict[str, Any]:
    """How long the driver, and PostgreSQL itself, wait for something."""
    if patient:
        return {"timeout": _CONNECT_SECONDS, "command_timeout": _PATIENT_SECONDS}
    # A replica that was cut off in the middle of a transaction must not keep its locks.
    own = {"lock_timeout": _LOCK_SECONDS, "statement_timeout": _STATEMENT_SECONDS, "idle_in_transaction_session_timeout": _TRANSACTION_SECONDS}
    settings = {name: f"{seconds}s" for name, seconds in own.items()}
    return {"timeout": _CONNECT_SECONDS, "command_timeout": _ANSWER_SECONDS, "server_settings": settings}


def _prepare(connection: Any, _record: object) -> None:
    """Transactions begin where we say (`_begin`), references are checked, and readers don't wait for the writer."""
    connection.isolation_level = None
    cursor = connection.cursor()
    _keep_a_log(cursor)
    for pragma in ("synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _keep_a_log(cursor: Any) -> None:
    """A new file is changed to WAL by whoever opens it first; unlike all else, that is refused at once while somebody else has it open."""
    until = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(_TRY_AGAIN_SECONDS)
        else:
            return


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("headrace_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
