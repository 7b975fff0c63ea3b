"""The schema that revisions make is the one that the code has, on both databases, whoever upgrades and how often."""

from __future__ import annotations

import asyncio
from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.engine import Connection

from headrace.control import tables
from headrace.control.database import Database
from headrace.control.migrations import newest, revisions, upgrade


def _differences(connection: Connection) -> tuple[str | None, list[object]]:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return context.get_current_revision(), list(compare_metadata(context, tables.metadata))


def test_revisions_make_what_the_code_has(database: str | None, tmp_path: Path) -> None:
    async def run() -> None:
        place = Database(database or f"sqlite:///{tmp_path}/x.db")
        others = [Database(database or f"sqlite:///{tmp_path}/x.db") for _ in range(3)]
        await asyncio.gather(*(upgrade(one) for one in (place, *others)))
        await upgrade(place)
        async with place.engine.connect() as connection:
            assert await connection.run_sync(_differences) == (newest(), [])
        for one in (place, *others):
            await one.close()

    asyncio.run(run())


_FIRST = "0001"
# Rows as the first revision that has their table would have them; what came later gets its value when the database is upgraded.
_ROWS = {
    "0003": (
        "INSERT INTO accelerations (id, volume_id, region_id, owner, state, condition, reason, selection, placement, numbered, listing, began,"
        " progressed, used, expire_seconds, release_seconds, keep_versions, at_once, revision, created, changed) VALUES ('a', 'v', 'r', 'o',"
        " 'active', '', '{}', '{\"kind\": \"all\"}', '{}', 1, 1, 5, 5, 5, 60, 60, 5, false, 1, 5, 5)"
    ),
    "0005": (
        "INSERT INTO usage_hours (id, hour, acceleration_id, volume, region, owner, kib_seconds, bytes_max)"
        " VALUES ('000000003600-a', 3600000, 'a', 'qwen', 'zj-1', 'o', 7, 8)"
    ),
}


def test_what_is_in_a_database_of_each_revision_is_there_in_the_newest(database: str | None, tmp_path: Path) -> None:
    """From the first revision on, one after the other, as whoever upgrades late or often."""

    async def run() -> None:
        place = Database(database or f"sqlite:///{tmp_path}/x.db")
        for revision in revisions():
            await upgrade(place, revision)
            if revision in _ROWS:
                async with place.writing() as session:
                    await session.execute(text(_ROWS[revision]))
        async with place.reading() as session:
            found = (await session.execute(text("SELECT state, numbered, refresh_every_seconds FROM accelerations"))).all()
            hours = (await session.execute(text("SELECT kib_seconds, bytes_max, origin_bytes, served_bytes, opened_bytes FROM usage_hours"))).all()
        assert [tuple(row) for row in found] == [("active", 1, 0)]
        assert [tuple(row) for row in hours] == [(7, 8, 0, 0, 0)]
        await place.close()

    assert revisions()[0] == _FIRST
    asyncio.run(run())
