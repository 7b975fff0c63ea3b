"""The load of a fleet: what nodes do by themselves all day, and people who look, from one process on one event loop.

Open-loop: each request has a moment at which it is due, which does not move when an answer is late, and its latency counts from there. What a
node does on one thread is done here one after the other too, so what waits for a slow answer is late, and counted so. Nothing in answers is
parsed but what the next request needs.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.service.books import Fleet, Seat, held
from bench.service.wire import Answer, Connection, request

# As the agent has them (`headrace.node.agent`), but for the lease, which the goal renews every 30 seconds and the agent every 15.
HEARTBEAT_SECONDS = 10.0
LEASE_SECONDS = 30.0
TELL_AGAIN_SECONDS = 60.0
POLL_SECONDS = 25.0
_TOLD = {"version": "0.1.0", "capacity_bytes": 1 << 43, "used_bytes": 1 << 42, "applied": 1, "health": {"failed_directories": [], "pulls": 0}}
_VERSION = re.compile(rb'"version":(\d+)')
_NONE_GONE = b'{"gone":[]}'
_NEXT = re.compile(rb'"next":"([A-Za-z0-9_-]+)"')
LISTS = {
    "volumes": ("/v1/volumes", "/v1/volumes?provider=s3"),
    "accelerations": ("/v1/accelerations", "/v1/accelerations?region=zj-1&state=active"),
    "tasks": ("/v1/tasks?ended=false", "/v1/tasks?region=zj-1"),
    "nodes": ("/v1/nodes", "/v1/nodes?region=zj-1"),
    "events": ("/v1/events", "/v1/events?noun=acceleration"),
}


@dataclass(frozen=True)
class Seen:
    """An answer within the window: what was asked, when it was due in seconds of the window, and how long it took from there."""

    what: str
    due: float
    seconds: float
    bytes: int


@dataclass
class Measured:
    """What a run saw; `failed` counts answers that were none, or not those wanted."""

    seen: list[Seen] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    began: Any = None  # what the sampler told at the window's begin and end
    ended: Any = None
    cpu_seconds: float = 0.0  # of the load's own process
    seconds: float = 0.0

    def latencies(self, *kinds: str) -> list[float]:
        return sorted(one.seconds for one in self.seen if one.what.partition(" ")[0] in kinds)


class Load:
    """A fleet beside replicas; nodes and readers are spread over them."""

    def __init__(self, fleet: Fleet, urls: Sequence[str], *, reads_per_second: float, seed: int) -> None:
        self._fleet = fleet
        self._places = [(host, int(port)) for host, port in (url.removeprefix("http://").split(":") for url in urls)]
        self._rate = reads_per_second
        self._chance = random.Random(seed)
        self._measured = Measured()
        self._pools: list[list[Connection]] = [[] for _ in urls]
        self._cursors: dict[tuple[str, str], str] = {}

    async def run(self, settle_seconds: float, seconds: float, sample: Callable[[], Any]) -> Measured:
        """Runs until the window is over; it begins when the load has run for `settle_seconds`."""
        self._origin = time.monotonic() + settle_seconds
        self._window = seconds
        works = [work for number, seat in enumerate(self._fleet.nodes) for work in self._node(seat, number % len(self._places), settle_seconds)]
        works.append(self._read(settle_seconds))
        running = [asyncio.create_task(work) for work in works]
        await self._until(0)
        self._measured.began, cpu, began = sample(), time.process_time(), time.monotonic()
        await self._until(seconds)
        self._measured.ended, self._measured.seconds = sample(), time.monotonic() - began
        self._measured.cpu_seconds = time.process_time() - cpu
        await asyncio.sleep(1)  # for answers to what was due at the very end
        for task in running:
            task.cancel()
        for outcome in await asyncio.gather(*running, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome
        return self._measured

    def _node(self, seat: Seat, place: int, settle_seconds: float) -> list[Any]:
        """Its threads: one asks, one tells, one looks after tasks."""
        pieces = [seat.held[start : start + 500] for start in range(0, len(seat.held), 500)]
        progress = [json.dumps({"held": [held(one) for one in piece], "listing": []}).encode() for piece in pieces]
        leases = json.dumps({"held": [{"id": task, "lease": 1} for task in seat.tasks], "ended": []}).encode()
        beat = request("POST", "/v1/node/heartbeat", seat.token, json.dumps(_TOLD).encode())
        telling = Connection(*self._places[place])
        told = [request("POST", "/v1/node/progress", seat.token, body) for body in progress]
        beats = (HEARTBEAT_SECONDS, "heartbeat", [beat]), (TELL_AGAIN_SECONDS, "progress", told)
        tasks = (LEASE_SECONDS, "leases", [request("POST", "/v1/node/tasks", seat.token, leases)])
        return [
            self._ask_for_ever(seat, Connection(*self._places[place]), self._chance.uniform(0, settle_seconds)),
            self._periodic(telling, beats, settle_seconds),
            self._periodic(Connection(*self._places[place]), (tasks,), settle_seconds),
        ]

    async def _ask_for_ever(self, seat: Seat, connection: Connection, pause: float) -> None:
        """The long poll: the next question as soon as there is an answer."""
        known, wait = -1, 0.0
        await self._until(pause - (self._origin - time.monotonic()))
        while True:
            asked = time.monotonic() - self._origin
            path = f"/v1/node/desired?known={known}&wait={wait:g}"
            answer = await self._ask("desired", connection, request("GET", path, seat.token), asked, known)
            if answer is not None and (found := _VERSION.search(answer.body[:64])) is not None:
                known, wait = int(found[1]), POLL_SECONDS
            else:
                await asyncio.sleep(1)

    async def _periodic(self, connection: Connection, jobs: Sequence[tuple[float, str, list[bytes]]], settle_seconds: float) -> None:
        """What one thread does at its times, each job with a phase of its own."""
        due = [self._chance.uniform(0, every) - settle_seconds for every, _, _ in jobs]
        while True:
            number = min(range(len(jobs)), key=due.__getitem__)
            every, what, messages = jobs[number]
            await self._until(due[number])
            for message in messages:
                await self._ask(what, connection, message, due[number])
            due[number] += every

    async def _read(self, settle_seconds: float) -> None:
        """People who look: at random moments, so many a second."""
        due, running = -settle_seconds, set[asyncio.Task[None]]()
        while True:
            due += self._chance.expovariate(self._rate)
            await self._until(due)
            task = asyncio.create_task(self._look(due))
            running.add(task)
            task.add_done_callback(running.discard)

    async def _look(self, due: float) -> None:
        kind = self._chance.choice(list(LISTS))
        path, token = self._chance.choice(LISTS[kind]), self._chance.choice([self._fleet.readers[0], self._chance.choice(self._fleet.readers)])
        cursor = self._cursors.pop((path, token), "")
        shown = f"{path}{'&' if '?' in path else '?'}after={cursor}" if cursor and self._chance.random() < 0.5 else path
        place = self._chance.randrange(len(self._places))
        pool = self._pools[place]
        connection = pool.pop() if pool else Connection(*self._places[place])
        answer = await self._ask(f"read {kind}", connection, request("GET", shown, token), due)
        pool.append(connection)
        if answer is not None and (found := _NEXT.search(answer.body[-600:])) is not None:
            self._cursors[path, token] = found[1].decode()

    async def _ask(self, what: str, connection: Connection, message: bytes, due: float, known: int = 0) -> Answer | None:
        """The answer; None where it failed, which is counted. A long poll that waited is no latency, so the first one only is."""
        try:
            answer = await connection.ask(message)
        except OSError as error:
            self._measured.failed[f"{what}: {error}"] += 1
            return None
        now = time.monotonic() - self._origin
        if not 200 <= answer.status < 300 or (what == "leases" and answer.body != _NONE_GONE):
            self._measured.failed[f"{what}: {answer.status}"] += 1
            return None
        if 0 <= due < self._window and (what != "desired" or known < 0 or now - due > POLL_SECONDS):
            waited = POLL_SECONDS if what == "desired" and known >= 0 else 0.0
            self._measured.seen.append(Seen(what, due, now - due - waited, len(answer.body)))
        return answer

    async def _until(self, moment: float) -> None:
        left = self._origin + moment - time.monotonic()
        if left > 0:
            await asyncio.sleep(left)
