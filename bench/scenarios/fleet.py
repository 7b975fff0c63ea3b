"""A control plane with a fleet: two hundred nodes that live their day, five thousand tasks, and people who look at lists.

Two replicas on PostgreSQL (which waits for the disk at each commit), the load and all of it on this machine. The load is open-loop:
what is due is due, and an answer's latency counts from when it was (`bench.service.load`). Nodes do what the real agent does: heartbeats,
the long poll, leases, and every minute once more what they hold.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass

from bench import machine
from bench.measure import Figure, at_most
from bench.place import Place
from bench.service import books
from bench.service.load import Load, Measured
from bench.service.replicas import Replicas, replicas
from headrace.testing.postgres import postgres

TITLE = "two replicas under 200 nodes, 1,000 volumes, 5,000 tasks, 20 list reads a second"
NODES = 200
VOLUMES = 1_000
TASKS = 5_000
READS_PER_SECOND = 20.0
SECONDS = 300
_REPLICAS = 2
# The first minute is not measured: connections are made, statements are prepared, and documents are asked for the first time.
_SETTLE_SECONDS = 60
_LISTS = ("volumes", "accelerations", "tasks", "nodes", "events")


@dataclass(frozen=True)
class Sample:
    """CPU-seconds so far."""

    replicas: float
    database: float


def run(place: Place) -> list[Figure]:
    count, seconds = place.plan.count, float(place.plan.count(SECONDS))
    with place.base("fleet") as base, postgres(synced=True) as server:
        url = server.create_database("fleet")
        with replicas(base, _REPLICAS, url) as control:
            began = time.monotonic()
            fleet = asyncio.run(
                books.fill(url, base / "state", nodes=count(NODES), volumes_count=count(VOLUMES), tasks_count=count(TASKS), seed=place.seed)
            )
            place.record.note(
                f"fleet: books filled in {time.monotonic() - began:.0f} s: {len(fleet.nodes)} nodes of one region hold {fleet.holdings} versions "
                f"of {count(VOLUMES)} accelerations (every 20th on all nodes, the others on three), {fleet.tasks} tasks"
            )

            def sample() -> Sample:
                return Sample(control.cpu_seconds(), machine.cpu(*machine.family(server.pid)).total)

            load = Load(fleet, [each.url for each in control.all], reads_per_second=READS_PER_SECOND, seed=place.seed)
            measured = asyncio.run(load.run(count(_SETTLE_SECONDS), seconds, sample))
            lost = fleet.tasks - asyncio.run(books.alive(url))
            complaints = [line for each in control.all for line in each.complaints()]
            place.record.note(
                f"fleet: load average {os.getloadavg()[0]:.1f} at the end; errors in the replicas' logs: {len(complaints)} {complaints[:1]}"
            )
            place.record.note(f"fleet: failed: {dict(measured.failed) or 'none'}")
            return _figures(measured, control, lost)


def _figures(measured: Measured, control: Replicas, lost: int) -> list[Figure]:
    def cores(part: str) -> tuple[float, ...]:
        return ((getattr(measured.ended, part) - getattr(measured.began, part)) / measured.seconds,)

    reads, beats = measured.latencies("read"), measured.latencies("heartbeat")
    figures = [
        Figure("list reads, 99th percentile, from when they were due", "ms", (_percentile(reads, 99),), at_most(100.0)),
        Figure("heartbeats, 99th percentile, from when they were due", "ms", (_percentile(beats, 99),), at_most(200.0)),
        Figure("CPU of both replicas", "cores", cores("replicas"), at_most(1.0)),
        Figure("requests that failed", "", (float(sum(measured.failed.values())),), at_most(0.0)),
        Figure("tasks whose lease ran out", "", (float(lost),), at_most(0.0)),
        Figure("list reads: their median", "ms", (_percentile(reads, 50),)),
        Figure("heartbeats: their median", "ms", (_percentile(beats, 50),)),
    ]
    for kind in _LISTS:
        some = sorted(one.seconds for one in measured.seen if one.what == f"read {kind}")
        figures.append(Figure(f"lists of {kind}, 99th percentile", "ms", (_percentile(some, 99),)))
    for what, name in (("leases", "renewals of leases"), ("progress", "what is held, told again"), ("desired", "what should be, after its wait")):
        some = measured.latencies(what)
        if some:
            figures.append(Figure(f"{name}, 99th percentile", "ms", (_percentile(some, 99),)))
    asked = len(measured.seen) / measured.seconds
    figures += [
        Figure("requests", "1/s", (asked,)),
        Figure("answered", "MB/s", (sum(one.bytes for one in measured.seen) / measured.seconds / 1e6,)),
        Figure("CPU of PostgreSQL", "cores", cores("database")),
        Figure("CPU of the load", "cores", (measured.cpu_seconds / measured.seconds,)),
        Figure("memory of a replica", "MiB", tuple(control.memory_mib())),
    ]
    return figures


def _percentile(seconds: list[float], share: int) -> float:
    """In milliseconds; nearest rank. NaN where there is nothing."""
    return 1e3 * seconds[max(0, -(-len(seconds) * share // 100) - 1)] if seconds else float("nan")
