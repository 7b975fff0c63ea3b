"""What every replica does every few seconds, without anybody asking: it sweeps, and forgets what is at its end."""

from __future__ import annotations

import asyncio
import logging
import time

from headrace.control import idempotency
from headrace.control.accelerations import snapshots
from headrace.control.accelerations.sweeping import sweep_once
from headrace.control.database import DatabaseAway
from headrace.control.events import service as events
from headrace.control.nodes import service as nodes
from headrace.control.requests import ControlPlane
from headrace.control.tokens import service as tokens
from headrace.printable import printable

log = logging.getLogger("headrace.control")

_EVERY_SECONDS = 2.0
# What is at its end is refused anyhow; its rows only take room.
_FORGET_SECONDS = 600.0
_REASON_MAX = 200
# Each batch is a transaction, so that nobody waits long behind it; what is left after so many waits for the next time.
_EVENTS_AT_ONCE = 1000
_BATCHES_MAX = 100


async def work_for_ever(control: ControlPlane) -> None:
    """Works until cancelled; a database that is away for a while is waited for, and a fault of ours is told and does not end it."""
    forgotten = -_FORGET_SECONDS
    while True:
        try:
            await sweep_once(control.database, control.clock)
            if time.monotonic() - forgotten >= _FORGET_SECONDS:
                await forget_what_is_over(control)
                forgotten = time.monotonic()
        except DatabaseAway as away:
            log.warning("background: %s", printable(away.reason, _REASON_MAX))
        except Exception:
            log.exception("background")
        await asyncio.sleep(_EVERY_SECONDS)


async def forget_what_is_over(control: ControlPlane) -> None:
    """Forgets tokens whose time is over, answers that nobody may ask for any more, lists of files that were never published, and old events."""
    now = control.clock.now()
    async with control.database.writing() as session:
        await tokens.drop_expired(session, now)
        await nodes.drop_expired(session, now)
        await idempotency.drop_old(session, now)
        await snapshots.drop_unpublished(session, now)
    await _forget_events(control)


async def _forget_events(control: ControlPlane) -> None:
    """Forgets events that are older than they are kept."""
    if control.settings.events_keep is None:
        return
    before = control.clock.now() - control.settings.events_keep
    for _ in range(_BATCHES_MAX):
        async with control.database.writing() as session:
            gone = await events.drop_old(session, before, _EVENTS_AT_ONCE)
        if gone < _EVENTS_AT_ONCE:
            return
