"""New keys for everything that is sealed: a new data key, under the same master key or another one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from headrace.control.clock import Clock
from headrace.control.database import Database
from headrace.control.migrations import upgrade
from headrace.control.settings import ControlSettings
from headrace.control.vault import Vault, open_master
from headrace.control.volumes import service as volumes


@dataclass(frozen=True)
class Rotated:
    """What was sealed again."""

    volumes: int
    data_keys: int


async def rotate_keys(settings: ControlSettings, new_master_file: Path | None = None, new_master_command: str = "") -> Rotated:
    """Seals all credentials under a new data key, and all data keys under another master key where one is given; all of it or nothing.

    Replicas that run go on with the data keys that they have opened; those that start must be given the new master key.
    """
    clock = Clock()
    vault = Vault(open_master(settings), clock)
    given = replace(settings, master_key="", master_key_file=new_master_file or settings.master_key_file, master_key_command=new_master_command)
    other = open_master(given) if new_master_file or new_master_command else None
    database = Database(settings.database, patient=True)
    try:
        await upgrade(database)
        async with database.writing() as session:
            await vault.verify(session)
            await vault.rotate(session)
            sealed = await volumes.seal_again(session, vault)
            wrapped = await vault.rewrap(session, other) if other else 0
    finally:
        await database.close()
    return Rotated(sealed, wrapped)
