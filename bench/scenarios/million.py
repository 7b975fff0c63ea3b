"""A million keys: how soon the mount answers after the last page of the listing, and what that takes.

The keys are served by an origin of the repository's own (`headrace.testing.origin`) in this process. "Received" is
counted from the moment the last page was asked for, so the time includes making and sending that page. Memory of the
build is what the node's anonymous and shared memory grows by while it lists; the look-up is the engine's own
(`engine/snapshot/examples/million.rs`), without the kernel.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.measure import Figure, at_most
from bench.objects import MIB
from bench.place import Place
from bench.seats import Route
from bench.systems.headrace import Headrace
from headrace.testing.origin import Origin, failing_origin
from headrace.testing.store import Body

TITLE = "a million keys"
KEYS = 1_000_000
IN_A_DIRECTORY = 1000
FIRST = "shard-00000/part-0000000.safetensors"
WAIT_SECONDS = 300.0


def run(place: Place) -> list[Figure]:
    keys = place.plan.count(KEYS)
    seconds: list[float] = []
    grown: list[float] = []
    with failing_origin("bench") as origin:
        bucket = origin.bucket("bench")
        body = Body(MIB, seed=1)
        for number in range(keys):
            bucket.put(f"m/shard-{number // IN_A_DIRECTORY:05}/part-{number:07}.safetensors", body, etag='"0123456789abcdef0123456789abcdef"')
        for _ in range(place.plan.repeats.long):
            with place.headrace(route=Route(origin.access)) as system:
                took, memory = _mount(system, origin)
                seconds.append(took)
                grown.append(memory)
    engine = [_engine(place.directory, keys) for _ in range(place.plan.repeats.short)]
    return [
        Figure("last page of the listing asked for → first stat through the mount", "s", tuple(seconds), at_most(1.0)),
        Figure("memory that the node grows by while it lists", "MiB", tuple(grown), at_most(200.0)),
        Figure("look-up of a name in the engine, 99th percentile", "µs", tuple(e["lookup_p99_us"] for e in engine), at_most(10.0)),
        Figure("last page → opened snapshot, engine alone", "s", tuple(e["ready_seconds"] for e in engine)),
        Figure("memory of the build, engine alone", "MiB", tuple(e["build_mib"] for e in engine), at_most(200.0)),
    ]


def _mount(system: Headrace, origin: Origin) -> tuple[float, float]:
    """Seconds from the last page to the first stat, and MiB of the node's memory at most, less those at the start."""
    with _watch_lists(origin) as last_list:
        process = system.start_mount("s3://bench/m")
        path = system.directory / FIRST
        least, most = float("inf"), 0.0
        until = time.monotonic() + WAIT_SECONDS
        while not os.path.exists(path):
            memory = _memory_mib(system.socket)
            least, most = min(least, memory or least), max(most, memory)
            if time.monotonic() > until:
                raise RuntimeError(f"no stat within {WAIT_SECONDS:g} s")
            time.sleep(0.002)
        took = time.monotonic() - last_list()
    if process.wait(60):
        raise RuntimeError("the mount command failed")
    return took, most - least


@contextmanager
def _watch_lists(origin: Origin) -> Iterator[Callable[[], float]]:
    """Gives a function that tells when the last page was asked for."""
    ended = threading.Event()
    seen: list[float] = [origin.counters.requests["list"], time.monotonic()]

    def watch() -> None:
        while not ended.wait(0.001):
            count = origin.counters.requests["list"]
            if count != seen[0]:
                seen[:] = [count, time.monotonic()]

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield lambda: seen[1]
    finally:
        ended.set()
        thread.join()


def _memory_mib(socket: Path) -> float:
    """Anonymous and shared memory of the node behind a socket; 0 while there is none."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"headrace.node\0" not in (process / "cmdline").read_bytes() or os.fsencode(socket) not in (process / "environ").read_bytes():
                continue
            fields = dict(line.split(":") for line in (process / "status").read_text().splitlines() if line.startswith("Rss"))
        except (OSError, ValueError):
            continue
        return (int(fields["RssAnon"].split()[0]) + int(fields["RssShmem"].split()[0])) / 1024
    return 0.0


def _engine(directory: Path, keys: int) -> dict[str, float]:
    command = ["cargo", "run", "--quiet", "--release", "-p", "headrace-snapshot", "--example", "million", "--", str(directory), str(keys)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))
