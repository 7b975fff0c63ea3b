"""What every replica does every few seconds, without anybody asking: it sweeps, and forgets what is at its end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from headrace.control import idempotency
from headrace.control.accelerations import snapshots
from headrace.control.accelerations.sweeping import sweep_once
from headrace.control.checks.running import sweep_checks
from headrace.control.comparisons import service as comparisons
from headrace.control.comparisons.sweeping import sweep_comparisons
from headrace.control.database import DatabaseAway
from headrace.control.events import service as events
from headrace.control.nodes import service as nodes
from headrace.control.requests import ControlPlane
from headrace.control.tasks import service as tasks
from headrace.control.tasks.sweeping import sweep_leases, sweep_lost
from headrace.control.tokens import service as tokens
from headrace.control.usage import service as usage
from headrace.control.usage import traffic
from headrace.control.warmups import service as warmups
from headrace.control.warmups.sweeping import sweep_warmups
from headrace.printable import printable

log = logging.getLogger("headrace.control")

_EVERY_SECONDS = 2.0
# What is at its end is refused anyhow; its rows only take room.
_FORGET_SECONDS = 600.0
_REASON_MAX = 200
_AHEAD_SECONDS_MAX = 10.0
# Each batch is a transaction, so that nobody waits long behind it; what is left after so many waits for the next time.
_EVENTS_AT_ONCE = 1000
_BATCHES_MAX = 100


Work = Callable[[ControlPlane], Awaitable[None]]


async def work_for_ever(control: ControlPlane) -> None:
    """Works until cancelled."""
    due = {work: time.monotonic() + first for work, (_, first) in _WORKS.items()}
    while True:
        for work, (every, _) in _WORKS.items():
            if time.monotonic() >= due[work]:
                await _do(work, control)
                due[work] = time.monotonic() + every
        await asyncio.sleep(_EVERY_SECONDS)


async def _do(work: Work, control: ControlPlane) -> None:
    """One work, once. A database that is away for a while is waited for; a fault of ours is told, and keeps no other work from being done."""
    try:
        await work(control)
    except DatabaseAway as away:
        control.hearing.was_lost()
        log.warning("background: %s", printable(away.reason, _REASON_MAX))
    except Exception:
        log.exception("background: %s", work.__name__)


async def sweep_accelerations(control: ControlPlane) -> None:
    await sweep_once(control.database, control.clock)


async def sweep_jobs(control: ControlPlane) -> None:
    """Comparisons, warm-ups, checks, and tasks whose mounts are gone."""
    await sweep_comparisons(control.database, control.clock)
    await sweep_warmups(control.database, control.clock)
    await sweep_checks(control.database, control.clock)
    await sweep_lost(control.database, control.clock)


async def expire_leases(control: ControlPlane) -> None:
    """Nodes and others that could not be heard renew the leases of their tasks first."""
    if control.hearing.has_just_begun():
        return
    # By a clock that is ahead every lease has run out, though all of them are renewed with the other replicas.
    ahead = await control.database.ahead_seconds()
    if ahead > _AHEAD_SECONDS_MAX:
        log.error("clock: this machine's is %.0f s ahead of the database's; set it (NTP). Until then this replica ends no task's lease", ahead)
        return
    await sweep_leases(control.database, control.clock)


async def count_usage(control: ControlPlane) -> None:
    """Counts what is held since the last count."""
    async with control.database.writing() as session:
        await usage.count(session, control.clock.now())


async def forget_what_is_over(control: ControlPlane) -> None:
    """Forgets tokens whose time is over, answers that nobody may ask for any more, lists never published, tasks of long ago, old events, and
    what nodes told of accelerations that are gone."""
    now = control.clock.now()
    async with control.database.writing() as session:
        await tokens.drop_expired(session, now)
        await nodes.drop_expired(session, now)
        await idempotency.drop_old(session, now)
        await snapshots.drop_unpublished(session, now)
        await tasks.drop_old(session, now)
        await comparisons.drop_old(session, now)
        await warmups.drop_old(session, now)
        await traffic.drop_gone(session)
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


# How often each is done, in seconds, and how long after the start at first.
_WORKS: dict[Work, tuple[float, float]] = {
    sweep_accelerations: (_EVERY_SECONDS, 0),
    sweep_jobs: (_EVERY_SECONDS, 0),
    expire_leases: (_EVERY_SECONDS, 0.0),
    count_usage: (usage.EVERY.total_seconds(), 0),
    forget_what_is_over: (_FORGET_SECONDS, 0),
}
