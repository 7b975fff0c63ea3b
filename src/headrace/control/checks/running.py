"""Running a check on a node of a region, for a request that waits for it.

Whoever waits also looks after the check: it asks another node when the first falls silent, and ends it. A replica that dies over this leaves
a row behind, which every replica forgets at its end (`sweep_checks`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from headrace.checking.findings import Finding
from headrace.checking.question import Question
from headrace.control.accelerations.sweeping import candidates
from headrace.control.checks import service
from headrace.control.checks.models import Check
from headrace.control.clock import Clock
from headrace.control.database import Database
from headrace.control.nodes import service as nodes
from headrace.control.problems import Problem, Text, refused
from headrace.control.regions import service as regions
from headrace.control.requests import ControlPlane

# A change of the region, such as an answer, is heard of at once; leases and the end are looked at this often.
_LOOK_SECONDS = 1.0
_NONE_THERE = Text("none is there", "该地域没有可用节点")
_NO_ANSWER = Text("none has answered in time", "没有节点在规定时间内响应")
_ENDS = Text("this replica of the control plane ends", "控制面的此副本正在关闭")


@dataclass(frozen=True)
class Answered:
    """What a node found."""

    node: str
    findings: list[Finding]


async def run(control: ControlPlane, region: str, question: Question) -> Answered:
    """The check, on a node of a region. Raises `not-found`, or `check-not-run` where no node answers in time."""
    async with control.database.writing() as session:
        region_id = (await regions.find(session, region)).id
        there = [one.id for one in await candidates(session, control.clock, region_id)]
        if not there:
            raise _not_run(region, _NONE_THERE)
        begun = await service.begin(session, control.vault, control.clock, region_id, question, there)
    until, known = time.monotonic() + service.LASTS.total_seconds(), -1
    while True:
        # Read before the row: an answer in between is found by the next look.
        known = await control.watch.wait(region_id, known, _LOOK_SECONDS)
        async with control.database.reading() as session:
            row = await service.lookup(session, begun.id)
        if row is not None and row.findings is not None:
            return await _taken(control, row)
        if control.watch.ended:
            raise await _given_up(control, row, region, _ENDS)
        # The clock may be set back.
        if row is None or row.expires <= control.clock.now() or time.monotonic() >= until:
            raise await _given_up(control, row, region, _NO_ANSWER)
        if row.leased <= control.clock.now():
            await _hand_on(control, row)


async def _taken(control: ControlPlane, row: Check) -> Answered:
    async with control.database.writing() as session:
        await service.end(session, row)
        name = (await nodes.names(session, {row.node_id})).get(row.node_id, row.node_id)
    return Answered(name, [Finding.read(said) for said in row.findings or ()])


async def _given_up(control: ControlPlane, row: Check | None, region: str, reason: Text) -> Problem:
    if row is not None:
        async with control.database.writing() as session:
            await service.end(session, row)
    return _not_run(region, reason)


async def _hand_on(control: ControlPlane, row: Check) -> None:
    async with control.database.writing() as session:
        there = await candidates(session, control.clock, row.region_id)
        await service.hand_on(session, control.clock, row.id, [one.id for one in there])


def _not_run(region: str, reason: Text) -> Problem:
    return refused("check-not-run", region=region, reason=reason)


async def sweep_checks(database: Database, clock: Clock) -> None:
    """Forgets checks at their end; a transaction that writes only where there are any."""
    async with database.reading() as session:
        if not await service.any_expired(session, clock.now()):
            return
    async with database.writing() as session:
        await service.drop_expired(session, clock.now())
