"""The schema that revisions make is the one that the code has, on both databases, whoever upgrades and how often."""

from __future__ import annotations

import asyncio
from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.engine import Connection

from headrace.control import tables
from headrace.control.database import Database
from headrace.control.migrations import newest, upgrade


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
