"""What every replica does every few seconds, without anybody asking: it sweeps, and forgets what is at its end."""

from __future__ import annotations

import asyncio
import logging
import time

from headrace.control import idempotency
from headrace.control.accelerations import snapshots
from headrace.control.accelerations.sweeping import sweep_once
from headrace.control.comparisons import service as comparisons
from headrace.control.comparisons.sweeping import sweep_comparisons
from headrace.control.database import DatabaseAway
from headrace.control.nodes import service as nodes
from headrace.control.requests import ControlPlane
from headrace.control.tasks import service as tasks
from headrace.control.tasks.sweeping import sweep_leases, sweep_lost
from headrace.control.tokens import service as tokens
from headrace.control.usage import service as usage
from headrace.control.warmups import service as warmups
from headrace.control.warmups.sweeping import sweep_warmups
from headrace.printable import printable

log = logging.getLogger("headrace.control")

_EVERY_SECONDS = 2.0
# What is at its end is refused anyhow; its rows only take room.
_FORGET_SECONDS = 600.0
# After a start: nodes that could not be heard meanwhile renew the leases of their tasks first.
_HEAR_FIRST_SECONDS = 60.0
_REASON_MAX = 200


async def work_for_ever(control: ControlPlane) -> None:
    """Works until cancelled; a database that is away for a while is waited for, and a fault of ours is told and does not end it."""
    forgotten, counted, began = -_FORGET_SECONDS, float("-inf"), time.monotonic()
    while True:
        try:
            await sweep_once(control.database, control.clock)
            await sweep_comparisons(control.database, control.clock)
            await sweep_warmups(control.database, control.clock)
            await sweep_lost(control.database, control.clock)
            if time.monotonic() - counted >= usage.EVERY.total_seconds():
                counted = time.monotonic()
                await count_usage(control)
            if time.monotonic() - began >= _HEAR_FIRST_SECONDS:
                await sweep_leases(control.database, control.clock)
            if time.monotonic() - forgotten >= _FORGET_SECONDS:
                await forget_what_is_over(control)
                forgotten = time.monotonic()
        except DatabaseAway as away:
            log.warning("background: %s", printable(away.reason, _REASON_MAX))
        except Exception:
            log.exception("background")
        await asyncio.sleep(_EVERY_SECONDS)


async def count_usage(control: ControlPlane) -> None:
    """Counts what is held since the last count."""
    async with control.database.writing() as session:
        await usage.count(session, control.clock.now())


async def forget_what_is_over(control: ControlPlane) -> None:
    """Forgets tokens whose time is over, answers that nobody may ask for any more, lists of files never published, and tasks of long ago."""
    now = control.clock.now()
    async with control.database.writing() as session:
        await tokens.drop_expired(session, now)
        await nodes.drop_expired(session, now)
        await idempotency.drop_old(session, now)
        await snapshots.drop_unpublished(session, now)
        await tasks.drop_old(session, now)
        await comparisons.drop_old(session, now)
        await warmups.drop_old(session, now)
