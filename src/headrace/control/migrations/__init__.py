"""The schema, revision by revision. `upgrade` brings a database to the newest; several replicas may try at once."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import text
from sqlalchemy.engine import Connection

from headrace.control.database import Database
from headrace.errors import HeadraceError

# Any number that nobody else locks.
_LOCK = 0x68656164726163


async def upgrade(database: Database, revision: str = "head") -> None:
    """Brings the schema to a revision, in one transaction. It may take long, and waits for another replica that does the same."""
    patient = Database(database.url, patient=True)
    try:
        async with patient.writing() as session:
            await (await session.connection()).run_sync(_run, revision)
    except CommandError as error:
        raise HeadraceError(
            "database-newer",
            f"control database: this version does not know its schema ({error}); run the version that wrote it, or a newer one",
        ) from None
    finally:
        await patient.close()


def revisions() -> list[str]:
    """All of them, the first one first."""
    return [script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()][::-1]


def newest() -> str:
    """The revision that this code is written for."""
    found = ScriptDirectory.from_config(_config()).get_current_head()
    if found is None:
        raise LookupError("there are no revisions")
    return found


def _run(connection: Connection, revision: str) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    return config
