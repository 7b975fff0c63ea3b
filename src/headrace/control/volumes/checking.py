"""The connection check of a volume: from here, or from a node of a region that was asked for; either way when it is its turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from headrace.checking.check import check
from headrace.checking.findings import passes
from headrace.checking.origin import Credentials, Origin
from headrace.checking.question import Question
from headrace.control.checks import running
from headrace.control.problems import Text, refused
from headrace.control.requests import ControlPlane
from headrace.control.volumes.service import Checked

HERE = "control plane"
_HERE_ZH = "控制面"
_TURN_SECONDS = 10.0


async def checked(control: ControlPlane, origin: Origin, credentials: Credentials, *, read_only: bool, region: str | None) -> Checked:
    """The origin, and what was found of it. Raises the problems `too-many-checks`, and `not-found` and `check-not-run` of a region."""
    async with _turn(control):
        if region is None:
            found = await check(origin, credentials, control.settings.origins, read_only=read_only)
            return Checked(origin, credentials, found, HERE)
        answered = await running.run(control, region, Question(origin, credentials, control.settings.origins, read_only))
        return Checked(origin, credentials, answered.findings, f"{region}/{answered.node}")


async def passed(control: ControlPlane, origin: Origin, credentials: Credentials, *, read_only: bool, region: str | None) -> Checked:
    """The same, of an origin that passed. Raises the problem `check-failed` with what was found."""
    done = await checked(control, origin, credentials, read_only=read_only, region=region)
    if not passes(done.findings):
        where = Text(f"the {HERE}", _HERE_ZH) if done.where == HERE else Text(f"node {done.where}", f"节点 {done.where} ")
        raise refused("check-failed", done.findings, where=where)
    return done


@asynccontextmanager
async def _turn(control: ControlPlane) -> AsyncIterator[None]:
    try:
        await asyncio.wait_for(control.checks.acquire(), _TURN_SECONDS)
    except TimeoutError:
        raise refused("too-many-checks") from None
    try:
        yield
    finally:
        control.checks.release()
