"""A control plane's books, filled as months of use would leave them.

Rows go into the database as the services write them: connection checks, listings and pulls of a thousand volumes are not what is measured.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from bench.service.replicas import MASTER_KEY
from headrace.checking.origin import Credentials
from headrace.control import settings
from headrace.control.accelerations.models import Acceleration, Holding, Use, Version
from headrace.control.accelerations.placement import Candidate, Placement, holders
from headrace.control.accelerations.states import Condition, State
from headrace.control.bearers import Bearer
from headrace.control.clock import Clock
from headrace.control.database import Database
from headrace.control.events.models import Event
from headrace.control.ids import new_id
from headrace.control.nodes.models import Node
from headrace.control.regions import service as regions
from headrace.control.tasks.models import Task, TaskMount
from headrace.control.tokens import service as tokens
from headrace.control.tokens.caller import Caller
from headrace.control.vault import Vault, open_master
from headrace.control.volumes import service as volumes
from headrace.control.volumes.models import Volume

REGION = "zj-1"
_OWNERS = 20
_ALL_HOLD = 20  # every so manieth volume is held by all nodes, the others by three
_HELD_BY = 3
_FILES, _BYTES = 40, 8 * 10**9
_LEASE_SECONDS = 120
_DAY = timedelta(days=1)


@dataclass
class Seat:
    """A node: who it is, what it holds, and its tasks."""

    id: str
    token: str = field(repr=False)
    held: list[str] = field(default_factory=list)  # accelerations
    tasks: list[str] = field(default_factory=list)


@dataclass
class Fleet:
    """What the books are full of, and tokens of those who look into them."""

    nodes: list[Seat]
    readers: list[str] = field(repr=False)
    tasks: int = 0
    holdings: int = 0


@dataclass(frozen=True)
class Outcome:
    """What became of an acceleration."""

    state: str
    doubled: bool


def volume_name(number: int) -> str:
    return f"model-{number:04}"


def held(acceleration: str, version: int = 1) -> dict[str, Any]:
    """What a node tells of a version that it holds whole."""
    counts = {"files": _FILES, "files_total": _FILES, "bytes": _BYTES, "bytes_total": _BYTES}
    return {"acceleration": acceleration, "version": version, **counts, "complete": True, "error": ""}


async def fill(url: str, state: Path, *, nodes: int, volumes_count: int, tasks_count: int, seed: int, idle: bool = False) -> Fleet:
    """A region with nodes, volumes that are all active there (or `idle`), tasks that mount them, and the events that led to it."""
    chosen = settings.load({"control_database": url, "control_state": str(state), "control_master_key": MASTER_KEY}, {})
    database, clock = Database(url, patient=True), Clock()
    try:
        async with database.writing() as session:
            books = _Books(session, clock, Vault(open_master(chosen), clock), random.Random(seed))
            return await books.fill(nodes, volumes_count, tasks_count, idle=idle)
    finally:
        async with database.engine.connect() as connection:  # as autovacuum would have done by and by
            await (await connection.execution_options(isolation_level="AUTOCOMMIT")).execute(text("ANALYZE"))
        await database.close()


async def alive(url: str) -> int:
    """How many tasks have not ended."""
    database = Database(url)
    try:
        async with database.reading() as session:
            return len((await session.scalars(select(Task.id).where(Task.ended.is_(None)))).all())
    finally:
        await database.close()


async def outcomes(url: str) -> dict[str, Outcome]:
    """Of each acceleration, by id, with what its rows and its events say. A second listing that was asked for in time of need is none."""
    database = Database(url)
    try:
        async with database.reading() as session:
            rows = (await session.scalars(select(Acceleration))).all()
            versions = Counter(await session.scalars(select(Version.acceleration_id)))
            events = Counter((await session.execute(select(Event.object_id, Event.kind).where(Event.noun == "acceleration"))).tuples())
        once = ("start acceleration", "published", "pull complete")
        return {
            row.id: Outcome(row.state, versions[row.id] > 1 or row.numbered > 1 or any(events[row.id, kind] > 1 for kind in once)) for row in rows
        }
    finally:
        await database.close()


class _Books:
    """One transaction that fills everything."""

    def __init__(self, session: AsyncSession, clock: Clock, vault: Vault, chance: random.Random) -> None:
        self._session, self._clock, self._vault, self._chance = session, clock, vault, chance
        self._events: list[dict[str, Any]] = []
        self._owners = [f"team-{number:02}" for number in range(_OWNERS)]

    async def fill(self, nodes: int, volumes_count: int, tasks_count: int, *, idle: bool) -> Fleet:
        self._region = (await regions.create(self._session, self._clock, name=REGION, title="", title_zh="浙江一区")).id
        fleet = Fleet(await self._nodes(nodes), await self._readers())
        found = await self._volumes(volumes_count)
        if not idle:
            made = await self._accelerations(found, fleet.nodes)
            fleet.holdings = sum(len(seat.held) for seat in fleet.nodes)
            await self._tasks(fleet.nodes, made, tasks_count)
            fleet.tasks = tasks_count
        await self._session.execute(insert(Event), self._events)
        return fleet

    async def _nodes(self, count: int) -> list[Seat]:
        seats, rows, now = [], [], self._clock.now()
        for number in range(count):
            bearer = Bearer.new("hn", new_id(now))
            seats.append(Seat(bearer.id, bearer.text))
            rows.append(
                {
                    "id": bearer.id,
                    "name": f"gpu-{number:03}",
                    "region_id": self._region,
                    "labels": {"gpu": "H800", "rack": str(number // 8)},
                    "digest": bearer.digest,
                    "draining": False,
                    "joined": now,
                    "heard": now,
                    "version": "0.1.0",
                    "capacity_bytes": 1 << 43,
                    "used_bytes": 0,
                    "applied": 0,
                    "health": {"failed_directories": []},
                }
            )
            self._event("node", bearer.id, f"gpu-{number:03}", "", "node-joined")
        await self._session.execute(insert(Node), rows)
        return seats

    async def _readers(self) -> list[str]:
        """An administrator's token, and one of each of some users."""
        found = []
        for subject, role in [("admin", "admin"), *((owner, "user") for owner in self._owners)]:
            made = await tokens.create(self._session, self._clock, name="bench", subject=subject, role=role, scopes=["*"], lasts=_DAY)
            found.append(made[1])
        return found

    async def _volumes(self, count: int) -> list[Volume]:
        made = []
        for number in range(count):
            owner = self._owners[number % _OWNERS]
            said = volumes.Described(
                name=volume_name(number), provider="s3", region="us-east-1", endpoint="http://10.0.0.1:8333", addressing="path", bucket="models",
                directory=f"models/{number:04}", confirm_root=False, read_only=False, bandwidth=0, requests=0,
            )  # fmt: skip
            checked = volumes.Checked(said.origin(), Credentials("AKIAIOSFODNN7EXAMPLE", "secret" * 7), (), "replica")
            caller = Caller(owner, "user", ("*",), "", self._clock.now() + _DAY)
            made.append(await volumes.create(self._session, self._vault, self._clock, caller, said, checked))
            self._event("volume", made[-1].id, said.name, owner, "volume-created")
        return made

    async def _accelerations(self, of: Sequence[Volume], seats: Sequence[Seat]) -> dict[str, Volume]:
        """Each volume active, with one version, on the nodes that its placement names."""
        now = self._clock.now()
        candidates, by_id = [Candidate(seat.id, {}) for seat in seats], {seat.id: seat for seat in seats}
        made: dict[str, Volume] = {}
        rows, versions, holdings = [], [], []
        for number, volume in enumerate(of):
            identifier = new_id(now)
            made[identifier] = volume
            placement = {"kind": "number", "number": _HELD_BY, "labels": {}} if number % _ALL_HOLD else {"kind": "all", "number": 0, "labels": {}}
            rows.append(
                {
                    "id": identifier,
                    "volume_id": volume.id,
                    "region_id": self._region,
                    "owner": volume.owner,
                    "state": State.ACTIVE.value,
                    "condition": Condition.NONE.value,
                    "reason": {},
                    "selection": {"kind": "all", "include": [], "exclude": []},
                    "placement": placement,
                    "current": 1,
                    "pulling": None,
                    "numbered": 1,
                    "listing": 1,
                    "lister": None,
                    "lister_until": None,
                    "began": now,
                    "progressed": now,
                    "used": now,
                    "expire_seconds": 86_400,
                    "release_seconds": 15 * 86_400,
                    "keep_versions": 5,
                    "at_once": False,
                    "revision": 3,
                    "created": now,
                    "changed": now,
                }
            )
            digest = hashlib.sha256(identifier.encode()).hexdigest()
            counts = {"files": _FILES, "bytes": _BYTES}
            versions.append(
                {"acceleration_id": identifier, "number": 1, "label": "", "digest": digest, **counts, "skipped": 0, "pulled": True, "created": now}
            )
            for node in holders(Placement(**placement), identifier, candidates):  # type: ignore[arg-type]
                by_id[node].held.append(identifier)
                holdings.append(
                    {"acceleration_id": identifier, "node_id": node, "version": 1, **counts, "files_total": _FILES, "bytes_total": _BYTES,
                     "complete": True, "error": "", "told": now}
                )  # fmt: skip
            for kind in ("start acceleration", "published", "pull complete"):
                self._event("acceleration", identifier, f"{volume.name}@{REGION}", volume.owner, kind)
        await self._session.flush()
        for table, some in ((Acceleration, rows), (Version, versions), (Holding, holdings)):
            await self._session.execute(insert(table), some)
        return made

    async def _tasks(self, seats: Sequence[Seat], made: dict[str, Volume], count: int) -> None:
        """Each on a node, mounting something that the node holds; every fourth mounts two volumes."""
        now = self._clock.now()
        rows, mounts, uses = [], [], []
        for number in range(count):
            seat, identifier = seats[number % len(seats)], new_id(now)
            seat.tasks.append(identifier)
            chosen = self._chance.sample(seat.held, min(1 + (number % 4 == 0), len(seat.held)))
            owner = made[chosen[0]].owner
            rows.append(
                {
                    "id": identifier,
                    "name": f"job-{number:04}",
                    "region_id": self._region,
                    "node_id": seat.id,
                    "owner": owner,
                    "user_id": 1000,
                    "lease": 1,
                    "lasts_seconds": _LEASE_SECONDS,
                    "lease_until": now + timedelta(seconds=_LEASE_SECONDS),
                    "created": now,
                    "ended": None,
                    "end": "",
                    "because": {},
                }
            )
            for ordinal, acceleration in enumerate(chosen):
                mounts.append(
                    {"task_id": identifier, "ordinal": ordinal, "acceleration_id": acceleration, "volume": made[acceleration].name,
                     "path": f"/mnt/models-{ordinal}", "wanted": None, "follow": False, "version": None}
                )  # fmt: skip
                uses.append(
                    {"task_id": identifier, "ordinal": ordinal, "acceleration_id": acceleration, "holder": f"job-{number:04} ({owner})",
                     "version": 1, "follow": False, "lost": None}
                )  # fmt: skip
            self._event("task", identifier, f"job-{number:04}", owner, "task-started")
        for kind, some in ((Task, rows), (TaskMount, mounts), (Use, uses)):
            await self._session.execute(insert(kind), some)

    def _event(self, noun: str, identifier: str, name: str, owner: str, kind: str) -> None:
        now = self._clock.now()
        self._events.append(
            {"id": new_id(now), "at": now, "kind": kind, "noun": noun, "object_id": identifier, "object_name": name, "owner": owner,
             "who": owner or "admin", "why": "", "detail": {}}
        )  # fmt: skip
