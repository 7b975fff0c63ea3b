"""What can be done with checks of nodes, inside the caller's transaction.

The node that is asked holds a lease, which it renews while it checks; when that is over, another one is asked, under the next number. The
question, keys included, is sealed in the row, opened for the holder of the lease alone, and gone from the row with the answer.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from headrace.checking.findings import Finding
from headrace.checking.question import Question
from headrace.control.accelerations.placement import ranked
from headrace.control.checks.models import Check
from headrace.control.clock import Clock
from headrace.control.ids import new_id
from headrace.control.problems import refused
from headrace.control.regions import service as regions
from headrace.control.vault import Vault

# With the ten seconds that a check may wait for its turn, less than a client waits for an answer.
LASTS = timedelta(seconds=70)
# A node that was killed is soon replaced; one that lives hears within a second that it is asked.
LEASE = timedelta(seconds=15)
# Of the end: to remove what was written, and to tell.
_LAST_SECONDS = 15.0


async def begin(session: AsyncSession, vault: Vault, clock: Clock, region_id: str, question: Question, nodes: Collection[str]) -> Check:
    """A check, asked of one of these nodes."""
    now = clock.now()
    identifier = new_id(now)
    sealed = await vault.seal(session, json.dumps(question.document()).encode(), _place(identifier))
    row = Check(id=identifier, region_id=region_id, lease=0, expires=now + LASTS, question=sealed, findings=None)
    _ask(row, now, nodes)
    session.add(row)
    await regions.bump(session, region_id)
    return row


async def question_of(session: AsyncSession, vault: Vault, clock: Clock, identifier: str, node_id: str, lease: int) -> tuple[dict[str, Any], float]:
    """What the holder of the lease is asked, and how many seconds it has. Raises `stale-check` for anybody else."""
    row, now = _held(await session.get(Check, identifier), clock, node_id, lease), clock.now()
    if row.question is None or row.leased <= now:
        raise refused("stale-check")
    said: dict[str, Any] = json.loads(await vault.open(session, row.question, _place(row.id)))
    return said, max(1.0, (row.expires - now).total_seconds() - _LAST_SECONDS)


async def renew(session: AsyncSession, clock: Clock, identifier: str, node_id: str, lease: int) -> None:
    """The node still checks. Raises `stale-check` where another one was asked meanwhile, or nobody is any more."""
    row = _held(await lookup(session, identifier, lock=True), clock, node_id, lease)
    row.leased = clock.now() + LEASE


async def answer(session: AsyncSession, clock: Clock, identifier: str, node_id: str, lease: int, findings: Sequence[Finding]) -> None:
    """What the node found. Raises `stale-check` likewise."""
    row = _held(await lookup(session, identifier, lock=True), clock, node_id, lease)
    row.findings, row.question = [finding.document() for finding in findings], None
    await regions.bump(session, row.region_id)


async def hand_on(session: AsyncSession, clock: Clock, identifier: str, nodes: Collection[str]) -> None:
    """Asks another node, where the lease of the one that was asked is over; the same again where there is no other."""
    row, now = await lookup(session, identifier, lock=True), clock.now()
    if row is None or row.findings is not None or row.leased > now or not nodes:
        return
    _ask(row, now, set(nodes) - {row.node_id} or nodes)
    await regions.bump(session, row.region_id)


async def end(session: AsyncSession, row: Check) -> None:
    """Forgets it: its answer is taken, or nobody waits for one any more."""
    await session.execute(delete(Check).where(Check.id == row.id))
    if row.findings is None:
        await regions.bump(session, row.region_id)


async def lookup(session: AsyncSession, identifier: str, *, lock: bool = False) -> Check | None:
    return await session.get(Check, identifier, with_for_update=lock)


async def asked_of(session: AsyncSession, node_id: str, now: datetime) -> Sequence[Check]:
    """What a node is asked for."""
    found = select(Check).where(Check.node_id == node_id, Check.findings.is_(None), Check.expires > now).order_by(Check.id)
    return (await session.scalars(found)).all()


async def any_expired(session: AsyncSession, now: datetime) -> bool:
    return await session.scalar(select(Check.id).where(Check.expires <= now).limit(1)) is not None


async def drop_expired(session: AsyncSession, now: datetime) -> None:
    """Forgets those that are at their end: whoever asked may have died over them."""
    gone = await session.scalars(delete(Check).where(Check.expires <= now).returning(Check.region_id))
    await regions.bump_all(session, set(gone))


def _ask(row: Check, now: datetime, nodes: Collection[str]) -> None:
    row.lease += 1
    row.node_id = ranked(f"{row.id}/{row.lease}", nodes)[0]
    row.leased = now + LEASE


def _held(row: Check | None, clock: Clock, node_id: str, lease: int) -> Check:
    if row is None or row.findings is not None or row.node_id != node_id or row.lease != lease or row.expires <= clock.now():
        raise refused("stale-check")
    return row


def _place(identifier: str) -> str:
    return f"checks/{identifier}/question"
